// SPDX-License-Identifier: MIT
#include "device/registers.h"

#include <algorithm>

#include "vballoon/balloon_registers.h"
#include "wire/little_endian.h"

namespace vballoon {

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
    const bool good =
        (accepted_.bits() & ~offered_.bits()) == 0 && accepted_.has(Feature::kVersion1);
    if (!good) {
      status_ = static_cast<std::uint8_t>(wanted & ~kStatusFeaturesOk);
      return Errc::kFeaturesNotOffered;
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
}

bool Registers::in_set_up() const {
  return (status_ & (kStatusFeaturesOk | kStatusDriverOk)) == kStatusFeaturesOk;
}

bool Registers::running() const {
  return (status_ & (kStatusDriverOk | kStatusNeedsReset)) == kStatusDriverOk;
}

void Registers::read_config(std::uint64_t offset, std::span<std::byte> out) const {
  std::ranges::fill(out, std::byte{0});
  if (offset >= kConfigBytes) return;
  const auto bytes = std::min<std::uint64_t>(out.size(), kConfigBytes - offset);
  std::copy_n(config_.data() + offset, bytes, out.data());
}

std::optional<Errc> Registers::write_config(std::uint64_t offset, std::span<const std::byte> in) {
  if (offset > kConfigBytes || in.size() > kConfigBytes - offset) return Errc::kConfigOutOfRange;
  if (offset < kActualOffset) return Errc::kConfigReadOnly;
  std::ranges::copy(in, config_.data() + offset);
  return std::nullopt;
}

std::uint32_t Registers::num_pages() const {
  return load_le<std::uint32_t>(config_.data() + kNumPagesOffset);
}

void Registers::set_num_pages(std::uint32_t pages) {
  store_le(config_.data() + kNumPagesOffset, pages);
}

std::uint32_t Registers::actual() const {
  return load_le<std::uint32_t>(config_.data() + kActualOffset);
}

}  // namespace vballoon
