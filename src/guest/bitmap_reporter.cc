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

BitmapReporter::BitmapReporter(DmaBuffer buffer, std::uint64_t pfn_threshold_pages)
    : MessageReporter(buffer, kBitmapHeaderBytes),
      pfn_threshold_pages_(std::min(pfn_threshold_pages, kMaxNumbers)) {}

void BitmapReporter::add(PageRange pages) {
  pages_.add(pages);
  count_ += pages.count;
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
  for (PageRange run = pages_.first_run(); run.count != 0; run = pages_.first_run()) {
    for (Pfn page = run.first; page < run.end(); ++page) {
      [[maybe_unused]] const bool fits = encoder.append(page);
      assert(fits);
    }
    pages_.remove_first(run);
  }
  return encoder.bytes();
}

// Goes on in the window in progress, or else in the next one that has pages; 0 when there is none.
std::size_t BitmapReporter::write_records(std::span<std::byte> data) {
  for (;;) {
    if (!encoder_) {
      window_ = pages_.first_window(kBitmapWindowPages);
      if (window_.count == 0) {
        count_ = 0;
        return 0;
      }
      encoder_.emplace(pages_.words_of(window_), window_.first);
    }
    if (const std::size_t bytes = encoder_->encode(data)) return bytes;
    encoder_.reset();
    pages_.remove_first(window_);
  }
}

}  // namespace vballoon::sim
