// SPDX-License-Identifier: MIT
#include "qmp_framer.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace vballoon::tool {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Messages as they are, complaints with an exclamation mark in front.
std::vector<std::string> all_of(QmpFramer& framer) {
  std::vector<std::string> all;
  while (const auto message = framer.next()) {
    all.push_back(*message ? **message : fmt::format("!{}", message->error()));
  }
  return all;
}
std::vector<std::string> messages_of(std::string_view input) {
  QmpFramer framer;
  framer.add(input);
  return all_of(framer);
}

TEST(QmpFramerTest, ObjectIsAMessageWithoutTheEndOfALine) {
  EXPECT_THAT(messages_of(R"({"a": 1})"), ElementsAre(R"({"a": 1})"));
}

TEST(QmpFramerTest, ObjectInSeveralPiecesIsOneMessage) {
  QmpFramer framer;

  framer.add(R"({"a": {"b)");
  EXPECT_THAT(all_of(framer), IsEmpty());
  framer.add(R"(": []}})");

  EXPECT_THAT(all_of(framer), ElementsAre(R"({"a": {"b": []}})"));
}

TEST(QmpFramerTest, TwoObjectsOnALineAreTwoMessages) {
  EXPECT_THAT(messages_of(R"({"a": 1}{"b": 2})"
                          "\r\n"),
              ElementsAre(R"({"a": 1})", R"({"b": 2})"));
}

TEST(QmpFramerTest, ObjectMayHaveSeveralLines) {
  EXPECT_THAT(messages_of("{ \"a\":\r\n  1 }\r\n\r\n"), ElementsAre("{ \"a\":\r\n  1 }"));
}

TEST(QmpFramerTest, BracesInStringsCloseNothing) {
  EXPECT_THAT(messages_of(R"({"a": "}\"]{"})"), ElementsAre(R"({"a": "}\"]{"})"));
}

TEST(QmpFramerTest, SingleQuotesBecomeDoubleOnes) {
  EXPECT_THAT(messages_of(R"({'a': 'say "it\'s"'})"), ElementsAre(R"({"a": "say \"it's\""})"));
}

TEST(QmpFramerTest, WordIsAMessageAtTheEndOfItsLine) {
  EXPECT_THAT(messages_of("  hello world\n\n42"), ElementsAre("hello world"));
}

TEST(QmpFramerTest, WordEndsWhereAnObjectBegins) {
  EXPECT_THAT(messages_of("so {}"), ElementsAre("so ", "{}"));
}

TEST(QmpFramerTest, BraceThatClosesNothingIsAnErrorAndForgotten) {
  EXPECT_THAT(messages_of("}{}"), ElementsAre("!JSON parse error, nothing to close", "{}"));
}

TEST(QmpFramerTest, BracketAndBraceThatDoNotMatchAreOneMessage) {
  EXPECT_THAT(messages_of("{]{}"), ElementsAre("{]", "{}"));
}

TEST(QmpFramerTest, Byte255StartsOver) {
  EXPECT_THAT(messages_of("{\"a\": [\xFF{}"),
              ElementsAre("!JSON parse error, stray character", "{}"));
}

TEST(QmpFramerTest, ControlCharacterStartsOver) {
  EXPECT_THAT(messages_of("{\"a\": \x01{}"),
              ElementsAre("!JSON parse error, stray character", "{}"));
}

TEST(QmpFramerTest, NulStartsOver) {
  EXPECT_THAT(messages_of({"{\0{}", 4}), ElementsAre("!JSON parse error, stray character", "{}"));
}

TEST(QmpFramerTest, EndOfALineInAStringStartsOver) {
  EXPECT_THAT(messages_of("{\"a\n{}"), ElementsAre("!JSON parse error, stray character", "{}"));
}

TEST(QmpFramerTest, MessageOfAsMuchAsIsAllowedIsTaken) {
  const auto longest = fmt::format(R"(["{:x<{}}"])", "", QmpFramer::kMaxMessageBytes - 5);

  EXPECT_THAT(messages_of(longest), ElementsAre(longest));
}

TEST(QmpFramerTest, MessageThatIsTooLongIsOneErrorUpToTheEndOfItsLine) {
  const auto too_long = fmt::format(R"(["{:x<{}}"])", "", QmpFramer::kMaxMessageBytes);

  EXPECT_THAT(messages_of(too_long + too_long + "}\n{}"),
              ElementsAre("!QMP input is longer than 65536 bytes", "{}"));
}

TEST(QmpFramerTest, MessageThatIsTooDeepIsOneErrorUpToTheEndOfItsLine) {
  const std::string deep(QmpFramer::kMaxNesting + 1, '[');

  EXPECT_THAT(messages_of(deep + "]]{}\n{}"),
              ElementsAre("!QMP input is nested more than 64 deep", "{}"));
}

TEST(QmpFramerTest, MessageAsDeepAsIsAllowedIsTaken) {
  const std::string deep =
      std::string(QmpFramer::kMaxNesting, '[') + std::string(QmpFramer::kMaxNesting, ']');

  EXPECT_THAT(messages_of(deep), ElementsAre(deep));
}

TEST(QmpFramerTest, WhatWasTakenIsNotKept) {
  QmpFramer framer;
  framer.add("{} {");

  EXPECT_THAT(all_of(framer), ElementsAre("{}"));

  EXPECT_EQ(framer.waiting(), 0u);
}

RC_GTEST_PROP(QmpFramerTest, HowBytesArriveChangesNothing, ()) {
  const auto characters = *rc::gen::container<std::string>(
      rc::gen::element('{', '}', '[', ']', '"', '\'', '\\', '\n', ' ', 'x', '\x01', '\xFF'));
  QmpFramer framer;
  std::vector<std::string> piece_by_piece;

  for (std::string_view rest = characters; !rest.empty();) {
    const auto size = std::min<std::size_t>(*rc::gen::inRange<std::size_t>(1, 8), rest.size());
    framer.add(rest.substr(0, size));
    rest.remove_prefix(size);
    std::ranges::move(all_of(framer), std::back_inserter(piece_by_piece));
  }

  RC_ASSERT(piece_by_piece == messages_of(characters));
}

}  // namespace
}  // namespace vballoon::tool
