#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Shows that tools/mutate reads its list, finds what does not fit, and tells caught from survived."""

import importlib.machinery
import importlib.util
import os
import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools/mutate"
loader = importlib.machinery.SourceFileLoader("mutate", str(SCRIPT))
mutate = importlib.util.module_from_spec(importlib.util.spec_from_loader("mutate", loader))
loader.exec_module(mutate)

HEADER = "\t".join(mutate.COLUMNS) + "\n"
SOURCE = "a = 1;\nb = 2;\nb = 2;\n"


def mutation(fragment="a = 1;", replacement="a = 2;", id="BAL-D-05", explanation=""):
    return mutate.Mutation("src/x.cc", id, fragment, replacement, explanation)


class ListTest(unittest.TestCase):
    def test_list_is_read(self):
        text = HEADER + "src/x.cc\tBAL-D-05\ta = 1;\ta = 2;\tit is right\n"

        self.assertEqual(mutate.read_mutations(text), [mutation(explanation="it is right")])

    def test_missing_header_is_found(self):
        with self.assertRaises(mutate.Malformed):
            mutate.read_mutations("src/x.cc\tBAL-D-05\ta\tb\t\n")

    def test_line_with_too_few_fields_is_found_by_number(self):
        with self.assertRaises(mutate.Malformed) as raised:
            mutate.read_mutations(HEADER + "src/x.cc\tBAL-D-05\n")

        self.assertIn(":2: 2 fields", raised.exception.args[0][0])


class FitTest(unittest.TestCase):
    def findings(self, one, programs=None):
        with tempfile.TemporaryDirectory() as root:
            path = pathlib.Path(root, "src/x.cc")
            path.parent.mkdir()
            path.write_text(SOURCE, encoding="utf-8")
            tests = {"BAL-D-05": {"device_tests"}} if programs is None else programs
            return mutate.what_does_not_fit([one], root, tests)

    def test_mutation_that_fits_has_no_findings(self):
        self.assertEqual(self.findings(mutation()), [])

    def test_fragment_that_is_gone_is_found(self):
        self.assertIn("has 0 times: c = 3;", self.findings(mutation("c = 3;"))[0])

    def test_fragment_that_stands_there_twice_is_found(self):
        self.assertIn("has 2 times: b = 2;", self.findings(mutation("b = 2;"))[0])

    def test_mutation_that_changes_nothing_is_found(self):
        self.assertIn("changes nothing", self.findings(mutation("a = 1;", "a = 1;"))[0])

    def test_id_that_no_test_bears_is_found(self):
        self.assertIn("no test bears BAL-D-05", self.findings(mutation(), {})[0])

    def test_program_is_named_after_the_folder_of_the_test(self):
        tests = [mutate.make_table.Test("tests/ring/x_test.cc", "S", "BAL_D_04_BAL_D_05_Name")]

        programs = mutate.programs_by_id(tests)
        self.assertEqual(programs["BAL-D-04"], {"ring_tests"})
        self.assertEqual(programs["BAL-D-05"], {"ring_tests"})

    def test_suite_is_an_id_too(self):
        tests = [mutate.make_table.Test("tests/ring/x_test.cc", "RingTest", "Name")]

        self.assertEqual(mutate.programs_by_id(tests), {"RingTest": {"ring_tests"}})


class CopyTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.source = pathlib.Path(folder.name, "source")
        self.copy = pathlib.Path(folder.name, "copy")
        (self.source / "src").mkdir(parents=True)
        (self.source / "src/x.cc").write_text(SOURCE, encoding="utf-8")

    def test_all_but_what_is_built_is_copied(self):
        (self.source / "build").mkdir()
        (self.source / "build/x.o").write_text("", encoding="utf-8")

        mutate.bring_up_to_date(self.source, self.copy)

        self.assertEqual((self.copy / "src/x.cc").read_text(encoding="utf-8"), SOURCE)
        self.assertFalse((self.copy / "build").exists())

    # Objects may be of a mutation that is gone: an older source would hide that.
    def test_file_that_is_the_same_keeps_its_time(self):
        mutate.bring_up_to_date(self.source, self.copy)
        os.utime(self.copy / "src/x.cc", (2_000_000_000, 2_000_000_000))

        mutate.bring_up_to_date(self.source, self.copy)

        self.assertEqual((self.copy / "src/x.cc").stat().st_mtime, 2_000_000_000)

    def test_file_that_differs_is_copied_and_new(self):
        mutate.bring_up_to_date(self.source, self.copy)
        (self.copy / "src/x.cc").write_text("mutated", encoding="utf-8")
        os.utime(self.source / "src/x.cc", (1, 1))

        mutate.bring_up_to_date(self.source, self.copy)

        self.assertEqual((self.copy / "src/x.cc").read_text(encoding="utf-8"), SOURCE)
        self.assertGreater((self.copy / "src/x.cc").stat().st_mtime, 1)


class WorkshopTest(unittest.TestCase):
    def test_program_without_a_test_of_the_id_is_told_from_one_that_has_some(self):
        with tempfile.TemporaryDirectory() as folder:
            program = pathlib.Path(folder, "build/bin/x_tests")
            program.parent.mkdir(parents=True)
            program.write_text('#!/bin/sh\ncase "$2" in *BAL_D_05*) printf "S.\\n  N\\n";; esac\n',
                               encoding="utf-8")
            program.chmod(0o755)
            workshop = mutate.Workshop(folder, 1)

            self.assertTrue(workshop.has_tests("x_tests", "BAL-D-05"))
            self.assertFalse(workshop.has_tests("x_tests", "BAL-D-04"))


class OutcomeTest(unittest.TestCase):
    def test_failed_test_catches(self):
        outcome = mutate.outcome_of(1, "[  FAILED  ] S.BAL_D_05_X (0 ms)\n[  FAILED  ] S.Y\n")

        self.assertEqual(outcome, (mutate.CAUGHT, "S.BAL_D_05_X"))

    def test_crash_catches(self):
        self.assertEqual(mutate.outcome_of(-11, "").verdict, mutate.CAUGHT)

    def test_tests_that_pass_let_it_survive(self):
        self.assertEqual(mutate.outcome_of(0, "[  PASSED  ] 3 tests.\n").verdict, mutate.SURVIVED)

    def test_filter_names_all_tests_of_the_ids(self):
        self.assertEqual(mutate.gtest_filter(["BAL-D-05", "DSF-G-01"]), "*BAL_D_05*:*DSF_G_01*")

    def test_survivor_is_bad_unless_it_is_explained(self):
        survived = mutate.Outcome(mutate.SURVIVED, "")

        self.assertTrue(mutate.is_bad(mutation(), survived))
        self.assertFalse(mutate.is_bad(mutation(explanation="it is right"), survived))

    def test_mutation_that_does_not_build_is_bad_though_explained(self):
        not_built = mutate.Outcome(mutate.NOT_BUILT, "")

        self.assertTrue(mutate.is_bad(mutation(explanation="it is right"), not_built))


if __name__ == "__main__":
    unittest.main()
