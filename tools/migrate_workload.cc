// SPDX-License-Identifier: MIT
#include "migrate_workload.h"

#include <algorithm>
#include <utility>

namespace vballoon::tool {
namespace {

// Memory of processes and files is used in pieces of so many pages.
constexpr std::uint32_t kPiece = 32;
// What fill() takes in one turn.
constexpr std::uint64_t kTurn = std::uint64_t{4} * kPiece;
constexpr sim::FileId kFile = 1;

}  // namespace

void write_page(const GuestMemory& memory, Pfn pfn, std::uint64_t value) {
  const std::uint64_t word = value * 0x9E3779B97F4A7C15U | 0x0101010101010101U;
  auto* const page = reinterpret_cast<std::uint64_t*>(memory.host(pfn << kPageShift, kPageSize));
  std::fill_n(page, kPageSize / sizeof word, word);
}

GuestWorkload::GuestWorkload(std::shared_ptr<const GuestMemory> memory,
                             sim::PageAllocator& allocator, sim::GuestKernel& kernel,
                             std::uint64_t seed)
    : memory_(std::move(memory)),
      allocator_(allocator),
      kernel_(kernel),
      random_(seed),
      process_(kernel.start_process()) {}

// Every other piece of the process is there, so that it has holes to fill and as many to make.
bool GuestWorkload::fill(std::uint64_t pages) {
  for (std::uint64_t left = pages; left >= kTurn; left -= kTurn) {
    const bool dirty = file_pieces_ % 16 < 2;
    for (int half = 0; half < 2; ++half, ++file_pieces_) {
      const std::uint32_t first = file_pieces_ * kPiece;
      if (!(dirty ? kernel_.write_file(kFile, first, kPiece)
                  : kernel_.read_file(kFile, first, kPiece))) {
        return false;
      }
    }
    const auto piece = static_cast<std::uint32_t>(process_has_.size());
    if (!kernel_.touch(process_, piece * kPiece, kPiece)) return false;
    process_has_.insert(process_has_.end(), {true, false});
    for (std::uint32_t i = 0; i < kPiece; ++i) {
      const auto block = kernel_.allocate(0, sim::AllocationEffort::kFull);
      if (!block) return false;
      write_page(*memory_, block->first, next_value_++);
      written_.push_back(block->first);
    }
  }
  return !written_.empty();
}

std::uint32_t GuestWorkload::random_piece(std::uint32_t pieces) {
  return static_cast<std::uint32_t>(random_() % pieces);
}

// Most of the time somebody writes to memory that he has.
std::uint64_t GuestWorkload::work() {
  const std::uint64_t dice = random_() % 256;
  if (dice == 0) {
    kernel_.sync();
    return 0;
  }
  const std::uint64_t free_before = allocator_.free_pages();
  std::uint64_t written = 0;
  if (dice < 240) {
    written = rewrite();
  } else if (dice < 248) {
    get_or_free();
  } else {
    use_file(dice < 250);
  }
  const std::uint64_t free_after = allocator_.free_pages();
  return written + (free_before > free_after ? free_before - free_after : 0);
}

std::uint64_t GuestWorkload::rewrite() {
  write_page(*memory_, written_[random_() % written_.size()], next_value_++);
  return 1;
}

void GuestWorkload::get_or_free() {
  const std::uint32_t piece = random_piece(static_cast<std::uint32_t>(process_has_.size()));
  if (process_has_[piece]) {
    kernel_.unmap(process_, piece * kPiece, kPiece);
  } else {
    static_cast<void>(kernel_.touch(process_, piece * kPiece, kPiece));
  }
  process_has_[piece] = !process_has_[piece];
}

// Now and then behind what was there at first: the cache grows by an eighth.
void GuestWorkload::use_file(bool write) {
  const std::uint32_t first = random_piece(file_pieces_ + file_pieces_ / 8) * kPiece;
  static_cast<void>(write ? kernel_.write_file(kFile, first, kPiece)
                          : kernel_.read_file(kFile, first, kPiece));
}

}  // namespace vballoon::tool
