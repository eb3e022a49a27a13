// SPDX-License-Identifier: MIT
#include "transport/vhost_user_rig.h"

#include <poll.h>
#include <unistd.h>

#include <filesystem>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "vballoon/balloon_registers.h"

namespace vballoon::testing {
namespace {

// Of one piece of work that a test asks for; a bound of what is far too much.
constexpr int kMostDispatches = 20'000;

constexpr std::uint8_t kNegotiated = kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk;

}  // namespace

SocketPath::SocketPath() {
  std::string folder = (std::filesystem::temp_directory_path() / "vballoon-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) throw std::runtime_error("mkdtemp");
  folder_ = folder;
  path_ = folder + "/balloon.sock";
}

SocketPath::~SocketPath() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

// ---- the back end ------------------------------------------------------------------------------

TestBackEnd::TestBackEnd(BalloonOptions options, std::unique_ptr<Discarder> discarder) {
  options.log = [this](LogLevel, std::string_view line) { log.emplace_back(line); };
  const int listener = listen_on_unix_socket(path()).value();
  VhostUserOptions own{
      .connection = [this](bool connected) { connections.push_back(connected); },
      .memory_changed = [this] { memory_bytes.push_back(device().memory_bytes()); }};
  if (discarder == nullptr) discarder = make_kernel_discarder();
  back_end_ =
      VhostUserBackend::create(listener, std::move(discarder), std::move(options), std::move(own))
          .value();
}

bool TestBackEnd::has_work(std::chrono::milliseconds limit) const {
  pollfd wait{.fd = back_end_->fd(), .events = POLLIN, .revents = 0};
  return poll(&wait, 1, static_cast<int>(limit.count())) > 0;
}

void TestBackEnd::work() {
  if (back_end_ == nullptr) return;
  for (int i = 0; i < kMostDispatches; ++i) {
    if (!has_work()) return;
    back_end_->dispatch();
  }
  throw std::runtime_error("the back end does not come to rest");
}

// ---- the guest ---------------------------------------------------------------------------------

VhostUserGuest::VhostUserGuest(TestBackEnd& back_end, GuestSetup setup)
    : back_end_(&back_end), setup_(std::move(setup)) {
  connect_anew();
}

VhostUserGuest& VhostUserGuest::connect_anew() {
  if (front_end_ != nullptr) front_end_->die();
  FrontEndOptions options = setup_.front_end;
  options.let_work = [this] { back_end_->work(); };
  front_end_ = std::make_unique<VhostUserFrontEnd>(back_end_->path(), memory_, options);
  return *this;
}

VhostUserGuest& VhostUserGuest::move_to(TestBackEnd& other) {
  front_end_->die();
  back_end_ = &other;
  return connect_anew();
}

VhostUserGuest& VhostUserGuest::negotiate() {
  accepted_ = front_end_->read_features();
  if (!setup_.packed) accepted_ = accepted_.without(Feature::kRingPacked);
  front_end_->write_features(accepted_);
  front_end_->write_status(kNegotiated);
  return *this;
}

VhostUserGuest& VhostUserGuest::negotiate_again() {
  front_end_->tell(vhost::kSetFeatures,
                   vhost::u64(accepted_.with_bit(vhost::kProtocolFeaturesBit).bits()));
  front_end_->share(SharedGuestMemory::regions());
  return *this;
}

QueueConfig VhostUserGuest::ring_config(std::uint16_t index) const {
  QueueConfig config = lay_out_ring(setup_.queue_size, kRings + index * kRingStride,
                                    accepted_.has(Feature::kRingPacked))
                           .config;
  config.in_order = accepted_.has(Feature::kInOrder);
  config.event_index = accepted_.has(Feature::kEventIdx);
  config.indirect = accepted_.has(Feature::kIndirectDesc);
  return config;
}

VhostUserGuest& VhostUserGuest::set_up_rings() {
  for (std::uint16_t index = 0; index < kMaxBalloonQueues; ++index) {
    if (!back_end_->device().has_queue(index)) continue;
    queues_.at(index) = DriverQueue::create(memory_.guest(), ring_config(index)).value();
    front_end_->start_ring(index, ring_config(index), 0);
  }
  return *this;
}

VhostUserGuest& VhostUserGuest::start() {
  negotiate().set_up_rings();
  front_end_->write_status(kNegotiated | kStatusDriverOk);
  return *this;
}

void VhostUserGuest::send(std::uint16_t index, const Message& message) {
  std::vector<GuestBuffer> readable;
  for (const auto& piece : message.pieces) {
    if (piece.size() > SharedGuestMemory::kMiB) throw std::length_error("payload");
    const std::uint64_t end = kPayloads + SharedGuestMemory::kMiB;
    if (piece.size() > end - next_payload_) next_payload_ = kPayloads;
    if (!memory_.guest()->write(next_payload_, piece)) throw std::out_of_range("payload");
    readable.push_back({next_payload_, static_cast<std::uint32_t>(piece.size())});
    next_payload_ += (piece.size() + 63) / 64 * 64;
  }
  if (!queue(index).add(readable, message.writable, 0)) throw std::length_error("ring is full");
  (void)queue(index).publish();
}

void VhostUserGuest::inflate(std::initializer_list<std::uint32_t> pfns) {
  send(kInflateQueue, pfn_message(pfns));
  serve(kInflateQueue);
}

void VhostUserGuest::deflate(std::initializer_list<std::uint32_t> pfns) {
  send(kDeflateQueue, pfn_message(pfns));
  serve(kDeflateQueue);
}

std::vector<std::uint32_t> VhostUserGuest::completed(std::uint16_t index) {
  std::vector<std::uint32_t> lengths;
  while (const auto used = queue(index).take_used()) lengths.push_back(used->written);
  return lengths;
}

}  // namespace vballoon::testing
