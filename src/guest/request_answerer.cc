// SPDX-License-Identifier: MIT
#include "guest/request_answerer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <span>
#include <utility>

#include "guest/free_block_walk.h"
#include "wire/little_endian.h"
#include "wire/page_bitmap.h"

namespace vballoon::sim {
namespace {

constexpr std::uint64_t kRecordBytes = 8;

}  // namespace

RequestAnswerer::RequestAnswerer(DriverQueue& queue, DmaBuffer buffer, TakeData take_data,
                                 PageAllocator& allocator, GuestKernel& kernel)
    : queue_(&queue),
      request_{buffer.address, buffer.bytes.first(kRequestBytes)},
      header_{buffer.address + kRequestBytes, buffer.bytes.subspan(kRequestBytes)},
      take_data_(std::move(take_data)),
      allocator_(allocator),
      kernel_(kernel) {
  assert(queue.size() >= kDescriptors);
}

bool RequestAnswerer::post() {
  const GuestBuffer buffer{request_.address, kRequestBytes};
  [[maybe_unused]] const bool added = queue_->add({}, std::span(&buffer, 1), kRequestToken);
  assert(added);
  posted_ = true;
  return queue_->publish();
}

// A request that is shorter is none, and its buffer is posted again.
void RequestAnswerer::take_used() {
  while (const auto used = queue_->take_used()) {
    if (used->token == kAnswerToken) {
      answer_out_ = false;
      continue;
    }
    posted_ = false;
    if (used->written != kRequestBytes) continue;
    asked_ = read_request(request_.bytes.first<kRequestBytes>());
    next_order_ = kMaxOrder + 1;
  }
}

RequestAnswerer::Progress RequestAnswerer::step() {
  Progress progress;
  for (;;) {
    do {
      take_used();
    } while (queue_->enable_interrupts());
    if (answer_out_) return {progress.kick, true};
    if (asked_) send_answer();
    if (!asked_ && !answer_out_) {
      if (!posted_) progress.kick = post() || progress.kick;
      return progress;
    }
    progress.kick = queue_->publish() || progress.kick;
  }
}

// The next one, unless all has been said. What this guest does not know is not answered.
void RequestAnswerer::send_answer() {
  switch (static_cast<RequestCommand>(asked_->command)) {
    case RequestCommand::kDropCache:
      if (next_order_ != 0) {
        next_order_ = 0;
        kernel_.drop_caches(static_cast<CacheKinds>(asked_->param & 3));
        send(RequestCommand::kDropCache, 0, true);
        return;
      }
      break;
    case RequestCommand::kUnusedPages:
      while (next_order_ != 0) {
        const unsigned order = --next_order_;
        const std::uint32_t bytes = write_records(order);
        // The last one is sent even if it says nothing: the host waits for it.
        if (bytes == 0 && order != 0) continue;
        send(RequestCommand::kUnusedPages, bytes, order == 0);
        return;
      }
      break;
  }
  asked_.reset();
}

void RequestAnswerer::send(RequestCommand command, std::uint32_t data_bytes, bool last) {
  write_answer_header(header_.bytes.first<kAnswerHeaderBytes>(),
                      {.command = static_cast<std::uint8_t>(command),
                       .last = last,
                       .id = static_cast<std::uint16_t>(asked_->param),
                       .data_bytes = data_bytes});
  const std::array message{GuestBuffer{header_.address, kAnswerHeaderBytes},
                           GuestBuffer{data_.address, data_bytes}};
  [[maybe_unused]] const bool added =
      queue_->add(std::span(message).first(data_bytes == 0 ? 1 : 2), {}, kAnswerToken);
  assert(added);
  answer_out_ = true;
}

// Takes a larger buffer if so many records need one; whether it got one.
bool RequestAnswerer::grow_for(std::uint64_t records) {
  const std::uint64_t bytes = std::max<std::uint64_t>(records * kRecordBytes, kBitmapDataBytes);
  if (bytes <= data_.bytes.size()) return false;
  const auto taken = take_data_(std::bit_ceil(bytes));
  if (taken) data_ = *taken;
  return taken.has_value();
}

// One for each free block of the order; those for which there is no room are not named.
std::uint32_t RequestAnswerer::write_records(unsigned order) {
  // A larger buffer changes what is free, so that has to be looked at again.
  while (grow_for(allocator_.free_blocks_by_order()[order])) {
  }
  std::size_t at = 0;
  FreeBlockWalk walk(allocator_, order);
  for (auto block = walk.next(); block && data_.bytes.size() - at >= kRecordBytes;
       block = walk.next()) {
    store_le(data_.bytes.data() + at, block_record(block->first, block->order));
    at += kRecordBytes;
  }
  return static_cast<std::uint32_t>(at);
}

// An answer that was lost is sent again: what it named is looked at anew. A request that the device
// may have written is lost, and asked for again.
void RequestAnswerer::queue_was_reset() {
  take_used();
  posted_ = false;
  if (std::exchange(answer_out_, false)) ++next_order_;
}

}  // namespace vballoon::sim
