// SPDX-License-Identifier: MIT
// Page sets (src/base/page_set.cc).
#include "base/page_set.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>

namespace vballoon {
namespace {

TEST(PageSetTest, AddingARangeAcrossWordsSetsEachOfItsPages) {
  PageSet set(256);

  EXPECT_EQ(set.add({60, 70}), 70u);

  EXPECT_EQ(set.count(), 70u);
  EXPECT_FALSE(set.contains(59));
  EXPECT_TRUE(set.contains(60));
  EXPECT_TRUE(set.contains(129));
  EXPECT_FALSE(set.contains(130));
}

TEST(PageSetTest, AddingPagesThatAreInTheSetChangesOnlyTheOthers) {
  PageSet set(256);
  set.add({10, 10});

  EXPECT_EQ(set.add({15, 10}), 5u);
}

TEST(PageSetTest, RemovingARangeLeavesItsNeighbours) {
  PageSet set(256);
  set.add({0, 256});

  EXPECT_EQ(set.remove({64, 128}), 128u);

  EXPECT_EQ(set.count(), 128u);
  EXPECT_TRUE(set.contains(63));
  EXPECT_FALSE(set.contains(64));
  EXPECT_TRUE(set.contains(192));
}

TEST(PageSetTest, RunIsCutAtTheLimit) {
  PageSet set(256);
  set.add({100, 100});

  EXPECT_EQ(set.next_run(0, 150), (PageRange{100, 50}));
  EXPECT_EQ(set.next_run(150, 256), (PageRange{150, 50}));
}

TEST(PageSetTest, NoRunBelowTheLimitIsAnEmptyRange) {
  PageSet set(256);
  set.add(PageRange{200, 1});

  EXPECT_EQ(set.next_run(0, 200).count, 0u);
  EXPECT_EQ(set.next_run(201, 256).count, 0u);
}

TEST(PageSetTest, LastPageOfASizeThatIsNoMultipleOf64IsFound) {
  PageSet set(65);
  set.add(Pfn{64});

  EXPECT_EQ(set.next_run(0, 65), (PageRange{64, 1}));
}

RC_GTEST_PROP(PageSetProperty, RunsAreThoseOfAnOrderedSet, ()) {
  PageSet set(500);
  std::set<Pfn> model;
  for (int i = 0; i < 20; ++i) {
    const auto first = *rc::gen::inRange<Pfn>(0, 500);
    const auto count = *rc::gen::inRange<std::uint64_t>(0, 500 - first + 1);
    const bool add = *rc::gen::arbitrary<bool>();
    std::uint64_t changed = 0;
    for (Pfn p = first; p < first + count; ++p) {
      changed += add ? model.insert(p).second : model.erase(p);
    }
    RC_ASSERT((add ? set.add({first, count}) : set.remove({first, count})) == changed);
  }

  std::set<Pfn> found;
  for (PageRange run = set.next_run(0, 500); run.count != 0; run = set.next_run(run.end(), 500)) {
    for (Pfn p = run.first; p < run.end(); ++p) found.insert(p);
    RC_ASSERT(!model.contains(run.end()));
  }
  RC_ASSERT(found == model);
  RC_ASSERT(set.count() == model.size());
}

}  // namespace
}  // namespace vballoon
