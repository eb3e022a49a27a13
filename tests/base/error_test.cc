// SPDX-License-Identifier: MIT
// Reasons and their texts (src/base/error.cc).
#include "vballoon/error.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstddef>
#include <set>
#include <string>
#include <thread>

namespace vballoon {
namespace {

std::set<std::string> texts_of_all_codes() {
  std::set<std::string> texts;
  for (std::size_t i = 0; i < kErrcCount; ++i) {
    texts.emplace(to_string(static_cast<Errc>(i)));
  }
  return texts;
}

// Makes the message of an unknown errno many times; the text of those is put together by the C
// library on each call. Returns how many were not as they should be.
int count_wrong_messages(int os_error) {
  const std::string expected = "not supported here: Unknown error " + std::to_string(os_error);
  int wrong = 0;
  for (int i = 0; i < 1000; ++i) {
    wrong += Error{Errc::kNotSupported, os_error}.message() != expected;
  }
  return wrong;
}

TEST(ErrorTest, EveryCodeHasATextOfItsOwn) {
  const auto texts = texts_of_all_codes();

  EXPECT_EQ(texts.size(), kErrcCount);
  EXPECT_FALSE(texts.contains("unknown reason"));
}

TEST(ErrorTest, ReasonAloneIsTheWholeMessage) {
  EXPECT_EQ((Error{Errc::kDescriptorLoop}.message()), "descriptor loop");
}

TEST(ErrorTest, ContextAndOsErrorFollowTheReason) {
  const Error error{Errc::kMapFailed, ENOMEM, "8 GiB"};

  EXPECT_EQ(error.message(), "kernel refused to map guest memory: 8 GiB: Cannot allocate memory");
}

TEST(ErrorThreadsTest, MessagesOfTwoThreadsDoNotMix) {
  int wrong_in_other = -1;

  std::thread other([&wrong_in_other] { wrong_in_other = count_wrong_messages(9001); });
  const int wrong_here = count_wrong_messages(9002);
  other.join();

  EXPECT_EQ(wrong_here, 0);
  EXPECT_EQ(wrong_in_other, 0);
}

}  // namespace
}  // namespace vballoon
