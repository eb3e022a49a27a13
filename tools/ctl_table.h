// SPDX-License-Identifier: MIT
// What a control socket answers, as text for people. An answer that is not as it should be makes
// each of these throw a Json::exception.
#ifndef VBALLOON_TOOLS_CTL_TABLE_H_
#define VBALLOON_TOOLS_CTL_TABLE_H_

#include <cstdint>
#include <string>

#include "qmp_message.h"

namespace vballoon::tool {

// A number of bytes, or a count, in an answer.
[[nodiscard]] std::uint64_t number_in(const Json& answer, const std::string& key);

[[nodiscard]] std::string status_table(const Json& answer);   // of vballoon-query
[[nodiscard]] std::string target_table(const Json& answer);   // of vballoon-set-target
[[nodiscard]] std::string memory_table(const Json& answer);   // of query-balloon
[[nodiscard]] std::string stats_table(const Json& answer);    // of vballoon-stats
[[nodiscard]] std::string hinting_table(const Json& answer);  // of vballoon-hinting-status
[[nodiscard]] std::string event_text(const Json& event);      // one line

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_CTL_TABLE_H_
