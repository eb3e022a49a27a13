// SPDX-License-Identifier: MIT
#include "qmp_framer.h"

#include <utility>

namespace vballoon::tool {
namespace {

constexpr char kResync = static_cast<char>(0xFF);

bool is_space(char byte) { return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n'; }

// What no JSON text holds, so that it can mean "start over".
bool is_lexical_error(char byte, bool in_string) {
  if (byte == kResync) return true;
  const bool control = static_cast<unsigned char>(byte) < 0x20;
  return control && (in_string || !is_space(byte));
}

}  // namespace

std::optional<QmpFramer::Message> QmpFramer::next() {
  std::optional<Message> message;
  while (!message && taken_ < input_.size()) {
    // A bare word ends where an object begins, which is looked at again.
    const char byte = input_[taken_];
    const bool ends_word =
        depth_ == 0 && quote_ == 0 && !dropping_ && !text_.empty() && (byte == '{' || byte == '[');
    if (ends_word) return finish();
    ++taken_;
    message = take(byte);
  }
  if (taken_ == input_.size()) {
    input_.clear();
    taken_ = 0;
  } else if (taken_ >= kMaxMessageBytes) {
    input_.erase(0, taken_);
    taken_ = 0;
  }
  return message;
}

std::optional<QmpFramer::Message> QmpFramer::take(char byte) {
  if (dropping_) {
    dropping_ = byte != '\n' && byte != kResync;
    return std::nullopt;
  }
  if (is_lexical_error(byte, quote_ != 0)) return complain("JSON parse error, stray character");
  // A byte of input makes at most two of text.
  if (text_.size() + 2 > kMaxMessageBytes) {
    dropping_ = byte != '\n';
    return complain("QMP input is longer than 65536 bytes");
  }
  return quote_ != 0 ? take_in_string(byte) : take_outside(byte);
}

std::optional<QmpFramer::Message> QmpFramer::take_in_string(char byte) {
  if (std::exchange(escaped_, false)) {
    if (byte != '\'') text_ += '\\';
    text_ += byte;
  } else if (byte == '\\') {
    escaped_ = true;
  } else if (byte == quote_) {
    text_ += '"';
    quote_ = 0;
  } else {
    if (byte == '"') text_ += '\\';
    text_ += byte;
  }
  return std::nullopt;
}

std::optional<QmpFramer::Message> QmpFramer::take_outside(char byte) {
  switch (byte) {
    case '"':
    case '\'':
      quote_ = byte;
      text_ += '"';
      return std::nullopt;
    case '{':
    case '[':
      if (depth_ == kMaxNesting) {
        dropping_ = true;
        return complain("QMP input is nested more than 64 deep");
      }
      ++depth_;
      text_ += byte;
      return std::nullopt;
    case '}':
    case ']':
      return take_closing(byte);
    default:
      if (depth_ == 0 && byte == '\n' && !text_.empty()) return finish();
      if (!text_.empty() || !is_space(byte)) text_ += byte;
      return std::nullopt;
  }
}

// Whether a brace closes a bracket is left to the parser.
std::optional<QmpFramer::Message> QmpFramer::take_closing(char byte) {
  if (depth_ == 0) return complain("JSON parse error, nothing to close");
  text_ += byte;
  if (--depth_ != 0) return std::nullopt;
  return finish();
}

QmpFramer::Message QmpFramer::finish() {
  std::string text = std::move(text_);
  restart();
  return text;
}

QmpFramer::Message QmpFramer::complain(std::string_view what) {
  restart();
  return tl::unexpected(what);
}

void QmpFramer::restart() {
  text_.clear();
  depth_ = 0;
  quote_ = 0;
  escaped_ = false;
}

}  // namespace vballoon::tool
