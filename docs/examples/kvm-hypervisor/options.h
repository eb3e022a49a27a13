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

constexpr const char* kUsage =
    "usage: kvm-hypervisor [OPTION VALUE]...\n"
    "  --memory 1GiB               of the guest: 64MiB to 3GiB\n"
    "  --target 512MiB@0s,0MiB@0s  sizes of the balloon, and at which second to ask for them\n"
    "  --mode pfn|chunk            what names pages: arrays of numbers, or chunks\n"
    "  --device thread|exits       where the device runs: beside the processor, or in its exits\n"
    "  --discard vectored|merged|per-page\n"
    "  --busy no|yes               the guest writes to its memory while the device works\n"
    "  --migrate no|yes            the device is replaced in the middle of the first inflation\n";

struct Step {
  std::uint64_t target_bytes;
  std::chrono::seconds at;  // since the guest has booted, and not before the last step is done
};

class Options {
 public:
  explicit Options(std::span<const char* const> arguments) {
    for (std::size_t i = 0; i < arguments.size(); i += 2) {
      if (!values_.contains(arguments[i]) || i + 1 == arguments.size()) throw error();
      values_[arguments[i]] = arguments[i + 1];
    }
  }

  const std::string& operator[](const char* option) const { return values_.at(option); }
  bool is(const char* option, const std::string& value, const std::string& other) const {
    if (values_.at(option) != value && values_.at(option) != other) throw error();
    return values_.at(option) == value;
  }
  std::uint64_t memory_bytes() const { return bytes(values_.at("--memory")); }
  std::vector<Step> schedule() const {
    std::vector<Step> steps;
    std::istringstream list(values_.at("--target"));
    for (std::string size, time; std::getline(std::getline(list, size, '@'), time, ',');) {
      steps.push_back({bytes(size), std::chrono::seconds(number(time, "s"))});
    }
    return steps;
  }
  static std::runtime_error error() { return std::runtime_error(kUsage); }

 private:
  static std::uint64_t number(const std::string& text, const std::string& unit) {
    std::uint32_t number = 0;
    std::string rest;
    std::istringstream in(text);
    if (!(in >> number >> rest) || rest != unit) throw error();
    return number;
  }
  static std::uint64_t bytes(const std::string& text) {
    return text.ends_with("GiB") ? number(text, "GiB") << 30 : number(text, "MiB") << 20;
  }

  std::map<std::string, std::string> values_ = {
      {"--memory", "1GiB"},   {"--target", "512MiB@0s,0MiB@0s"}, {"--mode", "pfn"},
      {"--device", "thread"}, {"--discard", "vectored"},         {"--busy", "no"},
      {"--migrate", "no"}};
};

#endif  // KVM_HYPERVISOR_OPTIONS_H_
