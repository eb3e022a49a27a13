// SPDX-License-Identifier: MIT
// Options of the command line: words, sizes, times and numbers, each with an error that says what
// would have been right.
#ifndef VBALLOON_TOOLS_OPTION_KINDS_H_
#define VBALLOON_TOOLS_OPTION_KINDS_H_

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "sizes.h"

namespace vballoon::tool {

// The words that stand for the values of an option, in the order in which help shows them.
template <typename Value>
using Choices = std::vector<std::pair<std::string, Value>>;

template <typename Value>
std::string words_of(const Choices<Value>& choices, std::string_view separator) {
  std::string words;
  for (const auto& [word, value] : choices) {
    if (!words.empty()) words += separator;
    words += word;
  }
  return words;
}

template <typename Value>
Value value_of(const std::string& option, const std::string& word, const Choices<Value>& choices) {
  for (const auto& [known, value] : choices) {
    if (known == word) return value;
  }
  throw CLI::ValidationError(option,
                             fmt::format("'{}' is none of {}", word, words_of(choices, ", ")));
}

// An option whose value is one of a few words.
template <typename Value>
void add_choice(CLI::App& app, const std::string& name, Value& value, const Choices<Value>& choices,
                const std::string& help) {
  app.add_option_function<std::string>(
         name,
         [name, &value, &choices](const std::string& word) {
           value = value_of(name, word, choices);
         },
         help)
      ->type_name(words_of(choices, "|"));
}

inline void add_size(CLI::App& app, const std::string& name, std::optional<std::uint64_t>& value,
                     const std::string& help) {
  app.add_option_function<std::string>(
         name,
         [name, &value](const std::string& text) {
           value = parse_size(text);
           if (value) return;
           throw CLI::ValidationError(name,
                                      fmt::format("'{}' is no size; write 512MiB or 7.5GiB", text));
         },
         help)
      ->type_name("SIZE");
}

template <typename Number>
void add_number(CLI::App& app, const std::string& name, Number& value, std::uint64_t least,
                std::uint64_t most, const std::string& help) {
  app.add_option_function<std::string>(
         name,
         [name, &value, least, most](const std::string& text) {
           std::uint64_t number = 0;
           const char* const end = text.data() + text.size();
           const auto parsed = std::from_chars(text.data(), end, number);
           if (parsed.ec != std::errc{} || parsed.ptr != end || number < least || number > most) {
             throw CLI::ValidationError(
                 name, fmt::format("'{}' is no number from {} to {}", text, least, most));
           }
           value = static_cast<Number>(number);
         },
         help)
      ->type_name("N");
}

// One or more of them.
template <typename Value>
void add_choices(CLI::App& app, const std::string& name, std::vector<Value>& values,
                 const Choices<Value>& choices, const std::string& help) {
  app.add_option_function<std::vector<std::string>>(
         name,
         [&values, &choices, name](const std::vector<std::string>& words) {
           values.clear();
           for (const std::string& word : words) values.push_back(value_of(name, word, choices));
         },
         help)
      ->delimiter(',')
      ->option_text(words_of(choices, ","))
      ->type_name(words_of(choices, ","));
}

// A time that is given with its unit.
inline void add_duration(CLI::App& app, const std::string& name,
                         std::optional<std::chrono::milliseconds>& value, const std::string& help) {
  app.add_option_function<std::string>(
         name,
         [name, &value](const std::string& text) {
           value = parse_duration(text);
           if (value) return;
           throw CLI::ValidationError(
               name, fmt::format("'{}' is no time; write 500ms, 2s or 1min", text));
         },
         help)
      ->type_name("TIME");
}

}  // namespace vballoon::tool

#endif  // VBALLOON_TOOLS_OPTION_KINDS_H_
