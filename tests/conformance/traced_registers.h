// SPDX-License-Identifier: MIT
// Registers of virtio-mmio that write down each access of a driver, in order, and hand it on. A
// test can have one read as something else.
#ifndef VBALLOON_TESTS_CONFORMANCE_TRACED_REGISTERS_H_
#define VBALLOON_TESTS_CONFORMANCE_TRACED_REGISTERS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <ostream>
#include <utility>
#include <vector>

#include "transport/mmio_registers.h"
#include "vm/mmio_access.h"

namespace vballoon::testing {

struct RegisterAccess {
  bool is_write = false;
  std::uint64_t offset = 0;
  unsigned size = 4;
  std::uint64_t value = 0;  // that was read or written

  [[nodiscard]] bool is(MmioRegister which) const {
    return offset == static_cast<std::uint64_t>(which);
  }
  [[nodiscard]] bool reads(MmioRegister which) const { return !is_write && is(which); }
  [[nodiscard]] bool writes(MmioRegister which) const { return is_write && is(which); }
  [[nodiscard]] bool is_config() const { return offset >= kMmioConfig; }

  friend bool operator==(const RegisterAccess&, const RegisterAccess&) = default;
};
using RegisterTrace = std::vector<RegisterAccess>;

inline RegisterAccess read_of(MmioRegister which, std::uint64_t value) {
  return {false, static_cast<std::uint64_t>(which), 4, value};
}
inline RegisterAccess write_of(MmioRegister which, std::uint64_t value) {
  return {true, static_cast<std::uint64_t>(which), 4, value};
}

inline void PrintTo(const RegisterAccess& access, std::ostream* out) {
  *out << (access.is_write ? "write " : "read ") << std::hex << access.offset << " size "
       << access.size << " value " << access.value << std::dec;
}

class TracedRegisters {
 public:
  // Around other registers, which are not asked for what read_as() has. Must outlive the window.
  sim::MmioWindow around(sim::MmioWindow inner) {
    return {
        .read =
            [this, read = inner.read](std::uint64_t offset, unsigned size) {
              const auto scripted = scripted_.find(offset);
              const std::uint64_t value =
                  scripted != scripted_.end() ? scripted->second : read(offset, size);
              note({false, offset, size, value});
              return value;
            },
        .write =
            [this, write = inner.write](std::uint64_t offset, unsigned size, std::uint64_t value) {
              note({true, offset, size, value});
              write(offset, size, value);
            }};
  }
  // Around nothing: all other registers read as 0.
  sim::MmioWindow alone() {
    return around({.read = [](std::uint64_t, unsigned) { return std::uint64_t{0}; },
                   .write = [](std::uint64_t, unsigned, std::uint64_t) {}});
  }

  void read_as(MmioRegister which, std::uint64_t value) {
    scripted_[static_cast<std::uint64_t>(which)] = value;
  }
  // Called at each access: behind what is read, and in front of what is written.
  std::function<void(const RegisterAccess&)> on_access;

  [[nodiscard]] const RegisterTrace& trace() const { return trace_; }
  [[nodiscard]] RegisterTrace those(
      const std::function<bool(const RegisterAccess&)>& wanted) const {
    RegisterTrace found;
    for (const RegisterAccess& access : trace_) {
      if (wanted(access)) found.push_back(access);
    }
    return found;
  }
  [[nodiscard]] std::vector<std::uint64_t> written_to(MmioRegister which) const {
    std::vector<std::uint64_t> values;
    for (const RegisterAccess& access : trace_) {
      if (access.writes(which)) values.push_back(access.value);
    }
    return values;
  }
  void forget() { trace_.clear(); }

 private:
  void note(const RegisterAccess& access) {
    trace_.push_back(access);
    if (on_access) on_access(access);
  }

  std::map<std::uint64_t, std::uint64_t> scripted_;
  RegisterTrace trace_;
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_CONFORMANCE_TRACED_REGISTERS_H_
