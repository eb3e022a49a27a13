// SPDX-License-Identifier: MIT
#include "qmp_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string>

namespace vballoon::tool {
namespace {

// Integers are those of 64 bits with a sign, as in QEMU: 2.0 is none.
bool is_integer(const Arguments& value) {
  if (!value.is_number_integer()) return false;
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  return !value.is_number_unsigned() || value.get<std::uint64_t>() <= kMost;
}

bool has_type(const Arguments& value, ParameterType type) {
  switch (type) {
    case ParameterType::kInteger:
      return is_integer(value);
    case ParameterType::kBoolean:
      return value.is_boolean();
    case ParameterType::kString:
      return value.is_string();
    case ParameterType::kStrings:
      return value.is_array() &&
             std::ranges::all_of(value, [](const Arguments& item) { return item.is_string(); });
    case ParameterType::kAnything:
      return true;
  }
  return false;
}

std::string_view name_of(ParameterType type) {
  switch (type) {
    case ParameterType::kInteger:
      return "integer";
    case ParameterType::kBoolean:
      return "boolean";
    case ParameterType::kString:
      return "string";
    case ParameterType::kStrings:
      return "array of strings";
    case ParameterType::kAnything:
      break;
  }
  return "any";
}

}  // namespace

std::optional<QmpError> check_arguments(const std::vector<QmpParameter>& parameters,
                                        const Arguments& arguments) {
  for (const QmpParameter& parameter : parameters) {
    const auto found = arguments.find(parameter.name);
    if (found == arguments.end()) {
      if (!parameter.required) continue;
      return QmpError{kGenericError, fmt::format("Parameter '{}' is missing", parameter.name)};
    }
    if (!has_type(*found, parameter.type)) {
      return QmpError{kGenericError, fmt::format("Invalid parameter type for '{}', expected: {}",
                                                 parameter.name, name_of(parameter.type))};
    }
  }
  for (const auto& [key, value] : arguments.items()) {
    if (std::ranges::find(parameters, key, &QmpParameter::name) == parameters.end()) {
      return QmpError{kGenericError, fmt::format("Parameter '{}' is unexpected", key)};
    }
  }
  return std::nullopt;
}

}  // namespace vballoon::tool
