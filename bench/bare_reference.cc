// SPDX-License-Identifier: MIT
// How fast is the main job with nothing around it? The system calls of each row of `vballoon
// compare` on an idle guest: two threads, two eventfds, one message outstanding. No library, no
// rings, no formats, no checks: what the product is measured against.
#include <sys/eventfd.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>

namespace {

using u64 = std::uint64_t;
constexpr u64 kPage = 4096;

// An idle guest's message is one run of pages, so that the vectored rows have nothing to vector.
constexpr struct Row {
  std::string_view name;
  u64 message_pages, call_pages;
} kRows[] = {{"pfn/per-page", 256, 1},
             {"pfn/vectored", 256, 256},
             {"bitmap/vectored", 262144, 262144},
             {"chunk/vectored", 1048575, 1048575}};

void check(bool good, const char* what) {
  if (!good) std::perror(what), std::exit(1);
}
void signal(int fd) { check(eventfd_write(fd, 1) == 0, "write"); }
void wait(int fd) {
  eventfd_t count = 0;
  check(eventfd_read(fd, &count) == 0, "read");
}

double milliseconds(const Row& row, u64 guest_pages, u64 pages) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* const map = mmap(nullptr, guest_pages * kPage, PROT_READ | PROT_WRITE, flags, -1, 0);
  check(map != MAP_FAILED, "mmap");
  char* const memory = static_cast<char*>(map);
  madvise(memory, guest_pages * kPage, MADV_NOHUGEPAGE);
  for (u64 page = 0; page < guest_pages; ++page) memory[page * kPage] = 1;

  const int kick = eventfd(0, 0), call = eventfd(0, 0);
  u64 first = 0, count = 0;  // the message; without pages it ends the device
  std::thread device([&] {
    for (wait(kick); count != 0; wait(kick)) {
      for (u64 done = 0; done < count; done += row.call_pages) {
        const u64 bytes = std::min(row.call_pages, count - done) * kPage;
        check(madvise(memory + (first + done) * kPage, bytes, MADV_DONTNEED) == 0, "madvise");
      }
      signal(call);
    }
  });
  const auto start = std::chrono::steady_clock::now();
  for (u64 left = pages; left != 0; left -= count) {  // from the top of the guest down
    count = std::min(row.message_pages, left);
    first = guest_pages - pages + left - count;
    signal(kick);
    wait(call);
  }
  const std::chrono::duration<double, std::milli> wall = std::chrono::steady_clock::now() - start;
  count = 0;
  signal(kick);
  device.join();
  munmap(map, guest_pages * kPage);
  return wall.count();
}

}  // namespace

int main(int argc, char** argv) {
  const u64 guest_mib = argc == 3 ? std::strtoull(argv[1], nullptr, 10) : 0;
  const u64 inflate_mib = argc == 3 ? std::strtoull(argv[2], nullptr, 10) : 0;
  if (inflate_mib == 0 || inflate_mib > guest_mib) {
    std::fputs("usage: bare_reference GUEST_MIB INFLATE_MIB\n", stderr);
    return 2;
  }
  for (const Row& row : kRows) {
    const double ms = milliseconds(row, guest_mib << 8, inflate_mib << 8);
    std::printf("%s %.1f ms\n", row.name.data(), ms);
  }
}
