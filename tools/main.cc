// SPDX-License-Identifier: MIT
// The `vballoon` command.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "compare_command.h"
#include "compare_options.h"
#include "ctl_arguments.h"
#include "info_command.h"
#include "interrupt.h"
#include "migrate_command.h"
#include "option_kinds.h"
#include "replay_command.h"
#include "serve_command.h"
#include "terminal.h"
#include "thp_command.h"
#include "vballoon/balloon_device.h"
#include "wire/dialect.h"

namespace vballoon::tool {
namespace {

Choices<Dialect> all_modes() {
  Choices<Dialect> all;
  for (const DialectRow& row : all_dialects()) all.emplace_back(row.name, row.dialect);
  return all;
}

Choices<ThpPolicy> all_policies() {
  Choices<ThpPolicy> all;
  for (const ThpPolicy& policy : kThpPolicies) all.emplace_back(policy.name, policy);
  return all;
}

Choices<Help> all_helps() {
  Choices<Help> all;
  for (const Help& help : kHelps) all.emplace_back(help.name, help);
  return all;
}

const Choices<Help> kAllHelps = all_helps();
const Choices<Dialect> kModes = all_modes();
const Choices<ThpPolicy> kPolicies = all_policies();
const Choices<DiscardStrategy> kHosts{{"per-page", DiscardStrategy::kPerPage},
                                      {"merged", DiscardStrategy::kMerged},
                                      {"vectored", DiscardStrategy::kVectored}};
const Choices<sim::GuestAge> kGuests{{"idle", sim::GuestAge::kIdle},
                                     {"fragmented", sim::GuestAge::kFragmented},
                                     {"aged", sim::GuestAge::kAged}};
const Choices<sim::NotifyMode> kNotify{{"eventfd", sim::NotifyMode::kEventfd},
                                       {"direct", sim::NotifyMode::kDirect}};
const Choices<Backing> kBackings{
    {"anonymous", Backing::kAnonymous}, {"memfd", Backing::kMemfd}, {"hugetlb", Backing::kHugetlb}};
const Choices<ThpMode> kThp{{"off", ThpMode::kOff}, {"on", ThpMode::kOn}};
const Choices<bool> kOnOff{{"off", false}, {"on", true}};
const Choices<std::optional<sim::PfnOrder>> kPfnOrders{{"reversed", sim::PfnOrder::kReversed},
                                                       {"allocation", sim::PfnOrder::kAllocation}};

void add_guest_options(CLI::App& app, CompareOptions& options) {
  app.option_defaults()->group("The guest");
  add_size(app, "--guest-memory", options.guest_memory,
           "Its memory [8GiB; less if under 12GiB are free]");
  add_size(app, "--inflate", options.inflate, "Given back [7/8 of it; not idle: 3/4 of free]");
  add_choice(app, "--guest", options.guest, kGuests, "State of its free memory [idle]");
  add_choice(app, "--compaction", options.compaction, kOnOff,
             "It moves pages to come to large blocks, for cont [on]");
  add_choice(app, "--backing", options.backing, kBackings,
             "What its memory is made of [anonymous]");
  add_choice(app, "--thp", options.thp, kThp, "Transparent huge pages [off]");
  app.add_flag("--busy-vcpu", options.busy_vcpu,
               "A second vCPU works meanwhile; shows what it loses");
  add_number(app, "--seed", options.seed, 0, UINT64_MAX,
             "Seed of an aged guest and of page contents [1]");
}

void add_way_options(CLI::App& app, CompareOptions& options) {
  app.option_defaults()->group("The ways to give memory back");
  add_choices(app, "--modes", options.modes, kModes,
              "How the guest names pages: one or more [pfn,bitmap,chunk]");
  add_choice(app, "--host", options.host, kHosts, "How the device asks the kernel [vectored]");
  app.add_flag("--write-behind", options.write_behind,
               "Rows MODE/write-behind too: answered first, discarded later");
  add_number(app, "--poll-us", options.poll_us, 0, 1'000'000,
             "Both threads look that long before they sleep; not in the baseline [0]");
  add_choice(app, "--notify", options.notify, kNotify, "How both wake each other [eventfd]");
  add_number(app, "--queue-size", options.queue_size, 2, kBalloonMaxQueueSize,
             "Entries of a virtqueue, 2 to 1024 [256]");
  add_choice(app, "--pfn-order", options.pfn_order, kPfnOrders,
             "Order of a PFN array, Linux reverses [reversed]");
  app.add_flag("--chunk-order-0", options.chunk_order_zero,
               "chunk takes single pages, as published");
  app.add_flag("--faithful", options.faithful,
               "All that a host sees of the published drivers, and no mistakes");
}

void add_output_options(CLI::App& app, CompareOptions& options) {
  app.option_defaults()->group("The results");
  add_number(app, "--repeat", options.repeat, 1, 1000, "Runs of each row; medians are shown [1]");
  app.add_flag("--json", options.json, "Print one JSON document instead of the tables");
  app.add_option("--plot", options.plot, "Draw stacked bars into a .svg or .png file")
      ->type_name("FILE");
  app.add_flag("--quiet", options.quiet, "No progress and no notes on stderr");
}

void add_migrate_options(CLI::App& app, MigrateOptions& options) {
  add_size(app, "--guest-memory", options.guest_memory,
           "Memory of the guest; both sides need it [8GiB; less where memory is short]");
  add_size(app, "--free", options.free, "Of that, not in use [3/4]");
  add_choices(app, "--helps", options.helps, kAllHelps, "What helps: one or more [all]");
  add_size(app, "--bandwidth", options.bandwidth, "Of the link, bytes a second [unlimited]");
  add_size(app, "--write-rate", options.write_rate,
           "What the guest writes meanwhile, bytes a second [100MiB]");
  add_number(app, "--seed", options.seed, 0, UINT32_MAX, "Seed of what the guest does [1]");
  app.add_flag("--faithful", options.faithful,
               "As published: a full ring leaves out free pages of control-queue");
  app.add_flag("--json", options.json, "Print one JSON document instead of the table");
  app.add_option("--plot", options.plot, "Draw stacked bars into a .svg or .png file")
      ->type_name("FILE");
  app.add_flag("--quiet", options.quiet, "No progress and no notes on stderr");
  app.footer(
      "Examples:\n"
      "  vballoon migrate --plot migrate.svg\n"
      "  vballoon migrate --guest-memory 1GiB --helps plain,hints --bandwidth 500MiB\n\n"
      "Exit codes: 0 done, 1 failed or not verified, 2 usage, 130 interrupted.");
}

void add_serve_options(CLI::App& app, ServeOptions& options) {
  app.add_option("--socket", options.socket, "Where front ends of vhost-user connect")
      ->type_name("PATH")
      ->required();
  app.add_option("--control", options.control, "Where clients control the balloon (vballoon ctl)")
      ->type_name("PATH");
  options.version = VBALLOON_VERSION;
  std::string defaults;
  Choices<Feature> features;
  for (const auto& [name, feature] : kServedFeatures) {
    features.emplace_back(name, feature);
    if (!options.features.has(feature)) continue;
    defaults += defaults.empty() ? name : fmt::format(",{}", name);
  }
  app.add_option_function<std::vector<std::string>>(
         "--features",
         [&options, features](const std::vector<std::string>& words) {
           options.features = Features();
           for (const std::string& word : words) {
             options.features = options.features.with(value_of("--features", word, features));
           }
         },
         fmt::format("What is offered to the driver [{}]", defaults))
      ->delimiter(',')
      ->type_name(words_of(features, ","));
  add_size(app, "--target", options.target_bytes, "Size of the balloon to begin with [0]");
  app.add_flag("--write-behind", options.write_behind,
               "Inflates are answered first and discarded later, if the driver allows it");
  app.add_option("--trace", options.trace, "Record what driver and device do, for replay")
      ->type_name("FILE");
  app.footer(
      "Example, with a guest of Debian's user-mode-linux:\n"
      "  vballoon serve --socket balloon.sock --target 64MiB\n"
      "  linux.uml mem=256M ... virtio_uml.device=balloon.sock:5\n\n"
      "Exit codes: 0 ended by SIGTERM or SIGINT, 1 failed, 2 usage.");
}

int run(int argc, char** argv) {
  CLI::App app{"Compares the ways in which a guest can hand memory back to its host.", "vballoon"};
  app.set_version_flag("--version", "vballoon " VBALLOON_VERSION);
  app.require_subcommand(0, 1);
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return fmt::format("error: {}\nRun with --help for more information.\n", error.what());
  });
  app.footer("Exit codes: 0 done, 1 failed or not verified, 2 usage, 130 interrupted.");

