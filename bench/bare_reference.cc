// SPDX-License-Identifier: MIT
// How fast is the main job with nothing around it? Two threads, two eventfds, a mailbox with one
// message outstanding, and the system calls of the rows of `vballoon compare`. No library, no
// rings, no checks: what the product is measured against.
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace {

using u64 = std::uint64_t;
constexpr u64 kPage = 4096, kWindow = 262144, kPieces = 1024, kBusyBytes = 16 << 20;

u64 guest_bytes = 0, inflate_bytes = 0;
bool fragmented = false, busy_vcpu = false, thp = false;

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(1);
}
void signal(int fd) {
  if (eventfd_write(fd, 1) != 0) die("write");
}
void wait(int fd) {
  eventfd_t count;
  if (eventfd_read(fd, &count) != 0) die("read");
}
u64 parse_size(const std::string& text) {
  char* unit = nullptr;
  const u64 number = std::strtoull(text.c_str(), &unit, 10);
  return number << (*unit == 'G' ? 30 : *unit == 'M' ? 20 : *unit == 'K' ? 10 : 0);
}

struct Run {
  u64 first, count;  // pages
};
struct Mailbox {
  std::vector<std::uint32_t> pfns;
  u64 window = 0;  // the first page of the bitmap
  std::vector<u64> bitmap;
  std::vector<Run> chunks;
  bool stop = false;
};

// The message as sorted and merged runs.
void decode(Mailbox& box, std::vector<Run>& runs) {
  runs = box.chunks;
  const auto add = [&](u64 first, u64 count) {
    const bool joins = !runs.empty() && runs.back().first + runs.back().count == first;
    joins ? void(runs.back().count += count) : runs.push_back({first, count});
  };
  std::sort(box.pfns.begin(), box.pfns.end());
  for (const u64 pfn : box.pfns) add(pfn, 1);
  for (u64 first = box.window; u64 bits : box.bitmap) {
    if (~bits == 0) add(first, 64), bits = 0;
    for (; bits != 0; bits &= bits - 1) add(first + static_cast<u64>(std::countr_zero(bits)), 1);
    first += 64;
  }
}

void discard(char* memory, const std::vector<Run>& runs, const std::string& host) {
  static const int self = static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0));
  // The kernel cuts a call at 2 GiB, and large runs gain nothing by going together.
  if (host == "vectored" && runs.size() > 1 && runs.front().count < 512) {
    std::vector<iovec> pieces(runs.size());
    for (u64 i = 0; i < runs.size(); ++i) {
      pieces[i] = {memory + runs[i].first * kPage, runs[i].count * kPage};
    }
    for (u64 i = 0; i < pieces.size(); i += kPieces) {
      const u64 count = std::min(kPieces, pieces.size() - i);
      if (::syscall(SYS_process_madvise, self, &pieces[i], count, MADV_DONTNEED, 0) <= 0) {
        die("process_madvise");
      }
    }
    return;
  }
  for (const Run& run : runs) {
    const u64 step = host == "per-page" ? 1 : run.count;
    for (u64 page = 0; page < run.count; page += step) {
      if (::madvise(memory + (run.first + page) * kPage, step * kPage, MADV_DONTNEED) != 0) {
        die("madvise");
      }
    }
  }
}

double run_row(const std::string& format, const std::string& host) {
  void* const map = ::mmap(nullptr, guest_bytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) die("mmap");
  char* const memory = static_cast<char*>(map);
  if (thp) ::madvise(memory, guest_bytes, MADV_HUGEPAGE);
  for (u64 at = 0; at < guest_bytes; at += kPage) memory[at] = 1;

  // The top of the guest; every other page of it when fragmented.
  const u64 stride = fragmented ? 2 : 1, end = guest_bytes / kPage;
  const u64 begin = end - inflate_bytes / kPage * stride;
  Mailbox box;
  const int kick = ::eventfd(0, 0), call = ::eventfd(0, 0);
  std::thread device([&] {
    std::vector<Run> runs;
    for (wait(kick); !box.stop; wait(kick)) {
      decode(box, runs);
      discard(memory, runs, host);
      signal(call);
    }
  });
  std::atomic<bool> done{false};
  std::thread vcpu([&] {
    for (char value = 0; busy_vcpu && !done; ++value) {
      for (u64 at = 0; at < std::min(kBusyBytes, begin * kPage) && !done; at += 64) {
        *static_cast<volatile char*>(memory + at) = value;
      }
    }
  });

  const auto start = std::chrono::steady_clock::now();
  for (u64 page = begin; page < end;) {
    const u64 limit = format == "pfn" ? page + 256 * stride : page + kWindow;
    const u64 stop = std::min(limit, end);
    if (format == "pfn") {
      box.pfns.clear();
      for (; page < stop; page += stride) box.pfns.push_back(static_cast<std::uint32_t>(page));
    } else if (format == "bitmap") {
      box.window = page;
      box.bitmap.assign((stop - page + 63) / 64, 0);
      for (; page < stop; page += stride) {
        box.bitmap[(page - box.window) / 64] |= u64{1} << (page - box.window) % 64;
      }
    } else {
      box.chunks.clear();  // a ring of 256 descriptors, none longer than a window
      const u64 pages = fragmented ? 1 : kWindow;
      for (; page < end && box.chunks.size() < 256; page += pages * stride) {
        box.chunks.push_back({page, std::min(pages, end - page)});
      }
    }
    signal(kick);
    wait(call);
  }
  const std::chrono::duration<double, std::milli> wall = std::chrono::steady_clock::now() - start;

  done = box.stop = true;
  signal(kick);
  device.join();
  vcpu.join();
  ::close(kick);
  ::close(call);
  ::munmap(map, guest_bytes);
  return wall.count();
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> rows{"pfn/per-page", "pfn/merged", "pfn/vectored", "bitmap/vectored",
                                "chunk/vectored"};
  u64 repeat = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i], value = i + 1 < argc ? argv[i + 1] : "";
    if (flag == "--guest-memory") guest_bytes = parse_size(value), ++i;
    if (flag == "--inflate") inflate_bytes = parse_size(value), ++i;
    if (flag == "--row") rows = {value}, ++i;
    if (flag == "--repeat") repeat = parse_size(value), ++i;
    if (flag == "--thp") thp = value == "on", ++i;
    if (flag == "--fragmented") fragmented = true;
    if (flag == "--busy-vcpu") busy_vcpu = true;
  }
  if (inflate_bytes == 0 || inflate_bytes * (fragmented ? 2 : 1) > guest_bytes || repeat == 0) {
    std::fputs(
        "usage: bare_reference --guest-memory SIZE --inflate SIZE [--row FORMAT/HOST]\n"
        "         [--repeat N] [--fragmented] [--busy-vcpu] [--thp on]\n",
        stderr);
    return 2;
  }
  for (const std::string& row : rows) {
    const u64 slash = row.find('/');
    std::vector<double> walls;
    for (u64 i = 0; i < repeat; ++i) {
      walls.push_back(run_row(row.substr(0, slash), row.substr(slash + 1)));
      std::printf("%s %.1f\n", row.c_str(), walls.back());
    }
    std::sort(walls.begin(), walls.end());
    std::printf("%s median %.1f\n", row.c_str(), walls[walls.size() / 2]);
  }
}
