#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compiles the use of the library that the README shows.

usage: readme_example.py <README.md> <compiler> <include directory>...
"""

import pathlib
import re
import subprocess
import sys

# What the README leaves to the hypervisor.
CONTEXT = """
void raise_queue_interrupt(std::uint16_t queue);
void raise_config_interrupt();
void example(std::byte* ram_address, std::uint64_t ram_bytes, std::uint16_t q) {
%s
static_cast<void>(set);
static_cast<void>(freed);
}
"""


def main(readme, compiler, include_directories):
    blocks = re.findall(r"^```cpp\n(.*?)^```", pathlib.Path(readme).read_text(), re.M | re.S)
    if len(blocks) != 1:
        sys.exit(f"{readme}: {len(blocks)} C++ examples, expected 1")
    lines = blocks[0].splitlines()
    includes = [line for line in lines if line.startswith("#include")]
    body = [line for line in lines if not line.startswith("#include")]
    source = "\n".join(includes) + CONTEXT % "\n".join(body)
    command = [compiler, "-std=c++20", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c++"]
    command += [f"-I{directory}" for directory in include_directories] + ["-"]
    return subprocess.run(command, input=source, text=True, check=False).returncode


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
