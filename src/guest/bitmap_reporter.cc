// SPDX-License-Identifier: MIT
#include "guest/bitmap_reporter.h"

#include <algorithm>
#include <cassert>

#include "wire/pfn_array.h"

namespace vballoon::sim {
namespace {

// As many page numbers as the data buffer of a bitmap message holds.
constexpr std::uint64_t kMaxNumbers = kBitmapDataBytes / kPfnEntryBytes;

}  // namespace

BitmapReporter::BitmapReporter(DmaBuffer buffer, std::uint64_t pages,
                               std::uint64_t pfn_threshold_pages)
    : MessageReporter(buffer, kBitmapHeaderBytes),
      pfn_threshold_pages_(std::min(pfn_threshold_pages, kMaxNumbers)),
      pages_(pages) {}

void BitmapReporter::add(PageRange pages) {
  pages_.add(pages);
  count_ += pages.count;
  lowest_ = std::min(lowest_, pages.first);
  highest_ = std::max(highest_, pages.end() - 1);
}

std::size_t BitmapReporter::write_message() {
  const auto data = buffer().subspan(kBitmapHeaderBytes, kBitmapDataBytes);
  auto command = BitmapCommand::kRecords;
  std::size_t bytes = 0;
  if (count_ != 0 && count_ <= pfn_threshold_pages_) {
    command = BitmapCommand::kPfnArray;
    bytes = write_page_numbers(data);
    count_ = 0;
  } else {
    bytes = write_records(data);
  }
  if (bytes == 0) return 0;
  write_bitmap_header(buffer().first<kBitmapHeaderBytes>(), command,
                      static_cast<std::uint32_t>(bytes));
  return kBitmapHeaderBytes + bytes;
}

std::size_t BitmapReporter::write_page_numbers(std::span<std::byte> data) {
  PfnArrayEncoder encoder(data);
  for (PageRange run = pages_.next_run(lowest_, highest_ + 1); run.count != 0;
       run = pages_.next_run(run.end(), highest_ + 1)) {
    for (Pfn page = run.first; page < run.end(); ++page) {
      [[maybe_unused]] const bool fits = encoder.append(page);
      assert(fits);
    }
  }
  pages_.remove({lowest_, highest_ + 1 - lowest_});
  lowest_ = UINT64_MAX;
  highest_ = 0;
  return encoder.bytes();
}

// Goes on in the window in progress, or else in the next one that has pages; 0 when there is none.
// Windows follow one another from the first word of the operation's lowest page on.
std::size_t BitmapReporter::write_records(std::span<std::byte> data) {
  for (;;) {
    if (!encoder_) {
      if (lowest_ > highest_) {
        first_window_.reset();
        return 0;
      }
      window_ = lowest_ / 64 * 64;
      if (!first_window_) first_window_ = window_;
      const Pfn windows = (window_ - *first_window_) / kBitmapWindowPages + 1;
      window_end_ = std::min(*first_window_ + windows * kBitmapWindowPages, highest_ + 1);
      const auto words = pages_.words().subspan(window_ / 64, (window_end_ - window_ + 63) / 64);
      encoder_.emplace(words, window_);
    }
    const std::size_t bytes = encoder_->encode(data);
    if (bytes != 0) return bytes;
    encoder_.reset();
    pages_.remove({window_, window_end_ - window_});
    const PageRange next = pages_.next_run(window_end_, highest_ + 1);
    lowest_ = next.first;
    if (next.count != 0) continue;
    lowest_ = UINT64_MAX;
    highest_ = 0;
    count_ = 0;
    first_window_.reset();
    return 0;
  }
}

}  // namespace vballoon::sim
