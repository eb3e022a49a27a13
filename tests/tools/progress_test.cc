// SPDX-License-Identifier: MIT
// On a terminal: see cli_test.cc.
#include "progress.h"

#include <gtest/gtest.h>

namespace vballoon::tool {
namespace {

TEST(ProgressTest, NothingIsDrawnWhereThereIsNoTerminal) {
  ::testing::internal::CaptureStderr();

  {
    Progress progress(true);
    progress.begin("work", 0, 1);
    progress.update(0.5);
    progress.clear();
  }

  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace vballoon::tool
