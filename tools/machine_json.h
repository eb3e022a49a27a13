// SPDX-License-Identifier: MIT
// The machine, as the documents of --json describe it.
#ifndef VBALLOON_TOOLS_MACHINE_JSON_H_
#define VBALLOON_TOOLS_MACHINE_JSON_H_

#include <nlohmann/json_fwd.hpp>

#include "machine_facts.h"

namespace vballoon::tool {

[[nodiscard]] nlohmann::ordered_json machine_json(const MachineFacts& machine);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_MACHINE_JSON_H_
