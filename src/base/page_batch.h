// SPDX-License-Identifier: MIT
// Puts the ranges of a batch in order: sorted, merged, each page once.
#ifndef VBALLOON_SRC_BASE_PAGE_BATCH_H_
#define VBALLOON_SRC_BASE_PAGE_BATCH_H_

#include <cstdint>

#include "base/page_ranges.h"
#include "vballoon/export.h"
#include "vballoon/page_range.h"

namespace vballoon {

// Sorts and merges in place; returns how many pages were named more than once. Ascending and
// descending input, which is what drivers send, is not sorted again. Ranges end below page
// 2^63.
VBALLOON_EXPORT std::uint64_t sort_and_merge(PageRanges& ranges);

}  // namespace vballoon

#endif  // VBALLOON_SRC_BASE_PAGE_BATCH_H_
