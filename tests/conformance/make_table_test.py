#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Shows that make_table.py finds the tests, makes the page, and says what is wrong."""

import pathlib
import tempfile
import unittest
from unittest import mock

import make_table

HEADER = "id\tlevel\tsection\tside\tstatement\tnot applicable\n"
MAY_CHANGE = "BAL-D-01\tMAY\t5.5\tdevice\tIt may change a page.\t\n"
LEGACY = "BAL-D-02\tMUST L\t5.5\tdevice\tIt is old.\tVERSION_1 only\n"
INFORMATIVE = "ADM\tI\t2.12\tboth\tThere are groups.\t\n"
CHECKLIST = HEADER + MAY_CHANGE + LEGACY + INFORMATIVE

BLOCKS = [
    make_table.Block("Balloon", "5.5", ["BAL"], {"D": 2}),
    make_table.Block("Others", "2.12", ["ADM"], {"I": 1}),
]
BEARING = "TEST(Suite, BAL_D_01_PageIsChanged) {}\n"


def names_in(text):
    return [f"{test.suite}.{test.name}" for test in make_table.tests_in(text, "x_test.cc")]


class TestNamesTest(unittest.TestCase):
    def test_all_macros_are_known(self):
        text = """TEST(A, One) {} TEST_F(B, Two) {} TEST_P(C, Three) {} TYPED_TEST(D, Four) {}
            TYPED_TEST_P(E, Five) {} RC_GTEST_PROP(F, Six, (int x)) {}
            RC_GTEST_FIXTURE_PROP(G, Seven, ()) {} RC_GTEST_TYPED_FIXTURE_PROP(H, Eight, ()) {}"""

        self.assertEqual(
            names_in(text),
            ["A.One", "B.Two", "C.Three", "D.Four", "E.Five", "F.Six", "G.Seven", "H.Eight"])

    def test_macro_may_be_broken_over_lines(self):
        self.assertEqual(names_in("TEST_F(Suite,\n       Name) {\n}"), ["Suite.Name"])
        self.assertEqual(names_in("RC_GTEST_PROP(\n    Suite, Name,\n    ()) {}"), ["Suite.Name"])

    def test_other_macros_are_no_tests(self):
        self.assertEqual(names_in("MY_TEST(A, B) TEST_SUITE_P(A, B) INSTANTIATE_TEST_SUITE_P(A, B)"),
                         [])

    def test_comments_and_literals_hold_no_tests(self):
        self.assertEqual(names_in("// TEST(A, B)\n/* TEST(A,\n B) */"), [])
        self.assertEqual(names_in('f("TEST(A, B)"); g(R"x(TEST(A, B)")x");'), [])

    def test_literals_and_digit_separators_hide_no_tests(self):
        self.assertEqual(names_in("char c = '\"'; int n = 1'000'000;\nTEST(A, B) {}"), ["A.B"])
        self.assertEqual(names_in('f("http://x"); TEST(A, B) {}'), ["A.B"])

    def test_disabled_tests_show_nothing(self):
        self.assertEqual(names_in("TEST(A, DISABLED_B) {} TEST(DISABLED_A, B) {}"), [])

    def test_name_may_bear_several_ids(self):
        test = make_table.Test("x", "Suite", "BAL_D_04_BAL_G_12_PageIsDiscarded")

        self.assertEqual(make_table.ids_of(test), ["BAL-D-04", "BAL-G-12"])


