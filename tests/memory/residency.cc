// SPDX-License-Identifier: MIT
#include "memory/residency.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

namespace vballoon::testing {
namespace {

constexpr std::size_t kMincorePageBytes = 4096;

// The number of a line "Name:   123 kB"; 0 when the line is another one.
std::uint64_t number_of(const std::string& line, std::string_view name) {
  if (line.rfind(std::string(name) + ":", 0) != 0) return 0;
  return std::stoull(line.substr(name.size() + 1));
}

}  // namespace

std::uint64_t resident_bytes(const std::byte* address, std::size_t length) {
  std::vector<unsigned char> pages(length / kMincorePageBytes);
  if (::mincore(const_cast<std::byte*>(address), length, pages.data()) != 0) return 0;
  const auto resident =
      std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return (page & 1) != 0; });
  return static_cast<std::uint64_t>(resident) * kMincorePageBytes;
}

std::uint64_t file_bytes(int fd) {
  struct stat status = {};
  if (::fstat(fd, &status) != 0) return 0;
  return static_cast<std::uint64_t>(status.st_blocks) * 512;
}

std::uint64_t smaps_bytes(const std::byte* address, std::string_view field) {
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  std::ifstream smaps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(smaps, line);) {
    unsigned long begin = 0;
    unsigned long end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) {
      inside = begin <= wanted && wanted < end;
    } else if (const std::uint64_t kib = number_of(line, field); inside && kib != 0) {
      return kib * 1024;
    }
  }
  return 0;
}

std::uint64_t free_huge_pages() {
  std::uint64_t free = 0;
  std::uint64_t set_aside = 0;
  std::ifstream meminfo("/proc/meminfo");
  for (std::string line; std::getline(meminfo, line);) {
    free += number_of(line, "HugePages_Free");
    set_aside += number_of(line, "HugePages_Rsvd");
  }
  return free - set_aside;
}

std::string selected_word(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  while (file >> word) {
    if (word.front() == '[') return word.substr(1, word.size() - 2);
  }
  return "never";
}

std::size_t open_file_count() {
  const std::filesystem::directory_iterator files("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(files), end(files)));
}

}  // namespace vballoon::testing
