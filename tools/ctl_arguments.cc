// SPDX-License-Identifier: MIT
#include "ctl_arguments.h"

#include <fmt/format.h>

#include <chrono>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "option_kinds.h"

namespace vballoon::tool {
namespace {

using std::chrono::milliseconds;

CLI::App& add_verb(CLI::App& ctl, CtlOptions& options, CtlVerb verb, const std::string& name,
                   const std::string& help) {
  CLI::App& app = *ctl.add_subcommand(name, help);
  app.callback([&options, verb] { options.verb = verb; });
  return app;
}

void add_set(CLI::App& ctl, CtlOptions& options) {
  CLI::App& set =
      add_verb(ctl, options, CtlVerb::kSet, "set", "Say how large the balloon is to be");
  CLI::App& size = *set.add_option_group("size", "One of the two");
  add_size(size, "--balloon", options.balloon_bytes, "What the guest gives up");
  add_size(size, "--guest-memory", options.guest_memory_bytes, "What is left to the guest");
  size.require_option(1);
  CLI::Option& wait = *set.add_flag("--wait", options.wait, "Until the guest has got there");
  add_duration(set, "--timeout", options.timeout, "How long to wait at most [for ever]");
  set.get_option("--timeout")->needs(&wait)->check([](const std::string& text) {
    const auto time = parse_duration(text);
    return time && *time > std::chrono::hours(24) ? std::string("a day is the longest time")
                                                  : std::string();
  });
}

// As QEMU names it.
void add_balloon(CLI::App& ctl, CtlOptions& options) {
  CLI::App& balloon = add_verb(ctl, options, CtlVerb::kBalloon, "balloon",
                               "As in QEMU: say what is left to the guest");
  add_size(balloon, "size", options.guest_memory_bytes, "Memory left; beyond what it has: all");
  balloon.get_option("size")->required();
}

void add_stats(CLI::App& ctl, CtlOptions& options) {
  CLI::App& stats =
      add_verb(ctl, options, CtlVerb::kStats, "stats", "Show what the guest says about its memory");
  add_duration(stats, "--watch", options.watch, "Again and again, so often");
}

void add_period(CLI::App& ctl, CtlOptions& options) {
  CLI::App& period = add_verb(ctl, options, CtlVerb::kPeriod, "period",
                              "Say how often the guest is asked for statistics");
  period
      .add_option_function<std::string>(
          "time",
          [&options](const std::string& text) {
            const auto time = parse_duration(text);
            const bool whole = time && *time % std::chrono::seconds(1) == milliseconds(0);
            if (!whole ||
                *time / std::chrono::seconds(1) > std::numeric_limits<std::uint32_t>::max()) {
              throw CLI::ValidationError(
                  "period", fmt::format("'{}' is no number of seconds; write 2s or 0s", text));
            }
            options.period = *time;
          },
          "A number of seconds; 0s: never")
      ->type_name("TIME")
      ->required();
}

void add_hinting(CLI::App& ctl, CtlOptions& options) {
  CLI::App& hinting = *ctl.add_subcommand("hinting", "Ask the guest which pages are free");
  hinting.require_subcommand(1);
  add_verb(hinting, options, CtlVerb::kHintingStart, "start", "Begin a round");
  add_verb(hinting, options, CtlVerb::kHintingStatus, "status", "Show how far it is");
  add_verb(hinting, options, CtlVerb::kHintingStop, "stop", "Let the guest have its pages back");
}

void add_qmp(CLI::App& ctl, CtlOptions& options) {
  CLI::App& qmp = add_verb(ctl, options, CtlVerb::kQmp, "qmp", "Send a request as it is");
  qmp.add_option_function<std::string>(
         "request",
         [&options](const std::string& text) {
           if (!nlohmann::json::parse(text, nullptr, false).is_object()) {
             throw CLI::ValidationError("qmp", fmt::format("'{}' is no JSON object", text));
           }
           options.request = text;
         },
         "A JSON object: {\"execute\": ...}")
      ->type_name("JSON")
      ->required();
}

}  // namespace

CLI::App& add_ctl(CLI::App& app, CtlOptions& options) {
  CLI::App& ctl = *app.add_subcommand("ctl", "Control and observe a balloon that is served");
  // --control and --json may stand behind the verb too.
  ctl.fallthrough();
  ctl.require_subcommand(0, 1);
  ctl.add_option("--control", options.control, "The control socket of vballoon serve")
      ->type_name("PATH")
      ->required();
  ctl.add_flag("--json", options.json, "Print JSON, for programs");
  add_verb(ctl, options, CtlVerb::kStatus, "status", "Show the state and both sizes");
  add_set(ctl, options);
  add_stats(ctl, options);
  add_period(ctl, options);
  add_hinting(ctl, options);
  add_verb(ctl, options, CtlVerb::kEvents, "events", "Show events as they come");
  add_verb(ctl, options, CtlVerb::kMetrics, "metrics", "Show counters, for Prometheus");
  add_qmp(ctl, options);
  add_balloon(ctl, options);
  add_verb(ctl, options, CtlVerb::kQueryBalloon, "query-balloon",
           "As in QEMU: show what is left to the guest");
  ctl.footer(
      "Examples:\n"
      "  vballoon ctl --control balloon.ctl status\n"
      "  vballoon ctl --control balloon.ctl set --guest-memory 768MiB --wait --timeout 5s\n"
      "  vballoon ctl --control balloon.ctl stats --watch 2s\n\n"
      "Exit codes: 0 done, 1 failed, 2 usage, 3 nobody answers, 4 target not reached in time,\n"
      "130 interrupted.");
  return ctl;
}

}  // namespace vballoon::tool
