// SPDX-License-Identifier: MIT
// The command line: pairs of an option and its value.
#ifndef KVM_HYPERVISOR_OPTIONS_H_
#define KVM_HYPERVISOR_OPTIONS_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "vballoon/discarder.h"

constexpr const char* kUsage =
    "usage: kvm-hypervisor [options]\n"
    "  --memory SIZE           memory of the guest, 64MiB to 3GiB (1GiB)\n"
    "  --target SIZE@TIME,...  sizes of the balloon, and when to ask for them: in seconds since "
    "the\n"
    "                          guest has booted (512MiB@0s,0MiB@0s)\n"
    "  --mode pfn|chunk        what names pages: arrays of numbers, or chunks (pfn)\n"
    "  --discard STRATEGY      per-page, merged or vectored (vectored)\n"
    "  --exits                 no thread for the device: kicks are exits, and served there\n"
    "  --busy                  the guest writes to its memory while the device works\n"
    "  --migrate               the device is replaced in the middle of the first step\n";

inline void valid(bool is_valid) {
  if (!is_valid) throw std::runtime_error(kUsage);
}

inline std::uint64_t parse(const std::string& text, const std::string& unit) {
  std::uint32_t number = 0;
  std::string rest;
  std::istringstream(text) >> number >> rest;
  valid(rest == unit);
  return number;
}
inline std::uint64_t parse_bytes(const std::string& text) {
  return text.ends_with("GiB") ? parse(text, "GiB") << 30 : parse(text, "MiB") << 20;
}

struct Step {
  std::uint64_t target_bytes;
  std::chrono::seconds at;  // not before that time, and not before the last step is done
};

struct Options {
  explicit Options(std::span<const char* const> arguments) {
    std::map<std::string, std::string> given = {
        {"--memory", "1GiB"}, {"--target", "512MiB@0s,0MiB@0s"},
        {"--mode", "pfn"},    {"--discard", "vectored"},
        {"--exits", ""},      {"--busy", ""},
        {"--migrate", ""}};
    for (auto next = arguments.begin(); next != arguments.end(); ++next) {
      const auto option = given.find(*next);
      valid(option != given.end());
      const bool flag = option->second.empty();
      valid(flag || ++next != arguments.end());
      option->second = flag ? "yes" : *next;
    }
    chunks = given["--mode"] == "chunk";
    valid(chunks || given["--mode"] == "pfn");
    memory_bytes = parse_bytes(given["--memory"]);
    valid(memory_bytes >= 64 << 20 && memory_bytes <= std::uint64_t{3} << 30);
    const auto strategy = vballoon::parse_discard_strategy(given["--discard"]);
    valid(strategy.has_value());
    discard = *strategy;
    exits = !given["--exits"].empty();
    busy = !given["--busy"].empty();
    migrate = !given["--migrate"].empty();
    std::istringstream list(given["--target"]);
    for (std::string size, at; std::getline(std::getline(list, size, '@'), at, ',');) {
      const Step step{parse_bytes(size), std::chrono::seconds(parse(at, "s"))};
      valid(step.target_bytes != (schedule.empty() ? 0 : schedule.back().target_bytes));
      schedule.push_back(step);
    }
  }

  bool chunks, exits, busy, migrate;
  std::uint64_t memory_bytes;
  vballoon::DiscardStrategy discard;
  std::vector<Step> schedule;
};

#endif  // KVM_HYPERVISOR_OPTIONS_H_
