// SPDX-License-Identifier: MIT
// The parameter of tests that say the same of every dialect.
#ifndef VBALLOON_TESTS_DIALECT_PARAM_H_
#define VBALLOON_TESTS_DIALECT_PARAM_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "wire/dialect.h"

namespace vballoon::testing {

inline std::vector<Dialect> dialect_list() {
  std::vector<Dialect> all;
  for (const DialectRow& row : all_dialects()) all.push_back(row.dialect);
  return all;
}
inline auto every_dialect() { return ::testing::ValuesIn(dialect_list()); }

// As the command spells it, but for characters that a test's name must not have.
inline std::string name_of(Dialect dialect) {
  std::string name(dialect_row(dialect).name);
  std::ranges::replace(name, '-', '_');
  return name;
}

inline constexpr auto dialect_name = [](const ::testing::TestParamInfo<Dialect>& suite) {
  return name_of(suite.param);
};

}  // namespace vballoon::testing

#endif  // VBALLOON_TESTS_DIALECT_PARAM_H_
