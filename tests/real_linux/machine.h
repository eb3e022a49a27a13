// SPDX-License-Identifier: MIT
// A daemon and a real Linux guest whose balloon it serves.
#ifndef VBALLOON_TESTS_REAL_LINUX_MACHINE_H_
#define VBALLOON_TESTS_REAL_LINUX_MACHINE_H_

#include <gtest/gtest.h>

#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "real_linux/daemon.h"
#include "real_linux/process.h"
#include "real_linux/uml_guest.h"

namespace vballoon::testing {

class Machine {
 public:
  // `features` as --features takes them; `options` are more of `vballoon serve`.
  explicit Machine(const std::string& features, std::vector<std::string> options = {},
                   const std::vector<std::string>& kernel_arguments = {})
      : daemon_(directory_, with_features(features, std::move(options))),
        guest_(directory_, daemon_.socket(), kernel_arguments) {}

  // A test that fails, also by what it throws, tells what explains it.
  ~Machine() {
    if (::testing::Test::HasFailure() || std::uncaught_exceptions() != 0) explain();
  }

  [[nodiscard]] Daemon& daemon() { return daemon_; }
  [[nodiscard]] UmlGuest& guest() { return guest_; }

  // Sets a target and waits until the guest has followed it.
  void resize_to(std::uint64_t bytes) {
    daemon_.set_target(bytes);
    expect_soon(
        "the balloon", [this] { return daemon_.actual_bytes(); }, ::testing::Eq(bytes));
  }

 private:
  void explain();
  static std::vector<std::string> with_features(const std::string& features,
                                                std::vector<std::string> options) {
    options.insert(options.end(), {"--features", features});
    return options;
  }

  ScratchDirectory directory_;
  Daemon daemon_;
  UmlGuest guest_;
};

class RealLinuxTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto reason = why_no_guest_can_run()) GTEST_SKIP() << *reason;
  }
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_REAL_LINUX_MACHINE_H_
