// SPDX-License-Identifier: MIT
#include "guest/control_answerer.h"

#include <cassert>
#include <span>
#include <utility>

namespace vballoon::sim {

ControlAnswerer::ControlAnswerer(DriverQueue& control, DriverQueue& pages, DmaBuffer buffer,
                                 PageAllocator& allocator, bool skips,
                                 std::function<void()> kick_pages)
    : control_(&control),
      pages_(nullptr),
      buffer_(buffer),
      allocator_(allocator),
      skips_(skips),
      kick_pages_(std::move(kick_pages)) {
  assert(control.size() >= kDescriptors);
  use_pages(pages);
}

void ControlAnswerer::use_pages(DriverQueue& queue) {
  pages_ = &queue;
  pages_->disable_interrupts();  // until somebody waits for its answers
}

bool ControlAnswerer::post() {
  post_command(false);
  (void)control_->enable_interrupts();
  return control_->publish();
}

// A buffer for commands if the device has none, or a second one.
void ControlAnswerer::post_command(bool also_second) {
  for (std::uint64_t token = 0; token < kCommandsIn; ++token) {
    if (out_[token]) {
      if (!also_second) return;
      continue;
    }
    const GuestBuffer buffer{address_of(token), kControlBytes};
    out_[token] = control_->add({}, std::span(&buffer, 1), token);
    return;
  }
}

void ControlAnswerer::take_commands() {
  while (const auto used = control_->take_used()) {
    out_[used->token] = false;
    if (used->token == kStopToken || used->written != kControlBytes) continue;
    const auto bytes = buffer_.bytes.subspan(used->token * kControlBytes).first<kControlBytes>();
    const ControlMessage message = read_control(bytes);
    if (message.of_class != kFreePageClass) continue;
    walk_.reset();
    if (message.command != static_cast<std::uint32_t>(ControlCommand::kStart)) continue;
    order_ = kMaxOrder;
    walk_.emplace(allocator_, order_);
  }
}

ControlAnswerer::Progress ControlAnswerer::step() {
  do {
    take_commands();
  } while (control_->enable_interrupts());
  // Before the blocks, so that the host can say STOP meanwhile.
  post_command(false);
  const bool kick = control_->publish();
  if (!walk_) return {.kick = kick};
  if (!name_free_blocks()) return {.kick = kick, .waits = true};
  say_stop();
  post_command(true);
  return {.kick = control_->publish() || kick};
}

void ControlAnswerer::say_stop() {
  if (out_[kStopToken]) return;
  write_control(buffer_.bytes.subspan(kStopToken * kControlBytes).first<kControlBytes>(),
                ControlCommand::kStop);
  const GuestBuffer buffer{address_of(kStopToken), kControlBytes};
  out_[kStopToken] = control_->add(std::span(&buffer, 1), {}, kStopToken);
}

// False when there are more and the ring is full.
bool ControlAnswerer::name_free_blocks() {
  while (walk_) {
    const bool room = has_room();
    if (!room && !skips_) return false;
    if (const auto block = walk_->next()) {
      if (room) {
        name(*block);
      } else {
        ++skipped_blocks_;
      }
    } else if (order_ != 0) {
      walk_.emplace(allocator_, --order_);
    } else {
      walk_.reset();
    }
  }
  return true;
}

// If not, and somebody waits for it, an interrupt will come.
bool ControlAnswerer::has_room() {
  do {
    while (pages_->take_used()) {
    }
    if (pages_->free_descriptors() != 0) return true;
  } while (!skips_ && pages_->enable_interrupts());
  return false;
}

void ControlAnswerer::name(const Block& block) {
  const PageRange pages = block.pages();
  const GuestBuffer buffer{pages.first << kPageShift, static_cast<std::uint32_t>(pages.bytes())};
  [[maybe_unused]] const bool added = pages_->add({}, std::span(&buffer, 1), 0);
  assert(added);
  if (pages_->publish()) kick_pages_();
}

void ControlAnswerer::control_was_reset() {
  take_commands();
  out_ = {};
}

}  // namespace vballoon::sim
