// SPDX-License-Identifier: MIT
// What one QMP client and the server say to each other, without the connection between them.
//
// A client is greeted, has to negotiate capabilities before anything else, and gets the answers to
// its commands in the order in which it gave them. Events come in between.
#ifndef VBALLOON_TOOLS_QMP_SESSION_H_
#define VBALLOON_TOOLS_QMP_SESSION_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "qmp_command.h"
#include "qmp_framer.h"
#include "qmp_message.h"

namespace vballoon::tool {

class QmpSession {
 public:
  // A client that lets more than this lie gets no answers until it has read some, ...
  static constexpr std::size_t kPauseBytes = 64 * 1024;
  // ... and one that lets events pile up has lost the connection.
  static constexpr std::size_t kMaxOutputBytes = 1024 * 1024;

  // `commands` outlive the session.
  QmpSession(std::string_view version, std::span<const QmpCommand> commands);

  void receive(std::string_view bytes) { framer_.add(bytes); }
  // Whether there is room for more.
  [[nodiscard]] bool wants_input() const {
    return framer_.waiting() < QmpFramer::kMaxMessageBytes && !paused();
  }
  // Takes the next message that is complete; false when there is none, or when it has to wait.
  bool step();
  // A command has not been answered yet.
  [[nodiscard]] bool waiting() const { return later_ != nullptr; }
  // Nothing before capabilities were negotiated.
  void send_event(std::string_view line);

  // What the client should read; take away what it has read.
  [[nodiscard]] std::string& output() { return output_; }
  [[nodiscard]] const std::string& output() const { return output_; }
  [[nodiscard]] bool overflowed() const { return output_.size() > kMaxOutputBytes; }

 private:
  struct Later {
    QmpSession& session;
    std::string id;
  };

  [[nodiscard]] bool paused() const { return output_.size() > kPauseBytes; }
  void answer(const Answer& answer, std::string_view id) { output_ += answer_line(answer, id); }
  void execute(const QmpRequest& request, const std::string& id);
  [[nodiscard]] Answer negotiate(const Arguments& arguments);
  [[nodiscard]] AnswerLater answer_later(const std::string& id);

  std::span<const QmpCommand> commands_;
  QmpFramer framer_;
  std::string output_;
  bool negotiated_ = false;
  std::shared_ptr<Later> later_;  // of the command that has not been answered
};

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_QMP_SESSION_H_
