// SPDX-License-Identifier: MIT
#include "guest/control_answerer.h"

#include <cassert>
#include <span>
#include <utility>

#include "guest/free_block_walk.h"

namespace vballoon::sim {

ControlAnswerer::ControlAnswerer(DriverQueue& control, DriverQueue& pages, DmaBuffer buffer,
                                 PageAllocator& allocator, std::function<void()> kick_pages)
    : control_(&control),
      pages_(nullptr),
      buffer_(buffer),
      allocator_(allocator),
      kick_pages_(std::move(kick_pages)) {
  assert(control.size() >= kDescriptors);
  use_pages(pages);
}

void ControlAnswerer::use_pages(DriverQueue& queue) {
  pages_ = &queue;
  pages_->disable_interrupts();  // nobody waits for its answers
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
    started_ = message.command == static_cast<std::uint32_t>(ControlCommand::kStart);
  }
}

bool ControlAnswerer::step() {
  do {
    take_commands();
  } while (control_->enable_interrupts());
  // Before the blocks, so that the host can say STOP meanwhile; here it is too late then.
  post_command(false);
  bool kick = control_->publish();
  if (!std::exchange(started_, false)) return kick;
  name_free_blocks();
  say_stop();
  post_command(true);
  return control_->publish() || kick;
}

void ControlAnswerer::say_stop() {
  if (out_[kStopToken]) return;
  write_control(buffer_.bytes.subspan(kStopToken * kControlBytes).first<kControlBytes>(),
                ControlCommand::kStop);
  const GuestBuffer buffer{address_of(kStopToken), kControlBytes};
  out_[kStopToken] = control_->add(std::span(&buffer, 1), {}, kStopToken);
}

void ControlAnswerer::name_free_blocks() {
  for (unsigned order = kMaxOrder + 1; order-- > 0;) {
    visit_free_blocks(allocator_, order, [this](const Block& block) { name(block); });
  }
}

void ControlAnswerer::name(const Block& block) {
  const PageRange pages = block.pages();
  const GuestBuffer buffer{pages.first << kPageShift, static_cast<std::uint32_t>(pages.bytes())};
  bool added = pages_->add({}, std::span(&buffer, 1), 0);
  while (pages_->take_used()) {
  }
  if (!added) added = pages_->add({}, std::span(&buffer, 1), 0);
  if (!added) {
    ++skipped_blocks_;
  } else if (pages_->publish()) {
    kick_pages_();
  }
}

void ControlAnswerer::control_was_reset() {
  take_commands();
  out_ = {};
}

}  // namespace vballoon::sim
