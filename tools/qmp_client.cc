// SPDX-License-Identifier: MIT
#include "qmp_client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "interrupt.h"
#include "outcome.h"
#include "unix_socket.h"

namespace vballoon::tool {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// How long a Ctrl-C may go unseen that came just before the program began to wait.
constexpr milliseconds kSlice{100};

auto unreachable(std::string text) {
  return tl::unexpected(CtlFailure{kExitUnreachable, std::move(text)});
}
auto failed(std::string text) { return tl::unexpected(CtlFailure{kExitFailed, std::move(text)}); }

// Of an answer that is an error.
CtlFailure failure_of(const Json& error) {
  if (!error.is_object()) return {kExitFailed, "the server's error is not as QMP has them"};
  const auto text = [&error](const char* key) {
    const auto found = error.find(key);
    return found != error.end() && found->is_string() ? found->get<std::string>() : "";
  };
  const std::string error_class = text("class");
  return {error_class == kTargetNotReached ? kExitTargetNotReached : kExitFailed,
          printable(fmt::format("{}: {}", error_class, text("desc")))};
}

}  // namespace

std::string printable(std::string_view text) {
  std::string shown(text);
  std::ranges::replace_if(
      shown, [](unsigned char letter) { return letter < 0x20 || letter == 0x7F; }, '?');
  return shown;
}

CtlResult<QmpClient> QmpClient::connect(const std::string& path, milliseconds reply_timeout) {
  auto socket = connect_to(path);
  if (!socket) {
    const Error& error = socket.error();
    if (error.os_error == 0) return unreachable(error.context);
    return unreachable(fmt::format("{}: {}", error.context, std::strerror(error.os_error)));
  }
  QmpClient client(std::move(*socket), reply_timeout);
  if (auto greeted = client.greet(); !greeted) return tl::unexpected(greeted.error());
  return client;
}

CtlResult<void> QmpClient::greet() {
  auto greeting = read_message(steady_clock::now() + reply_timeout_);
  if (!greeting) return tl::unexpected(greeting.error());
  if (!*greeting) return tl::unexpected(silent());
  const Json& message = **greeting;
  if (message.contains("error")) return tl::unexpected(failure_of(message["error"]));
  if (!message.contains("QMP")) return failed("this is no QMP server: it does not greet");
  auto negotiated = execute("qmp_capabilities");
  if (!negotiated) return tl::unexpected(negotiated.error());
  return {};
}

CtlResult<Json> QmpClient::execute(std::string_view command, const Json& arguments, Timeout waits) {
  Json request{{"execute", command}};
  if (!arguments.empty()) request["arguments"] = arguments;
  auto answer = ask(request.dump(), waits);
  if (!answer) return answer;
  if (answer->contains("error")) return tl::unexpected(failure_of((*answer)["error"]));
  return std::move((*answer)["return"]);
}

CtlResult<Json> QmpClient::ask(std::string_view request, Timeout waits) {
  const auto now = steady_clock::now();
  if (auto sent = send(fmt::format("{}\r\n", request), now + reply_timeout_); !sent) {
    return tl::unexpected(sent.error());
  }
  Deadline deadline;
  if (waits) deadline = now + *waits + reply_timeout_;
  while (true) {
    auto message = read_message(deadline);
    if (!message) return tl::unexpected(message.error());
    if (!*message) return tl::unexpected(silent());
    if ((*message)->contains("return") || (*message)->contains("error")) {
      return std::move(**message);
    }
    if (!(*message)->contains("event")) return failed("the server's answer is none of QMP's");
  }
}

CtlResult<std::optional<Json>> QmpClient::next_event(Timeout timeout) {
  Deadline deadline;
  if (timeout) deadline = steady_clock::now() + *timeout;
  while (true) {
    auto message = read_message(deadline);
    if (!message || !*message || (*message)->contains("event")) return message;
  }
}

CtlResult<void> QmpClient::send(std::string_view text, Deadline deadline) {
  while (!text.empty()) {
    const auto ready = wait_for(POLLOUT, deadline);
    if (!ready) return tl::unexpected(ready.error());
    if (!*ready) return tl::unexpected(silent());
    const auto sent = ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      text.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno != EAGAIN && errno != EINTR) {
      return unreachable(fmt::format("cannot send to the server: {}", std::strerror(errno)));
    }
  }
  return {};
}

CtlResult<std::optional<Json>> QmpClient::read_message(Deadline deadline) {
  std::size_t end = 0;
  while ((end = input_.find('\n')) == std::string::npos) {
    if (input_.size() > kMaxLineBytes) return failed("the server's answer has no end");
    const auto ready = wait_for(POLLIN, deadline);
    if (!ready) return tl::unexpected(ready.error());
    if (!*ready) return std::nullopt;
    if (auto read = read_more(); !read) return tl::unexpected(read.error());
  }
  const std::string line = input_.substr(0, end);
  input_.erase(0, end + 1);
  Json message = Json::parse(line, nullptr, false);
  if (!message.is_object()) return failed("this is no QMP server: its answer is no JSON object");
  return message;
}

CtlResult<void> QmpClient::read_more() {
  std::array<char, 16 * 1024> bytes;
  const auto got = ::recv(socket_.get(), bytes.data(), bytes.size(), 0);
  if (got == 0) return unreachable("the server has closed the connection");
  if (got > 0) {
    input_.append(bytes.data(), static_cast<std::size_t>(got));
  } else if (errno != EAGAIN && errno != EINTR) {
    return unreachable(fmt::format("cannot read from the server: {}", std::strerror(errno)));
  }
  return {};
}

CtlResult<bool> QmpClient::wait_for(short events, Deadline deadline) const {
  while (true) {
    if (interrupted()) return tl::unexpected(CtlFailure{kExitInterrupted, "interrupted"});
    auto slice = kSlice;
    if (deadline) {
      const auto left = std::chrono::ceil<milliseconds>(*deadline - steady_clock::now());
      slice = std::clamp(left, milliseconds(0), kSlice);
    }
    pollfd socket{socket_.get(), events, 0};
    if (::poll(&socket, 1, static_cast<int>(slice.count())) > 0) return true;
    if (deadline && steady_clock::now() >= *deadline) return false;
  }
}

CtlFailure QmpClient::silent() const {
  return {kExitUnreachable,
          fmt::format("the server does not answer within {} ms", reply_timeout_.count())};
}

}  // namespace vballoon::tool
