// SPDX-License-Identifier: MIT
#include "qmp_message.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cstddef>
#include <set>
#include <utility>
#include <vector>

namespace vballoon::tool {
namespace {

// What came in is valid UTF-8; what others gave us may be anything and must not throw.
template <typename Any>
std::string ascii(const Any& json) {
  return json.dump(-1, ' ', true, Any::error_handler_t::replace);
}

// JSON lets a key come twice, and the parser takes the last one; then two readers of one request
// could see different things.
class KeysOnce {
 public:
  // For each event of the parser; true keeps what was parsed.
  bool operator()(int, Arguments::parse_event_t event, Arguments& parsed) {
    using Event = Arguments::parse_event_t;
    if (event == Event::object_start) keys_.emplace_back();
    if (event == Event::object_end) keys_.pop_back();
    if (event == Event::key) {
      twice_ = twice_ || !keys_.back().insert(parsed.get<std::string>()).second;
    }
    return true;
  }
  [[nodiscard]] bool twice() const { return twice_; }

 private:
  std::vector<std::set<std::string>> keys_;  // of the objects we are in
  bool twice_ = false;
};

tl::expected<Arguments, QmpError> parse(std::string_view text) {
  KeysOnce keys;
  try {
    Arguments parsed = Arguments::parse(text, std::ref(keys));
    if (keys.twice()) return refuse(kGenericError, "JSON parse error, duplicate key");
    return parsed;
  } catch (const Arguments::parse_error& error) {
    return refuse(kGenericError, fmt::format("JSON parse error at byte {}", error.byte));
  } catch (const Arguments::exception&) {
    return refuse(kGenericError, "JSON parse error, number out of range");
  }
}

tl::expected<QmpRequest, QmpError> request_of(Arguments& object) {
  QmpRequest request;
  bool named = false;
  for (auto& [key, value] : object.items()) {
    if (key == "execute") {
      if (!value.is_string()) {
        return refuse(kGenericError, "QMP input member 'execute' must be a string");
      }
      request.command = value.get<std::string>();
      named = true;
    } else if (key == "arguments") {
      if (!value.is_object()) {
        return refuse(kGenericError, "QMP input member 'arguments' must be an object");
      }
      request.arguments = std::move(value);
    } else if (key != "id") {
      return refuse(kGenericError, fmt::format("QMP input member '{}' is unexpected", key));
    }
  }
  if (!named) return refuse(kGenericError, "QMP input lacks member 'execute'");
  return request;
}

}  // namespace

ReadRequest read_request(std::string_view text) {
  auto parsed = parse(text);
  if (!parsed) return {{}, tl::unexpected(parsed.error())};
  if (!parsed->is_object()) {
    return {{}, refuse(kGenericError, "QMP input must be a JSON object")};
  }
  const auto id = parsed->find("id");
  std::string id_text = id == parsed->end() ? std::string() : ascii(*id);
  return {std::move(id_text), request_of(*parsed)};
}

Json version_json(std::string_view version) {
  std::array<int, 3> numbers{};
  const char* at = version.data();
  const char* const end = version.data() + version.size();
  for (int& number : numbers) {
    at = std::from_chars(at, end, number).ptr;
    if (at != end) ++at;
  }
  return {{"qemu", {{"major", numbers[0]}, {"minor", numbers[1]}, {"micro", numbers[2]}}},
          {"package", fmt::format("vballoon {}", version)}};
}

std::string greeting_line(std::string_view version) {
  const Json greeting{
      {"QMP", {{"version", version_json(version)}, {"capabilities", Json::array()}}}};
  return ascii(greeting) + "\r\n";
}

std::string answer_line(const Answer& answer, std::string_view id) {
  const std::string result =
      answer ? fmt::format(R"("return": {})", ascii(*answer))
             : fmt::format(R"("error": {})", ascii(Json{{"class", answer.error().error_class},
                                                        {"desc", answer.error().desc}}));
  if (id.empty()) return fmt::format("{{{}}}\r\n", result);
  return fmt::format("{{{}, \"id\": {}}}\r\n", result, id);
}

std::string event_line(std::string_view name, const Json& data,
                       std::chrono::nanoseconds wall_time) {
  const auto microseconds =
      std::chrono::duration_cast<std::chrono::microseconds>(wall_time).count();
  const Json event{
      {"event", name},
      {"data", data},
      {"timestamp",
       {{"seconds", microseconds / 1'000'000}, {"microseconds", microseconds % 1'000'000}}}};
  return ascii(event) + "\r\n";
}

}  // namespace vballoon::tool
