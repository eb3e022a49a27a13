// SPDX-License-Identifier: MIT
// Serving the queues over which the guest is asked: requests go out in buffers that the driver
// keeps posted, answers come back (wire/guest_request.h).
#include <array>
#include <utility>

#include "device/balloon_device_impl.h"
#include "wire/guest_request.h"

namespace vballoon {

void BalloonDevice::Impl::hold_request_buffer(Queue& queue, DescriptorChain chain) {
  const std::size_t wanted = queue.row->role == QueueRole::kControl ? kControlBytes : kRequestBytes;
  const bool fits = chain.writable_bytes() >= wanted && queue.held.size() < kMaxHeldBuffers;
  const std::lock_guard guard(state_lock);
  requests.buffer_posted();
  if (fits) {
    queue.held.push_back(std::move(chain));
  } else {
    count_locked(Errc::kBadRequestBuffer, 1);
  }
}

bool BalloonDevice::Impl::say_to_guest(Queue& queue, std::span<const std::byte> bytes) {
  // Nothing can be written to those that another device had taken.
  std::erase_if(queue.held,
                [](const DescriptorChain& chain) { return chain.writable_bytes() == 0; });
  while (!queue.held.empty()) {
    // The one taken last, so that its room in the queue's pool comes back.
    DescriptorChain chain = std::move(queue.held.back());
    queue.held.pop_back();
    if (const auto written = chain.write(bytes); !written) {
      count(written.error().code);
      continue;
    }
    chain.complete(static_cast<std::uint32_t>(bytes.size()));
    return true;
  }
  return false;
}

std::optional<BalloonDevice::Impl::Front> BalloonDevice::Impl::read_front(
    const DescriptorChain& chain) {
  Front bytes{};
  const auto read =
      chain.readable_bytes() < bytes.size() ? fail(Errc::kBadMessageHeader) : chain.read(0, bytes);
  if (read) return bytes;
  count(read.error().code);
  return std::nullopt;
}

// ---- request queue ------------------------------------------------------------------------------

void BalloonDevice::Impl::send_request(Queue& queue) {
  std::optional<GuestRequest> request;
  {
    const std::lock_guard guard(state_lock);
    request = requests.next_request(hints);
  }
  if (!request) return;
  std::array<std::byte, kRequestBytes> bytes;
  write_request(bytes, *request);
  if (!say_to_guest(queue, bytes)) return;
  const std::lock_guard guard(state_lock);
  requests.sent(*request, hints);
}

bool BalloonDevice::Impl::receive_answer(Queue& queue) {
  const auto bytes = read_front(*queue.pages->current);
  if (!bytes) return false;
  const AnswerHeader header = read_answer_header(*bytes);
  const std::lock_guard guard(state_lock);
  switch (static_cast<RequestCommand>(header.command)) {
    case RequestCommand::kDropCache:
      requests.cache_dropped(header.id);
      return false;
    case RequestCommand::kUnusedPages: {
      // What answers an older request is late.
      const bool wanted =
          hints.active() && header.id == static_cast<std::uint16_t>(hints.last_id());
      if (wanted && header.last) queue.round_ends = true;
      return wanted;
    }
  }
  count_locked(Errc::kBadMessageHeader, 1);
  return false;
}

// ---- control queue ------------------------------------------------------------------------------

void BalloonDevice::Impl::receive_control(const DescriptorChain& chain) {
  const auto bytes = read_front(chain);
  if (!bytes) return;
  const ControlMessage message = read_control(*bytes);
  const std::lock_guard guard(state_lock);
  const bool stop = message.of_class == kFreePageClass &&
                    message.command == static_cast<std::uint32_t>(ControlCommand::kStop);
  if (stop) {
    requests.walk_ended();
  } else {
    count_locked(Errc::kBadMessageHeader, 1);
  }
}

void BalloonDevice::Impl::serve_control(Queue& queue, Left& left) {
  auto chain = take_chain(queue, left);
  for (; chain && *chain; chain = take_chain(queue, left)) {
    if ((*chain)->readable_bytes() == 0) {
      hold_request_buffer(queue, *std::move(*chain));
    } else {
      receive_control(**chain);
      (*chain)->complete();
    }
  }
  std::optional<ControlCommand> command;
  {
    const std::lock_guard guard(state_lock);
    command = requests.next_command(hints);
  }
  if (!command) return;
  std::array<std::byte, kControlBytes> bytes;
  write_control(bytes, *command);
  if (!say_to_guest(queue, bytes)) return;
  const std::lock_guard guard(state_lock);
  requests.sent(*command, hints);
}

}  // namespace vballoon
