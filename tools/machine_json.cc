// SPDX-License-Identifier: MIT
#include "machine_json.h"

#include <nlohmann/json.hpp>

namespace vballoon::tool {

nlohmann::ordered_json machine_json(const MachineFacts& machine) {
  return {{"kernel", machine.kernel},
          {"processor", machine.processor},
          {"processors", machine.processors},
          {"memory_bytes", machine.memory_bytes},
          {"available_bytes", machine.available_bytes},
          {"transparent_huge_pages", machine.transparent_huge_pages},
          {"huge_pages_free", machine.huge_pages_free},
          {"vectored_discard", machine.vectored_discard}};
}

}  // namespace vballoon::tool
