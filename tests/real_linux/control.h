// SPDX-License-Identifier: MIT
// A client of the daemon's control socket, which speaks QMP.
#ifndef VBALLOON_TESTS_REAL_LINUX_CONTROL_H_
#define VBALLOON_TESTS_REAL_LINUX_CONTROL_H_

#include <nlohmann/json.hpp>
#include <string>

namespace vballoon::testing {

class Control {
 public:
  // Connects and leaves the negotiation behind. Throws when nobody answers.
  explicit Control(const std::string& path);
  ~Control();
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  // What the command returns. Throws when it answers with an error, or not at all.
  nlohmann::json execute(const std::string& command, const nlohmann::json& arguments = nullptr);

 private:
  [[nodiscard]] nlohmann::json next_line();

  int fd_ = -1;
  std::string received_;  // not yet taken
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_REAL_LINUX_CONTROL_H_
