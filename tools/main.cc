// SPDX-License-Identifier: MIT
// The `vballoon` command.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "compare_command.h"
#include "compare_options.h"
#include "info_command.h"
#include "interrupt.h"

namespace vballoon::tool {
namespace {

const std::map<std::string, Dialect> kModes{{"pfn", Dialect::kStandard},
                                            {"bitmap", Dialect::kPageBitmap},
                                            {"chunk", Dialect::kScatterGather}};
const std::map<std::string, DiscardStrategy> kHosts{{"per-page", DiscardStrategy::kPerPage},
                                                    {"merged", DiscardStrategy::kMerged},
                                                    {"vectored", DiscardStrategy::kVectored}};
const std::map<std::string, sim::GuestAge> kGuests{{"idle", sim::GuestAge::kIdle},
                                                   {"fragmented", sim::GuestAge::kFragmented},
                                                   {"aged", sim::GuestAge::kAged}};
const std::map<std::string, sim::NotifyMode> kNotify{{"eventfd", sim::NotifyMode::kEventfd},
                                                     {"direct", sim::NotifyMode::kDirect}};
const std::map<std::string, Backing> kBackings{
    {"anonymous", Backing::kAnonymous}, {"memfd", Backing::kMemfd}, {"hugetlb", Backing::kHugetlb}};
const std::map<std::string, ThpMode> kThp{{"off", ThpMode::kOff}, {"on", ThpMode::kOn}};
const std::map<std::string, sim::PfnOrder> kPfnOrders{{"reversed", sim::PfnOrder::kReversed},
                                                      {"allocation", sim::PfnOrder::kAllocation}};

template <typename Value>
std::vector<std::string> words_of(const std::map<std::string, Value>& choices) {
  std::vector<std::string> words;
  for (const auto& [word, value] : choices) words.push_back(word);
  return words;
}

// An option whose value is one of a few words.
template <typename Value>
void add_choice(CLI::App& app, const std::string& name, Value& value,
                const std::map<std::string, Value>& choices, const std::string& help) {
  const std::vector<std::string> words = words_of(choices);
  app.add_option_function<std::string>(
         name, [&value, &choices](const std::string& word) { value = choices.at(word); }, help)
      ->check(CLI::IsMember(words))
      ->option_text(fmt::format("{}", fmt::join(words, "|")));
}

void add_compare_options(CLI::App& app, CompareOptions& options) {
  app.add_option("--guest-memory", options.guest_memory,
                 "Memory of the guest [8GiB, less where 12 GiB are not available]")
      ->transform(CLI::AsSizeValue(false))
      ->option_text("SIZE");
  app.add_option("--inflate", options.inflate,
                 "How much the guest gives back [7/8 of its memory; 3/4 of what is free unless "
                 "the guest is idle]")
      ->transform(CLI::AsSizeValue(false))
      ->option_text("SIZE");
  app.add_option_function<std::vector<std::string>>(
         "--modes",
         [&options](const std::vector<std::string>& words) {
           options.modes.clear();
           for (const std::string& word : words) options.modes.push_back(kModes.at(word));
         },
         "Ways to name pages [pfn,bitmap,chunk]")
      ->delimiter(',')
      ->check(CLI::IsMember(words_of(kModes)))
      ->option_text("pfn,bitmap,chunk");
  add_choice(app, "--host", options.host, kHosts, "How the device asks the kernel [vectored]");
  add_choice(app, "--guest", options.guest, kGuests, "State of the guest's free memory [idle]");
  add_choice(app, "--notify", options.notify, kNotify,
             "How the two sides wake each other [eventfd]");
  add_choice(app, "--backing", options.backing, kBackings,
             "What guest memory is made of [anonymous]");
  add_choice(app, "--thp", options.thp, kThp, "Transparent huge pages [off]");
  app.add_flag("--busy-vcpu", options.busy_vcpu,
               "A second guest thread touches memory meanwhile; its loss of speed is reported");
  app.add_option("--queue-size", options.queue_size, "Entries of a virtqueue [256]")
      ->check(CLI::Range(2, static_cast<int>(kBalloonMaxQueueSize)))
      ->option_text("N");
  add_choice(app, "--pfn-order", options.pfn_order, kPfnOrders,
             "Order of a PFN array: as Linux has it today, or as allocated [reversed]");
  app.add_flag("--chunk-order-0", options.chunk_order_zero,
               "chunk takes single pages from the guest's allocator, as published");
  app.add_option("--repeat", options.repeat, "Runs of each row; medians are shown [1]")
      ->check(CLI::Range(1, 1000))
      ->option_text("N");
  app.add_option("--seed", options.seed, "Seed of an aged guest and of the page contents [1]")
      ->option_text("N");
  app.add_flag("--json", options.json, "Print one JSON document instead of the table");
  app.add_option("--plot", options.plot, "Draw stacked bars into a .svg or .png file")
      ->option_text("FILE");
  app.add_flag("--quiet", options.quiet, "No progress and no notes on stderr");
}

int run(int argc, char** argv) {
  CLI::App app{"Compares the ways in which a guest can hand memory back to its host.", "vballoon"};
  app.set_version_flag("--version", "vballoon " VBALLOON_VERSION);
  app.require_subcommand(1);
  app.footer("Exit codes: 0 done, 1 failed or not verified, 2 usage, 130 interrupted.");

  CompareOptions options;
  CLI::App& compare =
      *app.add_subcommand("compare", "Inflate and deflate a simulated guest, once for each way");
  add_compare_options(compare, options);
  compare.footer(
      "Examples:\n"
      "  vballoon compare --plot compare.svg\n"
      "  vballoon compare --guest fragmented --guest-memory 4GiB --repeat 5\n"
      "  vballoon compare --modes pfn --busy-vcpu --json\n\n"
      "Exit codes: 0 done, 1 failed or not verified, 2 usage, 130 interrupted.");
  bool info_json = false;
  CLI::App& info = *app.add_subcommand("info", "Say what this machine offers to a balloon");
  info.add_flag("--json", info_json, "Print one JSON document");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitDone : kExitUsage;
  }
  if (info.parsed()) return run_info(info_json, stdout);
  catch_interrupts();
  return run_compare(options, stdout);
}

}  // namespace
}  // namespace vballoon::tool

int main(int argc, char** argv) { return vballoon::tool::run(argc, argv); }
