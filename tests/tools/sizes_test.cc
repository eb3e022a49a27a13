// SPDX-License-Identifier: MIT
#include "sizes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <chrono>
#include <optional>

namespace vballoon::tool {
namespace {

using ::testing::Optional;

TEST(SizesTest, WholeSizesHaveNoFraction) { EXPECT_EQ(format_size(8.0 * kGiB), "8 GiB"); }

TEST(SizesTest, SizesHaveTwoDigitsBehindThePoint) {
  EXPECT_EQ(format_size(1.23456 * kMiB), "1.23 MiB");
}

TEST(SizesTest, SmallSizesAreBytes) { EXPECT_EQ(format_size(1023), "1023 bytes"); }

TEST(SizesTest, NothingIsHigherThanTebibytes) {
  EXPECT_EQ(format_size(2048.0 * kGiB * kKiB), "2048 TiB");
}

TEST(SizesTest, NumberHasThreeDigitsThatCount) {
  EXPECT_EQ(format_number(4127.4), "4127");
  EXPECT_EQ(format_number(51.26), "51.3");
  EXPECT_EQ(format_number(1.234), "1.23");
  EXPECT_EQ(format_number(0.0421), "0.042");
  EXPECT_EQ(format_number(0), "0");
}

TEST(SizesTest, TimeIsMillisecondsWithFraction) {
  EXPECT_DOUBLE_EQ(to_ms(std::chrono::microseconds(1500)), 1.5);
}

TEST(SizesTest, PlainNumberIsBytes) { EXPECT_THAT(parse_size("4096"), Optional(4096)); }

TEST(SizesTest, UnitIsReadInAnyOfItsSpellings) {
  EXPECT_THAT(parse_size("7GiB"), Optional(7 * kGiB));
  EXPECT_THAT(parse_size("7 GB"), Optional(7 * kGiB));
  EXPECT_THAT(parse_size("7g"), Optional(7 * kGiB));
  EXPECT_THAT(parse_size("7b"), Optional(7));
  EXPECT_THAT(parse_size("7T"), Optional(7 * 1024 * kGiB));
}

TEST(SizesTest, FractionOfAUnitIsRead) {
  EXPECT_THAT(parse_size("1.5GiB"), Optional(kGiB + kGiB / 2));
}

TEST(SizesTest, PartOfAByteIsNoSize) {
  EXPECT_EQ(parse_size("0.3"), std::nullopt);
  EXPECT_EQ(parse_size("0.0001K"), std::nullopt);
}

TEST(SizesTest, WhatIsNoSizeIsRefused) {
  EXPECT_EQ(parse_size(""), std::nullopt);
  EXPECT_EQ(parse_size("GiB"), std::nullopt);
  EXPECT_EQ(parse_size("-1GiB"), std::nullopt);
  EXPECT_EQ(parse_size("+1GiB"), std::nullopt);
  EXPECT_EQ(parse_size(" 1GiB"), std::nullopt);
  EXPECT_EQ(parse_size("1GiB "), std::nullopt);
  EXPECT_EQ(parse_size("1GiBs"), std::nullopt);
  EXPECT_EQ(parse_size("1 i"), std::nullopt);
  EXPECT_EQ(parse_size("1e3"), std::nullopt);
  EXPECT_EQ(parse_size("0x10"), std::nullopt);
  EXPECT_EQ(parse_size("inf"), std::nullopt);
}

TEST(SizesTest, MoreThanSixtyFourBitsAreRefused) {
  EXPECT_EQ(parse_size("16777216T"), std::nullopt);
  EXPECT_EQ(parse_size(std::string(400, '9')), std::nullopt);
}

RC_GTEST_PROP(SizesTest, WhatIsWrittenIsReadBack, ()) {
  // Two digits behind the point are exact for quarters.
  const auto quarters = *rc::gen::inRange<std::uint64_t>(1, 4096);
  const auto unit = *rc::gen::element(kKiB, kMiB, kGiB);

  RC_ASSERT(parse_size(format_size(static_cast<double>(quarters * unit / 4))) ==
            std::optional(quarters * unit / 4));
}

TEST(ParseDurationTest, TimesHaveAUnit) {
  using namespace std::chrono_literals;
  EXPECT_EQ(parse_duration("500ms"), 500ms);
  EXPECT_EQ(parse_duration("2s"), 2s);
  EXPECT_EQ(parse_duration("1.5 s"), 1500ms);
  EXPECT_EQ(parse_duration("1min"), 1min);
  EXPECT_EQ(parse_duration("0s"), 0s);
}

TEST(ParseDurationTest, WhatIsNoTimeIsNone) {
  EXPECT_EQ(parse_duration(""), std::nullopt);
  EXPECT_EQ(parse_duration("5"), std::nullopt);
  EXPECT_EQ(parse_duration("-1s"), std::nullopt);
  EXPECT_EQ(parse_duration("0.5ms"), std::nullopt);
  EXPECT_EQ(parse_duration("2 hours"), std::nullopt);
  EXPECT_EQ(parse_duration("999999999999999s"), std::nullopt);
}

}  // namespace
}  // namespace vballoon::tool