  CompareOptions options;
  CLI::App& compare =
      *app.add_subcommand("compare", "Inflate and deflate a simulated guest, once for each way");
  add_guest_options(compare, options);
  add_way_options(compare, options);
  add_output_options(compare, options);
  compare.footer(
      "Examples:\n"
      "  vballoon compare --plot compare.svg\n"
      "  vballoon compare --guest fragmented --guest-memory 4GiB --repeat 5\n"
      "  vballoon compare --modes pfn --busy-vcpu --json\n\n"
      "Exit codes: 0 done, 1 failed or not verified, 2 usage, 130 interrupted.");
  ThpOptions thp_options;
  CLI::App& thp = *app.add_subcommand("thp", "Show how many huge pages a balloon leaves whole");
  add_choices(thp, "--modes", thp_options.modes, kModes,
              "How the guest names pages [pfn,cont,chunk,bitmap]");
  add_choices(thp, "--policies", thp_options.policies, kPolicies,
              "What the host does about huge pages [all of them]");
  add_choice(thp, "--compaction", thp_options.compaction, kOnOff,
             "The guest moves pages to come to large blocks [on]");
  thp.add_flag("--json", thp_options.json, "Print one JSON document instead of the table");
  thp.add_flag("--quiet", thp_options.quiet, "No progress on stderr");
  thp.footer("Exit codes: 0 done, 1 failed or not verified, 2 usage, 130 interrupted.");
  MigrateOptions migrate_options;
  CLI::App& migrate = *app.add_subcommand(
      "migrate", "Migrate a running guest to another process, with and without help");
  add_migrate_options(migrate, migrate_options);
  ServeOptions serve_options;
  CLI::App& serve = *app.add_subcommand("serve", "Be the balloon of a guest that runs elsewhere");
  add_serve_options(serve, serve_options);
  CtlOptions ctl_options;
  const CLI::App& ctl = add_ctl(app, ctl_options);
  ReplayOptions replay_options;
  CLI::App& replay = *app.add_subcommand("replay", "Play what `serve --trace` recorded again");
  replay.add_option("file", replay_options.path, "The trace")->type_name("FILE")->required();
  replay.add_flag("--json", replay_options.json, "Print one JSON document instead of the table");
  replay.footer(
      "Exit codes: 0 clean, 1 failed or the driver did something wrong, 2 usage, 130 interrupted.");
  bool info_json = false;
  CLI::App& info = *app.add_subcommand("info", "Say what this machine offers to a balloon");
  info.add_flag("--json", info_json, "Print one JSON document");

