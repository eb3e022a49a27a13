// SPDX-License-Identifier: MIT
#include "ctl_command.h"

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include "balloon_numbers.h"
#include "ctl_table.h"
#include "outcome.h"
#include "qmp_client.h"

namespace vballoon::tool {
namespace {

using Table = std::string (*)(const Json&);

class Ctl {
 public:
  Ctl(const CtlOptions& options, QmpClient client, std::FILE* out)
      : options_(options), client_(std::move(client)), out_(out) {}

  CtlResult<void> run() {
    switch (options_.verb) {
      case CtlVerb::kStatus:
        return show(client_.execute("vballoon-query"), status_table);
      case CtlVerb::kSet:
        return set();
      case CtlVerb::kBalloon:
        return show(client_.execute("balloon", {{"value", *options_.guest_memory_bytes}}));
      case CtlVerb::kQueryBalloon:
        return show(client_.execute("query-balloon"), memory_table);
      case CtlVerb::kStats:
        return stats();
      case CtlVerb::kPeriod:
        return show(set_period());
      case CtlVerb::kHintingStart:
        return show(client_.execute("vballoon-hinting-start"));
      case CtlVerb::kHintingStatus:
        return show(client_.execute("vballoon-hinting-status"), hinting_table);
      case CtlVerb::kHintingStop:
        return show(client_.execute("vballoon-hinting-stop"));
      case CtlVerb::kEvents:
        return events();
      case CtlVerb::kMetrics:
        return show(client_.execute("vballoon-metrics"),
                    [](const Json& answer) { return answer.at("text").get<std::string>(); });
      case CtlVerb::kQmp:
        return raw();
    }
    return {};
  }

 private:
  CtlResult<void> print(const std::string& text) const {
    if (write_results(text, out_) == kExitDone) return {};
    return tl::unexpected(CtlFailure{kExitFailed, {}});  // said already
  }

  // Without a table there is nothing that people need to be told.
  CtlResult<void> show(const CtlResult<Json>& answer, Table table = nullptr) const {
    if (!answer) return tl::unexpected(answer.error());
    if (options_.json) return print(dump(*answer, 2));
    return table != nullptr ? print(table(*answer)) : CtlResult<void>();
  }
  static std::string dump(const Json& json, int indent) {
    return json.dump(indent, ' ', true, Json::error_handler_t::replace) + "\n";
  }

  CtlResult<void> set() {
    const auto balloon = wanted_balloon();
    if (!balloon) return tl::unexpected(balloon.error());
    Json arguments{{"balloon-bytes", *balloon}};
    QmpClient::Timeout waits = std::chrono::milliseconds(0);
    if (options_.wait) {
      arguments["wait"] = true;
      waits = options_.timeout;
      if (options_.timeout) arguments["timeout-ms"] = options_.timeout->count();
    }
    return show(client_.execute("vballoon-set-target", arguments, waits), target_table);
  }

  CtlResult<std::uint64_t> wanted_balloon() {
    if (options_.balloon_bytes) return *options_.balloon_bytes;
    const auto answer = client_.execute("vballoon-query");
    if (!answer) return tl::unexpected(answer.error());
    const std::uint64_t ram = number_in(*answer, "ram-bytes");
    const std::uint64_t left = *options_.guest_memory_bytes;
    if (left <= ram) return ram - left;
    return tl::unexpected(
        CtlFailure{kExitFailed, fmt::format("the guest has {} bytes and no more", ram)});
  }

  CtlResult<void> stats() {
    while (true) {
      if (auto shown = show(client_.execute("vballoon-stats"), stats_table);
          !shown || !options_.watch) {
        return shown;
      }
      if (auto waited = wait_a_while(); !waited) return waited;
      if (!options_.json) {
        if (auto parted = print("\n"); !parted) return parted;
      }
    }
  }

  // Events that come meanwhile are nothing to us.
  CtlResult<void> wait_a_while() {
    const auto end = std::chrono::steady_clock::now() + *options_.watch;
    while (true) {
      const auto left =
          std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
      if (left.count() <= 0) return {};
      if (auto event = client_.next_event(left); !event) return tl::unexpected(event.error());
    }
  }

  CtlResult<Json> set_period() {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(options_.period);
    return client_.execute("qom-set", {{"path", "/machine/peripheral/balloon0"},
                                       {"property", "guest-stats-polling-interval"},
                                       {"value", seconds.count()}});
  }

  CtlResult<void> events() {
    while (true) {
      const auto event = client_.next_event(std::nullopt);
      if (!event) return tl::unexpected(event.error());
      auto printed = print(options_.json ? dump(**event, -1) : event_text(**event));
      if (!printed) return printed;
    }
  }

  // A request that waits is answered when it is.
  CtlResult<void> raw() {
    const Json request = Json::parse(options_.request);
    const Json arguments = request.value("arguments", Json::object());
    const bool waits = arguments.is_object() && arguments.value("wait", Json()) == Json(true);
    const auto answer =
        client_.ask(options_.request, waits ? QmpClient::Timeout() : QmpClient::Timeout(0));
    if (!answer) return tl::unexpected(answer.error());
    if (auto printed = print(dump(*answer, -1)); !printed) return printed;
    if (answer->contains("return")) return {};
    return tl::unexpected(CtlFailure{kExitFailed, {}});  // the answer says it all
  }

  const CtlOptions& options_;
  QmpClient client_;
  std::FILE* out_;
};

CtlResult<void> connect_and_run(const CtlOptions& options, std::FILE* out) {
  auto client = QmpClient::connect(options.control, options.reply_timeout);
  if (!client) return tl::unexpected(client.error());
  try {
    return Ctl(options, std::move(*client), out).run();
  } catch (const Json::exception&) {
    return tl::unexpected(CtlFailure{kExitFailed, "the server's answer is not as it should be"});
  }
}

}  // namespace

int run_ctl(const CtlOptions& options, std::FILE* out) {
  const auto done = connect_and_run(options, out);
  if (done) return kExitDone;
  const auto& [exit_code, text] = done.error();
  if (exit_code == kExitInterrupted) return report_interrupt();
  if (!text.empty()) fmt::print(stderr, "error: {}\n", text);
  return exit_code;
}

}  // namespace vballoon::tool
