// SPDX-License-Identifier: MIT
// The commands that QEMU has as well, with the requests that its documentation, libvirt and Proxmox
// print and send.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "balloon_numbers.h"
#include "controlled_device.h"

namespace vballoon::tool {
namespace {

using testing::ControlledDevice;
using ::testing::HasSubstr;
using testing::kRamBytes;
using namespace std::chrono_literals;

constexpr std::string_view kDone = "{\"return\": {}}\r\n";
constexpr std::string_view kInactive =
    R"({"error": {"class":"DeviceNotActive","desc":"No balloon device has been activated"}})"
    "\r\n";
constexpr std::string_view kNoSize =
    R"({"error": {"class":"GenericError","desc":"Parameter 'value' expects a size"}})"
    "\r\n";

class QemuCommandsTest : public ::testing::Test {
 protected:
  QemuCommandsTest() { controlled_.rig().start(); }

  // The answer, without the events of what happened before.
  std::string say(std::string_view text) {
    controlled_.settle();
    ControlledDevice::read(client_);
    return controlled_.say(client_, text);
  }
  std::string balloon(const std::string& value) {
    return say(R"({"execute": "balloon", "arguments": {"value": )" + value + "}}");
  }
  nlohmann::json guest_stats() {
    return nlohmann::json::parse(
        say(R"({"execute": "qom-get", "arguments": {"path": "/machine/peripheral/balloon0",
                "property": "guest-stats"}})"))["return"];
  }

