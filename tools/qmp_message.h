// SPDX-License-Identifier: MIT
// The messages of QMP: requests are read, everything a server says is written.
//
// Every line that is written is one JSON object in ASCII and ends with CRLF.
#ifndef VBALLOON_TOOLS_QMP_MESSAGE_H_
#define VBALLOON_TOOLS_QMP_MESSAGE_H_

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace vballoon::tool {

// What is said, in the order in which it was put together.
using Json = nlohmann::ordered_json;
// What a client sent: sorted, so that many keys cost no more than they must.
using Arguments = nlohmann::json;

// Error classes, by which programs tell errors apart; the first four are QEMU's.
inline constexpr std::string_view kGenericError = "GenericError";
inline constexpr std::string_view kCommandNotFound = "CommandNotFound";
inline constexpr std::string_view kDeviceNotActive = "DeviceNotActive";
inline constexpr std::string_view kDeviceNotFound = "DeviceNotFound";
inline constexpr std::string_view kInvalidTarget = "InvalidTarget";
inline constexpr std::string_view kFeatureNotNegotiated = "FeatureNotNegotiated";
inline constexpr std::string_view kTargetNotReached = "TargetNotReached";
inline constexpr std::string_view kSuperseded = "Superseded";

struct QmpError {
  std::string_view error_class;
  std::string desc;
};
using Answer = tl::expected<Json, QmpError>;

[[nodiscard]] inline tl::unexpected<QmpError> refuse(std::string_view error_class,
                                                     std::string desc) {
  return tl::unexpected(QmpError{error_class, std::move(desc)});
}

struct QmpRequest {
  std::string command;
  Arguments arguments = Arguments::object();
};

struct ReadRequest {
  std::string id;  // as JSON text; empty when the client gave none, or none that could be read
  tl::expected<QmpRequest, QmpError> request;
};

// Believes nothing: a text that is no JSON, has a key twice, or is no request is an error.
[[nodiscard]] ReadRequest read_request(std::string_view text);

// {"qemu": {"major", "minor", "micro"}, "package"} of a version "X.Y.Z".
[[nodiscard]] Json version_json(std::string_view version);
[[nodiscard]] std::string greeting_line(std::string_view version);
[[nodiscard]] std::string answer_line(const Answer& answer, std::string_view id);
// `wall_time` is since 1970.
[[nodiscard]] std::string event_line(std::string_view name, const Json& data,
                                     std::chrono::nanoseconds wall_time);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_QMP_MESSAGE_H_
