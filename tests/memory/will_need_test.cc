// SPDX-License-Identifier: MIT
// Advice that memory will be used again (src/memory/will_need.cc).
#include "memory/will_need.h"

#include <gtest/gtest.h>

#include <array>

namespace vballoon {
namespace {

TEST(WillNeedTest, RefusedAdviceIsForgottenAndTheBytesStay) {
  const auto memory = GuestMemory::allocate(std::array{RegionLayout{0, 4 * kPageSize}}).value();
  const MemoryRegion& region = memory->regions()[0];
  region.host[kPageSize] = std::byte{7};
  const HostRun refused{region.host + 1, kPageSize, &region};  // not at the begin of a page

  advise_will_need(std::array{refused, HostRun{region.host, region.bytes, &region}});

  EXPECT_EQ(region.host[kPageSize], std::byte{7});
}

}  // namespace
}  // namespace vballoon
