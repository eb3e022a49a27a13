// SPDX-License-Identifier: MIT
// What a subcommand leaves behind, run in this process.
#ifndef VBALLOON_TESTS_TOOLS_OUTCOMES_H_
#define VBALLOON_TESTS_TOOLS_OUTCOMES_H_

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

namespace vballoon::tool::testing {

struct Outcome {
  int exit_code = -1;
  std::string out;

  // Throws when it is not one document.
  [[nodiscard]] nlohmann::ordered_json document() const {
    return nlohmann::ordered_json::parse(out);
  }
};

// `command` prints into a file and returns an exit code.
template <typename Command>
Outcome outcome_of(Command command) {
  char* text = nullptr;
  std::size_t size = 0;
  std::FILE* const out = ::open_memstream(&text, &size);
  Outcome outcome;
  outcome.exit_code = command(out);
  std::fclose(out);
  outcome.out.assign(text, size);
  std::free(text);
  return outcome;
}

}  // namespace vballoon::tool::testing

#endif  // VBALLOON_TESTS_TOOLS_OUTCOMES_H_
