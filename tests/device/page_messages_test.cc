// SPDX-License-Identifier: MIT
// A batch in portions (src/device/page_messages.cc).
#include "device/page_messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "base/page_ranges.h"
#include "device/device_fixture.h"
#include "device/two_mib_pages.h"

namespace vballoon {
namespace {

using ::testing::ElementsAre;

class PageMessagesTest : public ::testing::Test {
 protected:
  // All portions of a batch, cut to so many pages.
  static std::vector<std::vector<PageRange>> portions(
      const PageRanges& batch, std::uint64_t pages,
      const std::shared_ptr<const GuestMemory>& memory = testing::memory_with_hole()) {
    PageMessages messages(*memory);
    messages.reader.batch() = batch;
    messages.order();
    std::vector<std::vector<PageRange>> all;
    while (messages.pending()) {
      const auto portion = messages.next_portion(pages);
      all.emplace_back(portion.begin(), portion.end());
    }
    return all;
  }
};

TEST_F(PageMessagesTest, BatchThatFitsIsOnePortion) {
  EXPECT_THAT(portions({{0, 2}, {5, 3}}, 100),
              ElementsAre(ElementsAre(PageRange{0, 2}, PageRange{5, 3})));
}

TEST_F(PageMessagesTest, WideBatchOfFewPagesIsOnePortion) {
  EXPECT_THAT(portions({{0, 1}, {1000, 1}}, 2),
              ElementsAre(ElementsAre(PageRange{0, 1}, PageRange{1000, 1})));
}

TEST_F(PageMessagesTest, PortionsEndBetweenRanges) {
  EXPECT_THAT(
      portions({{0, 2}, {5, 2}, {10, 2}}, 4),
      ElementsAre(ElementsAre(PageRange{0, 2}, PageRange{5, 2}), ElementsAre(PageRange{10, 2})));
}

TEST_F(PageMessagesTest, RangeIsCutWhereThePortionEnds) {
  EXPECT_THAT(portions({{0, 2}, {5, 10}}, 4),
              ElementsAre(ElementsAre(PageRange{0, 2}, PageRange{5, 2}),
                          ElementsAre(PageRange{7, 4}), ElementsAre(PageRange{11, 4})));
}

TEST_F(PageMessagesTest, CutsLieOnHostPages) {
  EXPECT_THAT(portions({{10, 2000}}, 700, testing::borrow_memory({{0, 8 << 20}})),
              ElementsAre(ElementsAre(PageRange{10, 502}), ElementsAre(PageRange{512, 512}),
                          ElementsAre(PageRange{1024, 512}), ElementsAre(PageRange{1536, 474})));
}

TEST_F(PageMessagesTest, HostPageLargerThanThePortionStaysWhole) {
  EXPECT_THAT(portions({{512, 1024}}, 3, testing::borrow_memory({{0, 8 << 20}})),
              ElementsAre(ElementsAre(PageRange{512, 512}), ElementsAre(PageRange{1024, 512})));
}

// One bitmap can name 2^52 pages: gone through in portions they would take for ever.
TEST_F(PageMessagesTest, PagesOutsideGuestMemoryAreNoPortionsOfTheirOwn) {
  EXPECT_THAT(
      portions({{0x300, 1ull << 52}}, 0x200),
      ElementsAre(ElementsAre(PageRange{0x300, 0x500}), ElementsAre(PageRange{0x800, 0x200}),
                  ElementsAre(PageRange{0xA00, (1ull << 52) - 0x700})));
}

TEST_F(PageMessagesTest, ClearedBatchHasNothingPending) {
  const auto memory = testing::memory_with_hole();
  PageMessages messages(*memory);
  messages.reader.batch() = {{0, 10}};
  messages.order();
  (void)messages.next_portion(4);

  messages.clear_batch();

  EXPECT_FALSE(messages.pending());
}

}  // namespace
}  // namespace vballoon
