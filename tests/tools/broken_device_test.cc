// SPDX-License-Identifier: MIT
// A comparison must notice a device that does anything but what it says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "comparisons.h"
#include "vballoon/discarder.h"

namespace vballoon::tool {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

// What is done in place of a run; nullopt: nothing.
using Mistake = std::function<std::optional<HostRun>(const GuestMemory&, HostRun)>;

// Discards what `mistake` makes of each run and says that it did what it was asked.
class BrokenDiscarder final : public Discarder {
 public:
  BrokenDiscarder(std::shared_ptr<const GuestMemory> memory, Mistake mistake)
      : memory_(std::move(memory)), mistake_(std::move(mistake)) {}

  void discard(std::span<const HostRun> runs, DiscardReport& report) override {
    for (const HostRun& run : runs) {
      DiscardReport unsaid;
      if (const auto done = mistake_(*memory_, run)) kernel_->discard({&*done, 1}, unsaid);
      report.freed_bytes += run.length;
      report.calls += 1;
    }
  }

 private:
  const std::shared_ptr<const GuestMemory> memory_;
  const Mistake mistake_;
  const std::unique_ptr<Discarder> kernel_ = make_kernel_discarder();
};

// The balloon stays within one block of the allocator, and grows upwards in it: behind its end
// lies memory that nobody uses, and no mistake hits what the driver needs to go on.
testing::Outcome run_with(const Mistake& mistake) {
  CompareOptions options = testing::small_options();
  options.inflate = 2 * kMiB;
  options.modes = {Dialect::kStandard};
  options.host = DiscardStrategy::kPerPage;
  options.make_discarder = [&](DiscardStrategy, const std::shared_ptr<const GuestMemory>& memory) {
    return std::make_unique<BrokenDiscarder>(memory, mistake);
  };
  return testing::run(options);
}

// What the only row of a comparison says.
nlohmann::ordered_json result_of(const testing::Outcome& outcome) {
  return outcome.document()["results"][0];
}

MATCHER(NotVerified, "exits with 1 and says that the row is not verified") {
  return arg.exit_code == kExitFailed && result_of(arg)["verified"] == false;
}

TEST(BrokenDeviceTest, HonestDeviceIsVerified) {
  const auto outcome = run_with([](const GuestMemory&, HostRun run) { return run; });

  EXPECT_EQ(outcome.exit_code, kExitDone);
  EXPECT_EQ(result_of(outcome)["verified"], true);
  EXPECT_FALSE(result_of(outcome).contains("failure"));
}

TEST(BrokenDeviceTest, PageTooManyIsNoticed) {
  const auto outcome = run_with([](const GuestMemory&, HostRun run) {
    run.length += kPageSize;
    return run;
  });

  ASSERT_THAT(outcome, NotVerified());
  EXPECT_EQ(result_of(outcome)["failure"],
            "the device says it freed 2097152 bytes, resident memory shrank by 2101248");
}

TEST(BrokenDeviceTest, PageTooFewIsNoticed) {
  const auto outcome = run_with([freed = 0](const GuestMemory&, HostRun run) mutable {
    if (freed++ == 0) run.length -= kPageSize;
    return run;
  });

  ASSERT_THAT(outcome, NotVerified());
  EXPECT_EQ(result_of(outcome)["failure"],
            "the device says it freed 2097152 bytes, resident memory shrank by 2093056");
}

TEST(BrokenDeviceTest, NothingFreedIsNoticed) {
  const auto outcome = run_with([](const GuestMemory&, HostRun) { return std::nullopt; });

  ASSERT_THAT(outcome, NotVerified());
  EXPECT_EQ(result_of(outcome)["failure"],
            "the device says it freed 2097152 bytes, resident memory shrank by 0");
}

TEST(BrokenDeviceTest, NeighboursPageIsNoticed) {
  const auto outcome = run_with([](const GuestMemory&, HostRun run) {
    run.address += kPageSize;
    return run;
  });

  ASSERT_THAT(outcome, NotVerified());
  EXPECT_THAT(result_of(outcome)["failure"].get<std::string>(),
              MatchesRegex("page 0x[0-9a-f]+ lost its contents outside the balloon"));
}

// Takes a guest-physical address for an offset into all of guest memory, as if it had no hole.
HostRun without_hole(const GuestMemory& memory, const HostRun& run) {
  const auto offset = static_cast<std::uint64_t>(run.address - run.region->host);
  const std::uint64_t wrong =
      std::min(run.region->guest_address + offset, memory.bytes() - run.length);
  const auto region = std::ranges::find_if(memory.regions(), [&](const MemoryRegion& candidate) {
    const std::uint64_t first = candidate.first_page_index << kPageShift;
    return wrong >= first && wrong + run.length <= first + candidate.bytes;
  });
  const std::uint64_t first = region->first_page_index << kPageShift;
  return {region->host + (wrong - first), run.length, &*region};
}

TEST(BrokenDeviceTest, TranslationAcrossAHoleIsNoticed) {
  const auto outcome = run_with(without_hole);

  ASSERT_THAT(outcome, NotVerified());
  EXPECT_THAT(result_of(outcome)["failure"].get<std::string>(),
              AllOf(HasSubstr("the device says it freed 2097152 bytes"),
                    HasSubstr("resident memory shrank by")));
}

}  // namespace
}  // namespace vballoon::tool
