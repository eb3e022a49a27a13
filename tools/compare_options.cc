// SPDX-License-Identifier: MIT
#include "compare_options.h"

#include <fmt/format.h>

#include <algorithm>

#include "wire/dialect.h"

namespace vballoon::tool {

sim::DriverOptions driver_options(const CompareOptions& options) {
  sim::DriverOptions driver;
  driver.faithful = options.faithful;
  driver.pfn_order = options.pfn_order;
  if (options.chunk_order_zero) driver.chunk_order = 0;
  driver.queue_size = options.queue_size;
  return sim::resolved(driver);
}

std::string row_name(const RowSpec& row) {
  return fmt::format("{}/{}", dialect_row(row.mode).name,
                     row.write_behind ? "write-behind" : to_string(row.host));
}

std::vector<RowSpec> rows_of(const CompareOptions& options) {
  std::vector<RowSpec> rows{{Dialect::kStandard, DiscardStrategy::kPerPage}};
  const auto add = [&rows](const RowSpec& row) {
    if (std::ranges::find(rows, row) == rows.end()) rows.push_back(row);
  };
  for (const Dialect mode : options.modes) {
    add({mode, options.host});
    if (options.write_behind) add({mode, options.host, true});
  }
  return rows;
}

std::string_view to_string(Backing backing) {
  switch (backing) {
    case Backing::kAnonymous:
      return "anonymous";
    case Backing::kMemfd:
      return "memfd";
    case Backing::kHugetlb:
      return "hugetlb";
  }
  return "unknown";
}

std::string_view to_string(ThpMode thp) { return thp == ThpMode::kOn ? "on" : "off"; }

std::string_view to_string(sim::PfnOrder order) {
  return order == sim::PfnOrder::kReversed ? "reversed" : "allocation";
}

std::string_view to_string(sim::NotifyMode notify) {
  return notify == sim::NotifyMode::kDirect ? "direct" : "eventfd";
}

}  // namespace vballoon::tool
