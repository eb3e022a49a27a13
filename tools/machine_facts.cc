// SPDX-License-Identifier: MIT
#include "machine_facts.h"

#include <fmt/format.h>
#include <sys/utsname.h>

#include <fstream>
#include <sstream>
#include <string_view>
#include <thread>

#include "sizes.h"
#include "vballoon/discarder.h"

namespace vballoon::tool {
namespace {

// The number behind "Name:" in a file of such lines, or 0.
std::uint64_t number_of(const char* path, std::string_view name) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    if (!line.starts_with(name)) continue;
    std::istringstream rest(line.substr(name.size() + 1));
    std::uint64_t value = 0;
    rest >> value;
    return value;
  }
  return 0;
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (!line.starts_with("model name")) continue;
    const std::size_t colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

// The word in brackets of "always [madvise] never".
std::string transparent_huge_pages() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string line;
  std::getline(file, line);
  const std::size_t open = line.find('[');
  const std::size_t close = line.find(']');
  if (open == std::string::npos || close == std::string::npos) return "none";
  return line.substr(open + 1, close - open - 1);
}

}  // namespace

MachineFacts read_machine_facts() {
  MachineFacts facts;
  utsname names{};
  ::uname(&names);
  facts.kernel = fmt::format("{} {}", names.sysname, names.release);
  facts.processor = processor_name();
  facts.processors = std::thread::hardware_concurrency();
  constexpr const char* kMeminfo = "/proc/meminfo";
  facts.memory_bytes = number_of(kMeminfo, "MemTotal") * kKiB;
  facts.available_bytes = number_of(kMeminfo, "MemAvailable") * kKiB;
  facts.transparent_huge_pages = transparent_huge_pages();
  facts.huge_pages_free = number_of(kMeminfo, "HugePages_Free");
  facts.huge_pages_total = number_of(kMeminfo, "HugePages_Total");
  facts.vectored_discard = vectored_discard_available();
  facts.healing = healing_available();
  return facts;
}

}  // namespace vballoon::tool
