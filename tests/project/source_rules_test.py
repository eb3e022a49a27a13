#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Shows that source_rules.py finds what it should, and nothing in a tree that is in order."""

import pathlib
import tempfile
import unittest

import source_rules

TOP = "// SPDX-License-Identifier: MIT\n"

GOOD_TREE = {
    "include/vballoon/error.h": TOP + "// Errors.   room: base\n#include <string>\n",
    "include/vballoon/memory.h": TOP + '// Memory.   room: memory\n#include "vballoon/error.h"\n',
    "include/vballoon/device.h": TOP + '// Device.   room: device\n#include "vballoon/export.h"\n',
    "include/vballoon/sim/guest.h": TOP + "// Guest.   room: guest\n",
    "src/base/error.cc": TOP + '#include "vballoon/error.h"\n\n#include <fmt/format.h>\n',
    "src/memory/map.cc": TOP + '#include "vballoon/memory.h"\n\n#include <memory>\n',
    "src/ring/queue.h": TOP + '#include "vballoon/memory.h"\n',
    "src/device/device.cc": TOP + '#include "vballoon/device.h"\n#include "ring/queue.h"\n',
    "src/vm/vm.cc": TOP + '#include "vballoon/device.h"\n#include "vballoon/sim/guest.h"\n',
    "tests/device/a_test.cc": TOP + '#include "guest/driver.h"\n',
    "tools/setup": "#!/bin/bash\n# SPDX-License-Identifier: MIT\n",
    "tools/notes.md": "no licence line needed\n",
}


class SourceRulesTest(unittest.TestCase):
    def findings(self, changes):
        with tempfile.TemporaryDirectory() as root:
            for name, text in {**GOOD_TREE, **changes}.items():
                path = pathlib.Path(root, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            return source_rules.Checker(root).run()

    def assert_one_finding(self, name, text, expected):
        findings = self.findings({name: text})

        self.assertEqual(len(findings), 1, findings)
        self.assertIn(name, findings[0])
        self.assertIn(expected, findings[0])

    def test_tree_in_order_has_no_findings(self):
        self.assertEqual(self.findings({}), [])

    def test_include_against_the_arrows_is_found(self):
        self.assert_one_finding(
            "src/ring/queue.h", TOP + '#include "device/ledger.h"\n', "ring may not include device"
        )

    def test_device_and_guest_do_not_know_each_other(self):
        self.assert_one_finding(
            "src/guest/driver.cc", TOP + '#include "device/x.h"\n', "guest may not include device"
        )
        self.assert_one_finding(
            "src/device/x.cc", TOP + '#include "guest/x.h"\n', "device may not include guest"
        )

    def test_public_header_counts_as_its_room(self):
        self.assert_one_finding(
            "src/wire/format.cc", TOP + '#include "vballoon/memory.h"\n', "wire may not include memory"
        )

    def test_angle_brackets_and_spaces_hide_nothing(self):
        self.assert_one_finding(
            "src/base/x.cc", TOP + "#  include <vballoon/device.h>\n", "base may not include device"
        )

    def test_public_headers_obey_the_arrows(self):
        self.assert_one_finding(
            "include/vballoon/ring.h",
            TOP + '// Ring.   room: ring\n#include "vballoon/device.h"\n',
            "ring may not include device",
        )

    def test_public_header_without_a_room_is_found(self):
        self.assert_one_finding("include/vballoon/x.h", TOP + "// Something.\n", "names its room")

    def test_public_header_with_an_unknown_room_is_found(self):
        self.assert_one_finding("include/vballoon/x.h", TOP + "// X.   room: cellar\n", "names its room")

    def test_room_below_the_comment_on_top_does_not_count(self):
        self.assert_one_finding(
            "include/vballoon/x.h", TOP + "#include <vector>\n// X.   room: base\n", "names its room"
        )

    def test_public_header_that_includes_a_private_library_is_found(self):
        self.assert_one_finding(
            "include/vballoon/error.h",
            TOP + "// Errors.   room: base\n#include <fmt/format.h>\n",
            "includes <fmt/format.h>",
        )

    def test_public_header_that_includes_an_internal_one_is_found(self):
        self.assert_one_finding(
            "include/vballoon/device.h",
            TOP + '// Device.   room: device\n#include "ring/queue.h"\n',
            "not installed",
        )

    def test_public_header_that_does_not_exist_is_found(self):
        self.assert_one_finding(
            "src/base/x.cc", TOP + '#include "vballoon/gone.h"\n', "no public header"
        )

    def test_relative_include_is_found(self):
        self.assert_one_finding(
            "src/device/device.cc", TOP + '#include "../guest/driver.h"\n', "from src/"
        )
        self.assert_one_finding("src/ring/queue.cc", TOP + '#include "queue.h"\n', "from src/")

    def test_source_outside_the_rooms_is_found(self):
        self.assert_one_finding("src/cellar/x.cc", TOP, "'cellar' is no room")

    def test_missing_licence_line_is_found(self):
        self.assert_one_finding("tests/base/x_test.cc", "// A test.\n", "SPDX")
        self.assert_one_finding("tools/run", "#!/bin/bash\nset -e\n", "SPDX")
        self.assert_one_finding("src/base/CMakeLists.txt", "", "SPDX")

    def test_file_that_grew_too_long_is_found(self):
        self.assert_one_finding("src/base/x.cc", TOP + "//\n" * 500, "501 lines")


if __name__ == "__main__":
    unittest.main()
