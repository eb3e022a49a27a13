// SPDX-License-Identifier: MIT
// What a driver reads and writes of a balloon device: features, status, configuration space.
//
// Rules only, after virtio 1.3, sections 2.1, 3.1.1 and 5.5.4; whoever holds the registers orders
// the accesses. A wrong write is answered with an Errc and changes nothing, but for a status whose
// FEATURES_OK is refused: its other bits are set.
#ifndef VBALLOON_SRC_DEVICE_REGISTERS_H_
#define VBALLOON_SRC_DEVICE_REGISTERS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "vballoon/error.h"
#include "vballoon/features.h"

namespace vballoon {

class Registers {
 public:
  // What is to be insisted on beside VERSION_1 (5.5.3.2 allows MUST_TELL_HOST).
  // `dialect_bits` have not the meaning that the standard gives them.
  // `poison_while_running` as in BalloonOptions.
  Registers(Features offered, Features required, Features dialect_bits = {},
            bool poison_while_running = false)
      : offered_(offered),
        required_(required),
        dialect_bits_(dialect_bits),
        poison_while_running_(poison_while_running) {}

  [[nodiscard]] Features offered() const { return offered_; }
  [[nodiscard]] Features negotiated() const { return negotiated_; }  // since FEATURES_OK
  // Of a set of feature bits, those that mean what the standard says.
  [[nodiscard]] Features standard(Features bits) const {
    return Features(bits.bits() & ~dialect_bits_.bits());
  }
  [[nodiscard]] bool has(Feature feature) const { return standard(negotiated_).has(feature); }
  void write_features(Features accepted);

  [[nodiscard]] std::uint8_t status() const { return status_; }
  // Sets bits; requires that there are any, as 0 is a reset.
  [[nodiscard]] std::optional<Errc> write_status(std::uint8_t wanted);
  void require_reset();
  // Target and actual stay.
  void reset();
  // FEATURES_OK is set.
  [[nodiscard]] bool features_settled() const;

  // Queues may be set up; queues are served.
  [[nodiscard]] bool in_set_up() const;
  [[nodiscard]] bool running() const;

  void read_config(std::uint64_t offset, std::span<std::byte> out) const;
  [[nodiscard]] std::optional<Errc> write_config(std::uint64_t offset,
                                                 std::span<const std::byte> in);

  [[nodiscard]] std::uint32_t num_pages() const;
  void set_num_pages(std::uint32_t pages);
  [[nodiscard]] std::uint32_t actual() const;
  [[nodiscard]] std::uint32_t hint_command() const;
  void set_hint_command(std::uint32_t id);
  [[nodiscard]] std::uint32_t poison_value() const;
  static constexpr std::size_t kMaxConfigBytes = 16;

  // For saving a device.
  struct State {
    Features accepted;
    Features negotiated;
    std::uint8_t status = 0;
    std::uint32_t generation = 0;
    std::array<std::byte, kMaxConfigBytes> config{};
  };
  [[nodiscard]] State state() const {
    return {accepted_, negotiated_, status_, generation_, config_};
  }
  // False, with nothing changed, when no driver can have brought these registers there.
  [[nodiscard]] bool restore(const State& state);

  // Changes with each change that the device makes, so that a driver which reads several fields
  // sees that they do not belong together (2.5).
  [[nodiscard]] std::uint32_t config_generation() const { return generation_; }

 private:
  // As much as the features that are offered need (5.5.4).
  [[nodiscard]] std::size_t config_bytes() const;
  void set_field(std::uint64_t offset, std::uint32_t value);

  const Features offered_;
  const Features required_;
  const Features dialect_bits_;
  const bool poison_while_running_;
  Features accepted_;  // written by the driver
  Features negotiated_;
  std::uint8_t status_ = 0;
  std::uint32_t generation_ = 0;
  std::array<std::byte, kMaxConfigBytes> config_{};  // as the driver sees it
};

}  // namespace vballoon

#endif  // VBALLOON_SRC_DEVICE_REGISTERS_H_