  try {
    app.parse(argc, argv);
    // Checked here, so that a wrong word is called wrong and not missing.
    if (app.get_subcommands().empty()) throw CLI::RequiredError("A subcommand");
    if (ctl.parsed() && ctl.get_subcommands().empty()) throw CLI::RequiredError("A verb of ctl");
    if (options.poll_us != 0 && options.notify == sim::NotifyMode::kDirect) {
      throw CLI::ValidationError("--poll-us", "with --notify direct no thread sleeps");
    }
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitDone : kExitUsage;
  }
  if (info.parsed()) return run_info(info_json, stdout);
  if (serve.parsed()) return run_serve(serve_options);
  if (replay.parsed()) return run_replay(replay_options, stdout);
  catch_interrupts();
  if (ctl.parsed()) return run_ctl(ctl_options, stdout);
  if (thp.parsed()) return run_thp_command(thp_options, stdout);
  if (migrate.parsed()) {
    if (!migrate_options.quiet) migrate_options.log = terminal_log();
    return run_migrate(migrate_options, stdout);
  }
  if (!options.quiet) options.log = terminal_log();
  return run_compare(options, stdout);
}

}  // namespace
}  // namespace vballoon::tool

int main(int argc, char** argv) {
  try {
    return vballoon::tool::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return vballoon::tool::kExitFailed;
  }
}