class ChecklistTest(unittest.TestCase):
    def findings(self, text):
        with self.assertRaises(make_table.Findings) as raised:
            make_table.read_checklist(text, BLOCKS)
        return "\n".join(raised.exception.args[0])

    def test_checklist_in_order_is_read(self):
        rows = make_table.read_checklist(CHECKLIST, BLOCKS)

        self.assertEqual([row.id for row in rows], ["BAL-D-01", "BAL-D-02", "ADM"])
        self.assertEqual(rows[1].reason, "VERSION_1 only")

    def test_missing_header_is_found(self):
        self.assertIn("names the columns", self.findings(MAY_CHANGE))

    def test_id_that_stands_twice_is_found(self):
        self.assertIn("BAL-D-01 stands there 2 times", self.findings(CHECKLIST + MAY_CHANGE))

    def test_row_that_was_lost_is_found(self):
        self.assertIn("Balloon has D 1 rows, expected D 2",
                      self.findings(HEADER + MAY_CHANGE + INFORMATIVE))

    def test_line_with_too_few_fields_is_found_by_number(self):
        self.assertIn("checklist.tsv:5: 1 fields, expected 6", self.findings(CHECKLIST + "BAL-D-03\n"))

    def test_empty_field_is_found(self):
        self.assertIn("no statement", self.findings(CHECKLIST + "BAL-D-03\tMAY\t5.5\tdevice\t\t\n"))

    def test_what_would_break_the_page_is_found(self):
        self.assertIn("has a bar", self.findings(CHECKLIST + "BAL-D-03\tMAY\t5.5\tdevice\ta|b\t\n"))

    def test_wrong_id_level_and_side_are_found(self):
        found = self.findings(CHECKLIST + "BAL-3\tWILL\t5.5\thost\tSomething.\t\n")

        self.assertIn("'BAL-3' is no id", found)
        self.assertIn("'WILL' is no level", found)
        self.assertIn("'host' is no side", found)

    def test_id_of_no_known_area_is_found(self):
        self.assertIn("XYZ-D-01 is of no known area",
                      self.findings(CHECKLIST + "XYZ-D-01\tMAY\t9\tdevice\tSomething.\t\n"))


class PageTest(unittest.TestCase):
    def setUp(self):
        blocks = mock.patch.object(make_table, "BLOCKS", BLOCKS)
        blocks.start()
        self.addCleanup(blocks.stop)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        (self.root / "docs").mkdir()
        self.write(make_table.CHECKLIST, CHECKLIST)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def page(self):
        make_table.run(self.root, check=False)
        return (self.root / make_table.PAGE).read_text(encoding="utf-8").splitlines()

    def findings(self):
        with self.assertRaises(make_table.Findings) as raised:
            make_table.run(self.root, check=True)
        return "\n".join(raised.exception.args[0])

    def test_rows_say_their_status(self):
        self.write("tests/device/x_test.cc", BEARING)

        page = self.page()

        self.assertIn("| BAL-D-01 | MAY | It may change a page. | "
                      "`Suite.BAL_D_01_PageIsChanged` | covered |", page)
        self.assertIn("| BAL-D-02 | MUST L | It is old. |  | not applicable: VERSION_1 only |", page)
        self.assertIn("| ADM | I | There are groups. |  | missing |", page)

    def test_totals_are_given_with_and_without_informative_rows(self):
        self.write("tests/device/x_test.cc", BEARING)

        page = self.page()

        self.assertIn("| normative | 2 | 1 | 1 | 0 |", page)
        self.assertIn("| all | 3 | 1 | 1 | 1 |", page)

    def test_of_many_tests_three_are_named(self):
        tests = [f"TEST(S, BAL_D_01_{name}) {{}}\n" for name in "ABCDE"]
        self.write("tests/device/x_test.cc", "".join(tests))

        self.assertIn("| BAL-D-01 | MAY | It may change a page. | `S.BAL_D_01_A`, `S.BAL_D_01_B`, "
                      "`S.BAL_D_01_C` and 2 more | covered |", self.page())

    def test_page_that_was_just_made_is_up_to_date(self):
        self.page()

        make_table.run(self.root, check=True)

    def test_page_is_out_of_date_after_a_new_test(self):
        self.page()
        self.write("tests/device/x_test.cc", BEARING)

        self.assertIn("out of date", self.findings())
        self.assertIn("python3 tests/conformance/make_table.py", self.findings())

    def test_page_that_is_missing_is_out_of_date(self):
        self.assertIn("out of date", self.findings())

    def test_id_that_is_not_in_the_checklist_is_found(self):
        self.write("tests/device/x_test.cc", "TEST(S, BAL_D_99_Something) {}\n")

        self.assertIn("tests/device/x_test.cc: S.BAL_D_99_Something bears BAL-D-99, which is not in",
                      self.findings())

    def test_id_that_is_not_applicable_needs_no_test(self):
        self.write("tests/device/x_test.cc", "TEST(S, BAL_D_02_Something) {}\n")

        self.assertIn("not applicable: VERSION_1 only", self.findings())


if __name__ == "__main__":
    unittest.main()
