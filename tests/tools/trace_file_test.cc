// SPDX-License-Identifier: MIT
// Traces as files (tools/trace_file.cc).
#include "trace_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace vballoon::tool {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A line that is read and written again.
std::string again(std::string_view line) {
  const auto event = parse_trace_line(line);
  return event ? trace_line(*event) : "refused: " + event.error().context;
}

class EachKindOfEvent : public ::testing::TestWithParam<const char*> {};

TEST_P(EachKindOfEvent, IsReadAsItWasWritten) { EXPECT_EQ(again(GetParam()), GetParam()); }

INSTANTIATE_TEST_SUITE_P(
    TraceFile, EachKindOfEvent,
    ::testing::Values(
        R"({"event":"memory","regions":[[0,4096],[1048576,8192]]})", R"({"event":"reset"})",
        R"({"event":"features","bits":18446744073709551615})",
        R"({"event":"queue","queue":2,"size":256})", R"({"event":"kick","queue":6})",
        R"({"event":"message","queue":0,"readable":[[4096,2]],"writable":[[8192,4096]],"payload":"00ff"})",
        R"({"event":"config-write","offset":4,"bytes":"00010000"})",
        R"({"event":"target","pages":4294967295})", R"({"event":"hint-command","id":2})"));

class WhatIsNoEvent : public ::testing::TestWithParam<const char*> {};

TEST_P(WhatIsNoEvent, IsRefused) { EXPECT_THAT(again(GetParam()), HasSubstr("refused: ")); }

INSTANTIATE_TEST_SUITE_P(TraceFile, WhatIsNoEvent,
                         ::testing::Values("", "{", "[]", R"({"queue":1})",
                                           R"({"event":"kicks","queue":1})", R"({"event":"kick"})",
                                           R"({"event":"kick","queue":"0"})",
                                           R"({"event":"config-write","offset":4,"bytes":"0"})",
                                           R"({"event":"config-write","offset":4,"bytes":"0x"})",
                                           R"({"event":"memory","regions":[[1]]})"));

class TraceFileTest : public ::testing::Test {
 protected:
  ~TraceFileTest() override { std::filesystem::remove(path_); }

  const std::string path_ = ::testing::TempDir() + "vballoon_trace_" +
                            ::testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(TraceFileTest, WhatIsRecordedIsThereAtOnce) {
  const auto recorder = record_trace(path_).value();

  recorder->kick(3);
  recorder->target(7);

  const auto events = read_trace(path_).value();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(std::get<TracedKick>(events[0]).queue, 3);
  EXPECT_EQ(std::get<TracedTarget>(events[1]).pages, 7u);
}

TEST_F(TraceFileTest, MessageHasTheBytesOfAllItsReadableBuffers) {
  const std::vector<GuestBuffer> readable{{0, 1000}, {4096, 24}};

  EXPECT_EQ((TracedMessage{.readable = readable}.readable_bytes()), 1024u);
}

TEST_F(TraceFileTest, LineThatIsNoEventIsNamed) {
  std::ofstream(path_) << R"({"event":"reset"})"
                       << "\nnothing\n";

  const auto events = read_trace(path_);

  ASSERT_FALSE(events);
  EXPECT_THAT(events.error().context, HasSubstr(", line 2: "));
}

TEST_F(TraceFileTest, FileThatIsNotThereIsAnError) {
  const auto events = read_trace(path_);

  ASSERT_FALSE(events);
  EXPECT_THAT(events.error().message(), HasSubstr("No such file"));
}

TEST_F(TraceFileTest, FileThatCannotBeWrittenIsAnError) {
  EXPECT_FALSE(record_trace("/proc/no/such/folder"));
}

}  // namespace
}  // namespace vballoon::tool
