// SPDX-License-Identifier: MIT
// Hands stored inputs to a fuzz target, where there is no libFuzzer: each file that is named, and
// each file of a folder that is named.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "fuzz/fuzz_input.h"

namespace {

void replay(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::filesystem::filesystem_error("cannot read", path, std::error_code());
  const std::vector<char> bytes(std::istreambuf_iterator<char>(file), {});
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

std::vector<std::filesystem::path> inputs_of(const std::filesystem::path& named) {
  if (!std::filesystem::is_directory(named)) return {named};
  std::vector<std::filesystem::path> inputs;
  for (const auto& entry : std::filesystem::directory_iterator(named)) {
    inputs.push_back(entry.path());
  }
  std::ranges::sort(inputs);
  return inputs;
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t count = 0;
  std::filesystem::path current;
  try {
    for (int i = 1; i < argc; ++i) {
      for (const auto& path : inputs_of(argv[i])) {
        current = path;
        replay(path);
        ++count;
      }
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", current.c_str(), e.what());
    return 1;
  }
  std::printf("%zu inputs replayed\n", count);
  return count == 0 ? 1 : 0;  // nothing at all is a wrong path
}
