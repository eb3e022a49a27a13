// SPDX-License-Identifier: MIT
#include "device/registers.h"

#include <algorithm>

#include "vballoon/balloon_registers.h"
#include "wire/little_endian.h"

namespace vballoon {
namespace {

// Why a device does not take what a driver accepts, if it does not.
std::optional<Errc> check_features(Features accepted, Features offered, Features required) {
  if ((accepted.bits() & ~offered.bits()) != 0) return Errc::kFeaturesNotOffered;
  if (!accepted.has(Feature::kVersion1)) return Errc::kLegacyDriver;
  if ((required.bits() & ~accepted.bits()) != 0) return Errc::kMustTellHostNeeded;
  return std::nullopt;
}

}  // namespace

// Looked at when FEATURES_OK is set, so that what is written later changes nothing.
void Registers::write_features(Features accepted) { accepted_ = accepted; }

std::optional<Errc> Registers::write_status(std::uint8_t wanted) {
  // Only the device sets NEEDS_RESET, and a driver that writes back what it read keeps it.
  const std::uint8_t needs_reset = status_ & kStatusNeedsReset;
  wanted = static_cast<std::uint8_t>((wanted & ~kStatusNeedsReset) | needs_reset);

  const bool clears = (status_ & ~wanted) != 0;
  const bool features_ok = (status_ & kStatusFeaturesOk) != 0;
  if (clears || ((wanted & kStatusDriverOk) != 0 && !features_ok)) return Errc::kBadStatus;

  if ((wanted & kStatusFeaturesOk) != 0 && !features_ok) {
    if (const auto bad = check_features(accepted_, offered_, required_)) {
      status_ = static_cast<std::uint8_t>(wanted & ~kStatusFeaturesOk);
      return bad;
    }
    negotiated_ = accepted_;
  }
  status_ = wanted;
  return std::nullopt;
}

void Registers::require_reset() { status_ |= kStatusNeedsReset; }

void Registers::reset() {
  accepted_ = Features();
  negotiated_ = Features();
  status_ = 0;
  set_hint_command(kHintStop);
  store_le(config_.data() + kPoisonValueOffset, std::uint32_t{0});
}

bool Registers::features_settled() const { return (status_ & kStatusFeaturesOk) != 0; }

bool Registers::in_set_up() const {
  return (status_ & (kStatusFeaturesOk | kStatusDriverOk)) == kStatusFeaturesOk;
}

bool Registers::running() const {
  return (status_ & (kStatusDriverOk | kStatusNeedsReset)) == kStatusDriverOk;
}

void Registers::read_config(std::uint64_t offset, std::span<std::byte> out) const {
  std::ranges::fill(out, std::byte{0});
  if (offset >= config_bytes()) return;
  const auto bytes = std::min<std::uint64_t>(out.size(), config_bytes() - offset);
  std::copy_n(config_.data() + offset, bytes, out.data());
}

std::optional<Errc> Registers::write_config(std::uint64_t offset, std::span<const std::byte> in) {
  const std::size_t bytes = config_bytes();
  if (offset > bytes || in.size() > bytes - offset) return Errc::kConfigOutOfRange;
  const std::uint64_t end = offset + in.size();
  if (offset >= kActualOffset && end <= kHintCommandOffset) {
    std::ranges::copy(in, config_.data() + offset);
    return std::nullopt;
  }
  if (offset < kPoisonValueOffset) return Errc::kConfigReadOnly;
  // 5.5.6.6.1: written before DRIVER_OK and not changed afterwards.
  if (!has(Feature::kPagePoison)) return Errc::kConfigReadOnly;
  if ((status_ & kStatusDriverOk) != 0 && !poison_while_running_) return Errc::kPoisonChanged;
  std::ranges::copy(in, config_.data() + offset);
  return std::nullopt;
}

bool Registers::restore(const State& state) {
  const bool features_ok = (state.status & kStatusFeaturesOk) != 0;
  const bool driver_ok = (state.status & kStatusDriverOk) != 0;
  const bool settled = features_ok ? !check_features(state.negotiated, offered_, required_)
                                   : state.negotiated == Features() && !driver_ok;
  const auto poison = load_le<std::uint32_t>(state.config.data() + kPoisonValueOffset);
  if (!settled || (poison != 0 && !standard(state.negotiated).has(Feature::kPagePoison))) {
    return false;
  }
  accepted_ = state.accepted;
  negotiated_ = state.negotiated;
  status_ = state.status;
  generation_ = state.generation;
  config_ = state.config;
  return true;
}

std::size_t Registers::config_bytes() const {
  const Features features = standard(offered_);
  if (features.has(Feature::kPagePoison)) return 16;
  return features.has(Feature::kFreePageHint) ? 12 : 8;
}

void Registers::set_field(std::uint64_t offset, std::uint32_t value) {
  store_le(config_.data() + offset, value);
  ++generation_;
}

std::uint32_t Registers::num_pages() const {
  return load_le<std::uint32_t>(config_.data() + kNumPagesOffset);
}

void Registers::set_num_pages(std::uint32_t pages) { set_field(kNumPagesOffset, pages); }

std::uint32_t Registers::hint_command() const {
  return load_le<std::uint32_t>(config_.data() + kHintCommandOffset);
}

void Registers::set_hint_command(std::uint32_t id) { set_field(kHintCommandOffset, id); }

std::uint32_t Registers::poison_value() const {
  return load_le<std::uint32_t>(config_.data() + kPoisonValueOffset);
}

std::uint32_t Registers::actual() const {
  return load_le<std::uint32_t>(config_.data() + kActualOffset);
}

}  // namespace vballoon
