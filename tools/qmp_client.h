// SPDX-License-Identifier: MIT
// The other end of a control socket. A server is believed nothing: it may be dead, silent, or no
// QMP server at all.
#ifndef VBALLOON_TOOLS_QMP_CLIENT_H_
#define VBALLOON_TOOLS_QMP_CLIENT_H_

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "base/unique_fd.h"
#include "qmp_message.h"

namespace vballoon::tool {

// Why the command ends, and with which exit code.
struct CtlFailure {
  int exit_code;
  std::string text;
};
template <typename T>
using CtlResult = tl::expected<T, CtlFailure>;

class QmpClient {
 public:
  using Timeout = std::optional<std::chrono::milliseconds>;  // nullopt: for ever

  static constexpr std::size_t kMaxLineBytes = 1024 * 1024;

  // Connects, reads the greeting and negotiates. An answer that takes longer than `reply_timeout`
  // does not come.
  [[nodiscard]] static CtlResult<QmpClient> connect(const std::string& path,
                                                    std::chrono::milliseconds reply_timeout);

  // What the command returns. The answer may come so much later than others: it is one that waits.
  [[nodiscard]] CtlResult<Json> execute(std::string_view command,
                                        const Json& arguments = Json::object(),
                                        Timeout waits = std::chrono::milliseconds(0));
  // The whole answer to a request in the user's own words.
  [[nodiscard]] CtlResult<Json> ask(std::string_view request, Timeout waits);
  // nullopt if none comes in that time.
  [[nodiscard]] CtlResult<std::optional<Json>> next_event(Timeout timeout);

 private:
  using Deadline = std::optional<std::chrono::steady_clock::time_point>;

  QmpClient(UniqueFd socket, std::chrono::milliseconds reply_timeout)
      : socket_(std::move(socket)), reply_timeout_(reply_timeout) {}

  [[nodiscard]] CtlResult<void> greet();
  [[nodiscard]] CtlResult<void> send(std::string_view text, Deadline deadline);
  // The next message of the server; nullopt at the deadline.
  [[nodiscard]] CtlResult<std::optional<Json>> read_message(Deadline deadline);
  [[nodiscard]] CtlResult<void> read_more();
  // Whether the socket is ready, or the deadline has come.
  [[nodiscard]] CtlResult<bool> wait_for(short events, Deadline deadline) const;
  [[nodiscard]] CtlFailure silent() const;

  UniqueFd socket_;
  std::chrono::milliseconds reply_timeout_;
  std::string input_;
};

// Text of a server's as a terminal may show it.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_QMP_CLIENT_H_
