#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks what no compiler checks: who includes whom, and what every source file carries.

usage: source_rules.py <root of the project>

Prints one line `path:line: what is wrong` for each finding; exits with 1 when there is one.
docs/architecture.md explains the rooms.
"""

import pathlib
import re
import sys

# What each room may include beside itself.
ALLOWED = {
    "base": set(),
    "memory": {"base"},
    "wire": {"base"},
    "ring": {"base", "memory"},
    "device": {"base", "memory", "ring", "wire"},
    "guest": {"base", "memory", "ring", "wire"},
    "transport": {"base", "memory", "ring", "device"},
    "vm": {"base", "memory", "wire", "ring", "device", "guest", "transport"},
}

# Libraries that are our own business; their types and versions must not reach an embedder.
PRIVATE_LIBRARIES = ("fmt/", "spdlog/", "CLI/", "nlohmann/")

GENERATED = "vballoon/export.h"  # by CMake; belongs to no room

MAX_LINES = 500
LICENCE = "SPDX-License-Identifier: MIT"
SOURCE_FOLDERS = ("include", "src", "tests", "tools", "bench")
SOURCE_NAMES = {"CMakeLists.txt"}
SOURCE_SUFFIXES = {".h", ".cc", ".cmake", ".py", ".sh"}

INCLUDE = re.compile(r'\s*#\s*include\s*[<"]([^>"]+)[>"]')
ROOM = re.compile(r"^//.*\broom: (\w+)\s*$", re.MULTILINE)


def room_of_public_header(text):
    """The room that the comment on top of a public header names, or None."""
    comment = re.match(r"(//.*\n)*", text).group()
    match = ROOM.search(comment)
    return match.group(1) if match else None


def is_source(path):
    if path.name in SOURCE_NAMES or path.suffix in SOURCE_SUFFIXES:
        return True
    return path.suffix == "" and path.read_bytes()[:2] == b"#!"


class Checker:
    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.findings = []
        self.public_rooms = {}  # "vballoon/error.h" -> "base"

    def report(self, path, line, text):
        self.findings.append(f"{path.relative_to(self.root)}:{line}: {text}")

    def run(self):
        headers = sorted((self.root / "include").rglob("*.h"))
        for path in headers:
            self.read_public_room(path)
        for path in headers:
            room = self.public_rooms.get(self.include_name(path))
            self.check_includes(path, room, public=True)
        for path in sorted((self.root / "src").rglob("*")):
            if path.suffix in {".h", ".cc"}:
                self.check_room_source(path)
        for folder in SOURCE_FOLDERS:
            for path in sorted((self.root / folder).rglob("*")):
                if path.is_file() and is_source(path):
                    self.check_file(path)
        return self.findings

    def include_name(self, path):
        return path.relative_to(self.root / "include").as_posix()

    def read_public_room(self, path):
        room = room_of_public_header(path.read_text(encoding="utf-8"))
        if room in ALLOWED:
            self.public_rooms[self.include_name(path)] = room
        else:
            self.report(path, 1, "a public header names its room in the comment on top: 'room: X'")

    def check_room_source(self, path):
        room = path.relative_to(self.root / "src").parts[0]
        if room in ALLOWED:
            self.check_includes(path, room, public=False)
        else:
            self.report(path, 1, f"'{room}' is no room")

    def check_includes(self, path, room, public):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            match = INCLUDE.match(line)
            if match:
                self.check_include(path, number, room, match.group(1), public)

    def check_include(self, path, line, room, name, public):
        if public and name.startswith(PRIVATE_LIBRARIES):
            self.report(path, line, f"a public header includes <{name}>")
            return
        target = self.room_of_include(name)
        if target is None:
            if name.startswith((".", "src/")) or (self.root / "src" / name).is_file():
                self.report(path, line, f"'{name}': name it '<room>/<file>', from src/")
            elif (path.parent / name).is_file():
                self.report(path, line, f"'{name}': name it from src/ or include/")
            elif name.startswith("vballoon/") and name != GENERATED:
                self.report(path, line, f"'{name}' is no public header with a room")
            return
        if public and not name.startswith("vballoon/"):
            self.report(path, line, f"a public header includes '{name}', which is not installed")
        elif room is not None and target != room and target not in ALLOWED[room]:
            self.report(path, line, f"room {room} may not include {target} ('{name}')")

    def room_of_include(self, name):
        """The room that an included file belongs to, or None when it is not one of ours."""
        if name in self.public_rooms:
            return self.public_rooms[name]
        first, _, rest = name.partition("/")
        return first if rest and first in ALLOWED else None

    def check_file(self, path):
        lines = path.read_text(encoding="utf-8").splitlines()
        top = lines[1:2] if lines and lines[0].startswith("#!") else lines[:1]
        if not top or LICENCE not in top[0]:
            self.report(path, 1, f"no '{LICENCE}' on top")
        if len(lines) > MAX_LINES:
            self.report(path, MAX_LINES + 1, f"{len(lines)} lines, more than {MAX_LINES}")


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: source_rules.py <root of the project>")
    findings = Checker(sys.argv[1]).run()
    print("\n".join(findings) if findings else "no findings")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
