// SPDX-License-Identifier: MIT
// The serial line to the guest's agent (guest/agent.cc).
#ifndef VBALLOON_TESTS_REAL_LINUX_AGENT_LINE_H_
#define VBALLOON_TESTS_REAL_LINUX_AGENT_LINE_H_

#include <chrono>
#include <string>

namespace vballoon::testing {

struct AgentReply {
  int status = -1;
  std::string text;
};

class AgentLine {
 public:
  AgentLine();
  ~AgentLine();
  AgentLine(const AgentLine&) = delete;
  AgentLine& operator=(const AgentLine&) = delete;

  // The guest's end, until it has been handed over.
  [[nodiscard]] int far_end() const { return far_end_; }
  void close_far_end();

  void send(const std::string& request);
  // Throws when nothing comes within that time.
  [[nodiscard]] AgentReply receive(std::chrono::seconds limit);

 private:
  void read_more(std::chrono::steady_clock::time_point end);

  int end_ = -1;
  int far_end_ = -1;
  std::string received_;  // not yet taken
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_REAL_LINUX_AGENT_LINE_H_
