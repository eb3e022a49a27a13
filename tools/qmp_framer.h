// SPDX-License-Identifier: MIT
// Cuts what a QMP client sends into messages.
//
// A message is a JSON object or array, over as many lines as it likes and with any number of others
// on its line, or, so that there is something to complain about, the rest of a line that is
// neither. A control character other than a tab or the end of a line, and the byte 0xFF, make the
// framer forget what it has: that is how a client starts over (QMP specification, "Forcing the JSON
// parser into known-good state").
#ifndef VBALLOON_TOOLS_QMP_FRAMER_H_
#define VBALLOON_TOOLS_QMP_FRAMER_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace vballoon::tool {

class QmpFramer {
 public:
  static constexpr std::size_t kMaxMessageBytes = 64 * 1024;
  static constexpr std::size_t kMaxNesting = 64;

  // The text of a message, with strings in single quotes, which QMP allows, as JSON has them; or
  // what is wrong.
  using Message = tl::expected<std::string, std::string_view>;

  void add(std::string_view bytes) { input_.append(bytes); }
  // The next message that is complete. Behind one that is too long or too deep, input is dropped up
  // to the end of its line.
  [[nodiscard]] std::optional<Message> next();
  // Bytes that next() has not looked at yet.
  [[nodiscard]] std::size_t waiting() const { return input_.size() - taken_; }

 private:
  [[nodiscard]] std::optional<Message> take(char byte);
  [[nodiscard]] std::optional<Message> take_in_string(char byte);
  [[nodiscard]] std::optional<Message> take_outside(char byte);
  [[nodiscard]] std::optional<Message> take_closing(char byte);
  [[nodiscard]] Message finish();
  [[nodiscard]] Message complain(std::string_view what);
  void restart();

  std::string input_;
  std::size_t taken_ = 0;  // of input_
  std::string text_;       // of the message that is not complete
  std::size_t depth_ = 0;
  char quote_ = 0;  // of the string we are in
  bool escaped_ = false;
  bool dropping_ = false;  // to the end of the line
};

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_QMP_FRAMER_H_
