// SPDX-License-Identifier: MIT
#include "guest/page_reporter.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <utility>

#include "wire/chunk.h"

namespace vballoon::sim {
namespace {

// As many page numbers as the data buffer of a bitmap message holds.
constexpr std::uint64_t kMaxNumbers = kBitmapDataBytes / kPfnEntryBytes;

// A queue that is empty has room for a message: one descriptor, two of a bitmap's, which is not
// spoken over a ring of one.
void add_readable(DriverQueue& queue, std::span<const GuestBuffer> buffers, std::uint64_t token) {
  [[maybe_unused]] const bool added = queue.add(buffers, {}, token);
  assert(added);
}

}  // namespace

// The buffer is the driver's again by now: an operation begins when the last message is answered.
void PfnReporter::add(Block block) {
  [[maybe_unused]] const bool fits = encoder_.append(block.first);
  assert(fits);
  if (!wide_) return;
  [[maybe_unused]] const bool fits_whole = encoder_.append(0);
  assert(fits_whole);
}

bool PfnReporter::post(DriverQueue& queue, std::uint64_t token) {
  if (!std::exchange(again_, false)) {
    sent_bytes_ = encoder_.bytes();
    encoder_.clear();
  }
  if (sent_bytes_ == 0) return false;
  add_readable(queue,
               std::array{GuestBuffer{buffer_.address, static_cast<std::uint32_t>(sent_bytes_)}},
               token);
  return true;
}

BitmapReporter::BitmapReporter(DmaBuffer buffer, std::uint64_t pages,
                               std::uint64_t pfn_threshold_pages)
    : buffer_(buffer),
      pfn_threshold_pages_(std::min(pfn_threshold_pages, kMaxNumbers)),
      pages_(pages) {}

void BitmapReporter::add(Block block) {
  pages_.add(block.first);
  ++count_;
  lowest_ = std::min(lowest_, block.first);
  highest_ = std::max(highest_, block.first);
}

bool BitmapReporter::post(DriverQueue& queue, std::uint64_t token) {
  if (!std::exchange(again_, false) && !write_message()) return false;
  add_readable(queue,
               std::array{GuestBuffer{buffer_.address, kBitmapHeaderBytes},
                          GuestBuffer{buffer_.address + kBitmapHeaderBytes, data_bytes_}},
               token);
  return true;
}

// False when there is nothing left to say.
bool BitmapReporter::write_message() {
  const auto data = buffer_.bytes.subspan(kBitmapHeaderBytes, kBitmapDataBytes);
  if (count_ != 0 && count_ <= pfn_threshold_pages_) {
    write_header(BitmapCommand::kPfnArray, write_page_numbers(data));
    count_ = 0;
    return true;
  }
  const std::size_t bytes = write_records(data);
  if (bytes != 0) write_header(BitmapCommand::kRecords, bytes);
  return bytes != 0;
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

// Goes on in the window in progress, or else in the next one that has pages. Windows follow one
// another from the first word of the lowest page on. 0 when there is none.
std::size_t BitmapReporter::write_records(std::span<std::byte> data) {
  for (;;) {
    if (!encoder_) {
      if (lowest_ > highest_) return 0;
      window_ = lowest_ / 64 * 64;
      window_end_ = std::min(window_ + kBitmapWindowPages, highest_ + 1);
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
    return 0;
  }
}

void BitmapReporter::write_header(BitmapCommand command, std::size_t data_bytes) {
  data_bytes_ = static_cast<std::uint32_t>(data_bytes);
  write_bitmap_header(buffer_.bytes.first<kBitmapHeaderBytes>(), command, data_bytes_);
}

void ChunkReporter::add_range(PageRange pages) {
  pages_.add(pages);
  lowest_ = std::min(lowest_, pages.first);
  highest_ = std::max(highest_, pages.end() - 1);
}

bool ChunkReporter::post(DriverQueue& queue, std::uint64_t token) {
  sent_.clear();
  first_token_ = token;
  while (lowest_ <= highest_) {
    const PageRange run = pages_.next_run(lowest_, highest_ + 1);
    if (run.count == 0) break;
    const GuestBuffer chunk = first_chunk(run);
    if (!queue.add({}, std::array{chunk}, token + sent_.size())) {
      lowest_ = run.first;
      return true;
    }
    const PageRange named{run.first, chunk.length >> kPageShift};
    pages_.remove(named);
    sent_.push_back(named);
    lowest_ = named.end();
  }
  lowest_ = UINT64_MAX;
  highest_ = 0;
  return !sent_.empty();
}

}  // namespace vballoon::sim
