// SPDX-License-Identifier: MIT
// A command that a QMP client may give: its name, its arguments, and what it does.
#ifndef VBALLOON_TOOLS_QMP_COMMAND_H_
#define VBALLOON_TOOLS_QMP_COMMAND_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "qmp_message.h"

namespace vballoon::tool {

enum class ParameterType : std::uint8_t { kInteger, kBoolean, kString, kStrings, kAnything };

struct QmpParameter {
  std::string_view name;
  ParameterType type;
  bool required = true;
};

// Gives an answer that comes later; does nothing when the client has gone.
using AnswerLater = std::function<void(Answer)>;

struct QmpCommand {
  std::string_view name;
  std::vector<QmpParameter> parameters;
  // Called with arguments that are as `parameters` say. nullopt: the answer comes later, and the
  // client's other commands wait for it.
  std::function<std::optional<Answer>(const Arguments&, const AnswerLater&)> run;
};

// Whether arguments are as they should be: nothing may have happened yet when they are not.
[[nodiscard]] std::optional<QmpError> check_arguments(const std::vector<QmpParameter>& parameters,
                                                      const Arguments& arguments);

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_QMP_COMMAND_H_
