// SPDX-License-Identifier: MIT
#include "real_linux/machine.h"

#include <iostream>
#include <sstream>
#include <thread>

namespace vballoon::testing {
namespace {

// A guest that waits for something uses no time, one that runs in circles does.
std::string use_of_time(const Process& process) {
  const auto before = process.processor_time();
  std::this_thread::sleep_for(std::chrono::seconds(1));
  const auto used = process.processor_time() - before;
  return std::to_string(used.count()) + " ms of processor time in one second";
}

// Those that say something.
std::string without_zeros(const std::string& metrics) {
  std::istringstream lines(metrics);
  std::string text;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with('#') && !line.ends_with(" 0")) text += line + '\n';
  }
  return text;
}

}  // namespace

void Machine::explain() {
  std::cerr << "last lines of the guest:\n"
            << guest_.process().last_lines(30) << "\nthe guest uses "
            << use_of_time(guest_.process()) << "\nlast lines of the daemon:\n"
            << daemon_.process().last_lines(30) << "\nthe daemon uses "
            << use_of_time(daemon_.process()) << '\n';
  try {
    std::cerr << without_zeros(daemon_.metrics()) << '\n';
  } catch (const std::exception& error) {
    std::cerr << "no metrics: " << error.what() << '\n';
  }
}

}  // namespace vballoon::testing
