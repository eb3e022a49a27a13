#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that the code a guide shows is that of the program it walks through.

usage: guide_example.py <guide.md> <program.cc>
"""

import pathlib
import re
import sys


def main(guide, program):
    blocks = re.findall(r"^```cpp\n(.*?)^```", pathlib.Path(guide).read_text(), re.M | re.S)
    if not blocks:
        sys.exit(f"{guide}: no C++ examples")
    text = pathlib.Path(program).read_text()
    missing = [block for block in blocks if block not in text]
    for block in missing:
        print(f"{guide}: not in {program}:\n{block}")
    return 1 if missing else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
