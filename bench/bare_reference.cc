// SPDX-License-Identifier: MIT
// How fast is the main job with nothing around it? Two threads, two eventfds, a mailbox with one
// message outstanding, and the system calls of each row of `vballoon compare` on an idle guest. No
// library, no rings, no checks: what the product is measured against.
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using u64 = std::uint64_t;
constexpr u64 kPage = 4096, kWindow = 262144;  // pages of a bitmap, and of a chunk

void check(bool good, const char* what) {
  if (!good) std::perror(what), std::exit(1);
}
void signal(int fd) { check(eventfd_write(fd, 1) == 0, "write"); }
void wait(int fd) {
  eventfd_t count = 0;
  check(eventfd_read(fd, &count) == 0, "read");
}
void discard(char* memory, u64 first, u64 count) {
  check(madvise(memory + first * kPage, count * kPage, MADV_DONTNEED) == 0, "madvise");
}

// One message: page numbers, or the words of a bitmap, or a chunk.
struct Mailbox {
  std::vector<std::uint32_t> pfns;
  std::vector<u64> words;
  u64 first = 0, count = 0;
  bool stop = false;
};

// Runs of pages, merged; an idle guest's message is one run, so that there is nothing to vector.
void serve(Mailbox& box, char* memory, bool per_page) {
  u64 first = box.first, count = box.count;
  const auto add = [&](u64 page, u64 pages) {
    if (count != 0 && (per_page || first + count != page)) discard(memory, first, count), count = 0;
    if (count == 0) first = page;
    count += pages;
  };
  std::sort(box.pfns.begin(), box.pfns.end());
  for (const u64 pfn : box.pfns) add(pfn, 1);
  for (u64 at = box.first; u64 bits : box.words) {
    if (~bits == 0) add(at, 64), bits = 0;
    for (; bits != 0; bits &= bits - 1) add(at + static_cast<u64>(std::countr_zero(bits)), 1);
    at += 64;
  }
  discard(memory, first, count);
}

double milliseconds(std::string_view row, u64 guest_pages, u64 pages) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* const map = mmap(nullptr, guest_pages * kPage, PROT_READ | PROT_WRITE, flags, -1, 0);
  check(map != MAP_FAILED, "mmap");
  char* const memory = static_cast<char*>(map);
  madvise(memory, guest_pages * kPage, MADV_NOHUGEPAGE);
  for (u64 page = 0; page < guest_pages; ++page) memory[page * kPage] = 1;

  Mailbox box;
  const int kick = eventfd(0, 0), call = eventfd(0, 0);
  std::thread device([&] {
    for (wait(kick); !box.stop; wait(kick)) serve(box, memory, row == "pfn/per-page"), signal(call);
  });

  const auto start = std::chrono::steady_clock::now();
  const u64 step = row.starts_with("pfn") ? 256 : kWindow;
  for (u64 end = guest_pages, left = pages; left != 0;) {  // from the top of the guest down
    const u64 count = std::min(step, left);
    left -= count, end -= count;
    if (row.starts_with("pfn")) {
      box.pfns.clear();
      for (u64 i = count; i-- > 0;) box.pfns.push_back(static_cast<std::uint32_t>(end + i));
    } else if (row.starts_with("bitmap")) {
      box.first = end;
      box.words.assign((count + 63) / 64, 0);
      for (u64 i = 0; i < count; ++i) box.words[i / 64] |= u64{1} << i % 64;
    } else {
      box.first = end, box.count = count;
    }
    signal(kick), wait(call);
  }
  const std::chrono::duration<double, std::milli> wall = std::chrono::steady_clock::now() - start;
  box.stop = true;
  signal(kick);
  device.join();
  munmap(map, guest_pages * kPage);
  return wall.count();
}

}  // namespace

int main(int argc, char** argv) {
  const u64 guest_mib = argc > 2 ? std::strtoull(argv[1], nullptr, 10) : 0;
  const u64 inflate_mib = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0;
  if (inflate_mib == 0 || inflate_mib > guest_mib) {
    std::fputs("usage: bare_reference GUEST_MIB INFLATE_MIB [ROW...]\n", stderr);
    return 2;
  }
  std::vector<const char*> rows{"pfn/per-page", "pfn/vectored", "bitmap/vectored",
                                "chunk/vectored"};
  if (argc > 3) rows.assign(argv + 3, argv + argc);
  for (const char* row : rows) {
    std::printf("%s %.1f ms\n", row, milliseconds(row, guest_mib << 8, inflate_mib << 8));
  }
}