  ControlledDevice controlled_;
  QmpSession& client_ = controlled_.connect_ready();
};

TEST_F(QemuCommandsTest, VersionIsThatOfTheGreeting) {
  EXPECT_EQ(say(R"({"execute": "query-version"})"),
            R"({"return": {"qemu":{"major":1,"minor":2,"micro":3},"package":"vballoon 1.2.3"}})"
            "\r\n");
}

TEST_F(QemuCommandsTest, CommandsAreNamed) {
  const auto answer = nlohmann::json::parse(say(R"({"execute": "query-commands"})"));

  EXPECT_EQ(answer["return"], nlohmann::json::parse(R"([
      {"name": "qmp_capabilities"}, {"name": "query-version"}, {"name": "query-commands"},
      {"name": "quit"}, {"name": "balloon"}, {"name": "query-balloon"}, {"name": "qom-get"},
      {"name": "qom-set"}, {"name": "vballoon-query"}, {"name": "vballoon-set-target"},
      {"name": "vballoon-stats"}, {"name": "vballoon-hinting-start"},
      {"name": "vballoon-hinting-status"}, {"name": "vballoon-hinting-stop"},
      {"name": "vballoon-metrics"}])"));
}

TEST_F(QemuCommandsTest, QuitIsAnsweredAndWanted) {
  EXPECT_EQ(say(R"({"execute": "quit"})"), kDone);

  EXPECT_TRUE(controlled_.control().quit_wanted());
}

// ---- balloon -------------------------------------------------------------------------------

TEST_F(QemuCommandsTest, BalloonSaysWhatIsLeftToTheGuest) {
  EXPECT_EQ(balloon("6291456"), kDone);

  EXPECT_EQ(target_bytes(controlled_.device()), kRamBytes - 6291456);
}

TEST_F(QemuCommandsTest, RequestOfTheDocumentationBeyondGuestMemoryEmptiesTheBalloon) {
  balloon("4194304");

  EXPECT_EQ(say(R"({ "execute": "balloon", "arguments": { "value": 536870912 } })"), kDone);

  EXPECT_EQ(target_bytes(controlled_.device()), 0u);
}

TEST_F(QemuCommandsTest, RestOfAPageIsLeftToTheGuest) {
  EXPECT_EQ(balloon("8384513"), kDone);  // 4095 bytes less than all

  EXPECT_EQ(target_bytes(controlled_.device()), 0u);
}

TEST_F(QemuCommandsTest, OneByteFillsTheBalloonButForAPage) {
  EXPECT_EQ(balloon("1"), kDone);

  EXPECT_EQ(target_bytes(controlled_.device()), kRamBytes - kPageSize);
}

TEST_F(QemuCommandsTest, ZeroIsNoSize) { EXPECT_EQ(balloon("0"), kNoSize); }

TEST_F(QemuCommandsTest, NegativeIsNoSize) { EXPECT_EQ(balloon("-4096"), kNoSize); }

TEST_F(QemuCommandsTest, WithoutADriverThereIsNoActiveBalloon) {
  controlled_.rig().reset();

  EXPECT_EQ(balloon("4096"), kInactive);
  EXPECT_EQ(say(R"({"execute": "query-balloon"})"), kInactive);
}

TEST_F(QemuCommandsTest, WithoutAGuestThereIsNoActiveBalloon) {
  ASSERT_TRUE(controlled_.device().set_memory(GuestMemory::borrow({}).value()));

  EXPECT_EQ(balloon("4096"), kInactive);
  EXPECT_EQ(say(R"({"execute": "query-balloon"})"), kInactive);
}

TEST_F(QemuCommandsTest, QueryBalloonSaysWhatIsLeftToTheGuest) {
  controlled_.say_actual(256);

  EXPECT_EQ(say(R"({ "execute": "query-balloon" })"), "{\"return\": {\"actual\":7340032}}\r\n");
}

TEST_F(QemuCommandsTest, GuestThatSaysThatItGaveMoreThanItHasHasNothingLeft) {
  controlled_.say_actual(0xFFFFFFFF);

  EXPECT_EQ(say(R"({"execute": "query-balloon"})"), "{\"return\": {\"actual\":0}}\r\n");
}

RC_GTEST_PROP(BalloonNumbersTest, WhatIsLeftOfABalloonThatLeavesSoMuchIsThatMuch, ()) {
  const auto ram_pages = *rc::gen::inRange<std::uint64_t>(1, std::uint64_t{1} << 40);
  const auto left_pages = *rc::gen::inRange<std::uint64_t>(0, ram_pages + 1);

  const std::uint64_t ram = ram_pages * kPageSize;
  const std::uint64_t left = left_pages * kPageSize;

  RC_ASSERT(memory_left(ram, balloon_that_leaves(ram, left)) == left);
}

// ---- statistics ----------------------------------------------------------------------------

// As docs/interop/virtio-balloon-stats.rst prints it, over three lines.
std::string documented_interval(const std::string& property, int seconds) {
  return "  { \"execute\": \"qom-set\",\n"
         "               \"arguments\": { \"path\": \"/machine/peripheral-anon/device[1]\",\n"
         "               \"property\": \"" +
         property + "\", \"value\": " + std::to_string(seconds) + " } }\n";
}

TEST_F(QemuCommandsTest, DocumentedRequestsSetTheInterval) {
  EXPECT_EQ(say(documented_interval("guest-stats-polling-interval", 2)), kDone);
  EXPECT_EQ(controlled_.device().stats_interval(), 2s);

  EXPECT_EQ(say(documented_interval("guest-stats-polling-interval", 10)), kDone);
  EXPECT_EQ(controlled_.device().stats_interval(), 10s);
}

TEST_F(QemuCommandsTest, DocumentedRequestThatNamesThePropertyOtherwiseStopsPolling) {
  say(documented_interval("guest-stats-polling-interval", 2));

  EXPECT_EQ(say(documented_interval("stats-polling-interval", 0)), kDone);

  EXPECT_EQ(controlled_.device().stats_interval(), 0s);
}

TEST_F(QemuCommandsTest, DocumentedRequestReadsTheStatistics) {
  controlled_.send_stats({{1, 0}, {4, 844943360}, {3, 219028}, {2, 235}, {5, 1044406272}, {0, 0}});

  const auto answer = nlohmann::json::parse(
      say("  { \"execute\": \"qom-get\",\n"
          "               \"arguments\": { \"path\": \"/machine/peripheral-anon/device[1]\",\n"
          "               \"property\": \"guest-stats\" } }\n"));

  EXPECT_EQ(answer, nlohmann::json::parse(R"({"return": {"stats": {
      "stat-swap-out": 0, "stat-free-memory": 844943360, "stat-minor-faults": 219028,
      "stat-major-faults": 235, "stat-total-memory": 1044406272, "stat-swap-in": 0,
      "stat-available-memory": 18446744073709551615, "stat-disk-caches": 18446744073709551615,
      "stat-htlb-pgalloc": 18446744073709551615, "stat-htlb-pgfail": 18446744073709551615,
      "stat-oom-kills": 18446744073709551615, "stat-alloc-stalls": 18446744073709551615,
      "stat-async-scans": 18446744073709551615, "stat-direct-scans": 18446744073709551615,
      "stat-async-reclaims": 18446744073709551615,
      "stat-direct-reclaims": 18446744073709551615}, "last-update": 1358529861}})"));
}

TEST_F(QemuCommandsTest, StatisticsThatNeverCameWereLastUpdatedAtZero) {
  EXPECT_EQ(guest_stats()["last-update"], 0);
  EXPECT_EQ(guest_stats()["stats"]["stat-free-memory"], 18446744073709551615u);
}

TEST_F(QemuCommandsTest, LastUpdateIsATimeOfTheHost) {
  controlled_.send_stats({{4, 1}});

  controlled_.wait(7s);

  EXPECT_EQ(guest_stats()["last-update"], 1358529861 - 7);
}

TEST_F(QemuCommandsTest, TagThatIsNotSentAgainIsUnset) {
  controlled_.send_stats({{4, 1}, {5, 2}});
  say(documented_interval("guest-stats-polling-interval", 1));
  controlled_.wait(1s);
  controlled_.rig().serve(testing::kStatsQueue);

  controlled_.send_stats({{5, 3}});

  EXPECT_EQ(guest_stats()["stats"]["stat-free-memory"], 18446744073709551615u);
  EXPECT_EQ(guest_stats()["stats"]["stat-total-memory"], 3);
}

TEST_F(QemuCommandsTest, GuestIsAskedWhenTheIntervalIsOverAndAgainWhenItHasAnswered) {
  controlled_.send_stats({{4, 1}});
  say(documented_interval("guest-stats-polling-interval", 2));
  controlled_.settle();
  EXPECT_EQ(controlled_.control().next_time(), controlled_.now + 2s);
  EXPECT_TRUE(controlled_.rig().completed(testing::kStatsQueue).empty());

  controlled_.wait(2s);

  EXPECT_EQ(controlled_.rig().completed(testing::kStatsQueue).size(), 1u);
  EXPECT_EQ(controlled_.control().next_time(), std::nullopt);
  controlled_.send_stats({{4, 2}});
  controlled_.wait(2s);
  EXPECT_EQ(controlled_.rig().completed(testing::kStatsQueue).size(), 1u);
}

TEST_F(QemuCommandsTest, IntervalMayBeSetWithoutADriver) {
  controlled_.rig().reset();

  EXPECT_EQ(say(documented_interval("guest-stats-polling-interval", 2)), kDone);
}

TEST_F(QemuCommandsTest, IntervalIsRead) {
  say(documented_interval("guest-stats-polling-interval", 3));

  EXPECT_EQ(say(R"({"execute": "qom-get", "arguments": {"path": "/machine/peripheral/balloon0",
                    "property": "guest-stats-polling-interval"}})"),
            "{\"return\": 3}\r\n");
}

TEST_F(QemuCommandsTest, NegativeIntervalIsAnError) {
  EXPECT_THAT(say(documented_interval("guest-stats-polling-interval", -1)),
              HasSubstr(R"("GenericError","desc":"timer value must be greater than zero")"));
}

TEST_F(QemuCommandsTest, IntervalBeyond32BitsIsAnError) {
  EXPECT_THAT(say(R"({"execute": "qom-set", "arguments": {"path": "/machine/peripheral/balloon0",
                      "property": "guest-stats-polling-interval", "value": 4294967296}})"),
              HasSubstr(R"("GenericError","desc":"timer value is too big")"));
}

TEST_F(QemuCommandsTest, IntervalThatIsNoIntegerIsAnError) {
  EXPECT_THAT(say(R"({"execute": "qom-set", "arguments": {"path": "/machine/peripheral/balloon0",
                      "property": "guest-stats-polling-interval", "value": "2"}})"),
              HasSubstr("Invalid parameter type for 'value', expected: integer"));
}

TEST_F(QemuCommandsTest, StatisticsCannotBeSet) {
  EXPECT_THAT(say(documented_interval("guest-stats", 0)),
              HasSubstr(R"("GenericError","desc":"Property 'vballoon.guest-stats' is not)"));
}

TEST_F(QemuCommandsTest, UnknownPropertyIsNotFound) {
  EXPECT_THAT(say(documented_interval("type", 0)),
              HasSubstr(R"("GenericError","desc":"Property 'vballoon.type' not found")"));
}

TEST_F(QemuCommandsTest, UnknownObjectIsNotFound) {
  EXPECT_THAT(say(R"({"execute": "qom-get", "arguments": {"path": "/machine/peripheral/net0",
                      "property": "guest-stats"}})"),
              HasSubstr(R"("DeviceNotFound","desc":"Device '/machine/peripheral/net0' not)"));
}

// ---- what management tools send ------------------------------------------------------------

TEST_F(QemuCommandsTest, RequestsOfLibvirtAreTaken) {
  EXPECT_EQ(say("{\"execute\":\"balloon\",\"arguments\":{\"value\":4194304},\"id\":\"libvirt-12\"}"
                "\r\n"),
            "{\"return\": {}, \"id\": \"libvirt-12\"}\r\n");
  EXPECT_EQ(say("{\"execute\":\"query-balloon\",\"id\":\"libvirt-13\"}\r\n"),
            "{\"return\": {\"actual\":8388608}, \"id\": \"libvirt-13\"}\r\n");
  EXPECT_EQ(say("{\"execute\":\"qom-set\",\"arguments\":{\"path\":"
                "\"/machine/peripheral/balloon0\",\"property\":\"guest-stats-polling-interval\","
                "\"value\":10},\"id\":\"libvirt-14\"}\r\n"),
            "{\"return\": {}, \"id\": \"libvirt-14\"}\r\n");
}

TEST_F(QemuCommandsTest, RequestsOfProxmoxNameTheDeviceWithoutTheFirstSlash) {
  EXPECT_EQ(say(R"({"execute":"qom-set","arguments":{"path":"machine/peripheral/balloon0",)"
                R"("property":"guest-stats-polling-interval","value":2},"id":"4711:1"})"),
            "{\"return\": {}, \"id\": \"4711:1\"}\r\n");
  EXPECT_EQ(say(R"({"arguments":{"value":4194304},"execute":"balloon","id":"4711:2"})"),
            "{\"return\": {}, \"id\": \"4711:2\"}\r\n");
}

}  // namespace
}  // namespace vballoon::tool
