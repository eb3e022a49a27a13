#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes docs/conformance.md from checklist.tsv and from the names of the tests.

usage: make_table.py [--check] [<root of the project>]

A test bears an id of the checklist when its name has it with underscores: BAL_D_05 for BAL-D-05.
--check writes nothing; it fails when the page is out of date. Exits with 1 when something is wrong
with the checklist, with the ids that tests bear, or with the page, and prints a line for each.
"""

import collections
import pathlib
import re
import sys

CHECKLIST = "tests/conformance/checklist.tsv"
PAGE = "docs/conformance.md"
THIS = "tests/conformance/make_table.py"

COLUMNS = ["id", "level", "section", "side", "statement", "not applicable"]
MAY_BE_EMPTY = {"not applicable"}
LEVELS = {"MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY", "RECOMMENDED", "OPTIONAL", "I"}
MARKS = {"L", "1.3", "1.4"}
SIDES = {"device", "driver", "both"}
ID = re.compile(r"(?P<area>[A-Z]{3})(-(?P<side>[DGBI])-(?P<number>\d\d))?")
MOST_TESTS = 3  # of an id that the page names

# One table each: its title, its section of the standard, the areas of its ids, and how many ids of
# each side (device, driver, both, informative) it has.
Block = collections.namedtuple("Block", "title section areas counts")
BLOCKS = [
    Block("Balloon", "5.5", ["BAL"], {"D": 18, "G": 44, "B": 3, "I": 10}),
    Block("Device status", "2.1", ["DSF"], {"D": 3, "G": 4, "I": 1}),
    Block("Feature bits", "2.2", ["FTB"], {"D": 6, "G": 9, "B": 2, "I": 1}),
    Block("Device reset", "2.4", ["RST"], {"D": 2, "G": 1}),
    Block("Configuration space", "2.5", ["CFG"], {"D": 1, "G": 6, "I": 2}),
    Block("Virtqueues in general", "2.6", ["VQR"], {"D": 3, "G": 3, "I": 1}),
    Block("Split virtqueues", "2.7", ["SPL"], {"D": 24, "G": 31, "B": 2, "I": 3}),
    Block("Packed virtqueues", "2.8", ["PKD"], {"D": 11, "G": 19, "I": 6}),
    Block("Notifications, shared memory, exported objects, admin queues", "2.9 to 2.13",
          ["NTF", "SHM", "EXP", "ADM"], {"D": 2, "I": 2}),
    Block("Initialisation, cleanup, suspension", "3.1 to 3.4",
          ["INI", "CLN", "SUS"], {"D": 10, "G": 16}),
    Block("MMIO", "4.2", ["MMI"], {"D": 12, "G": 32, "I": 3}),
    Block("Reserved feature bits", "6", ["RSV"], {"D": 13, "G": 14, "B": 1}),
    Block("Back ends of vhost-user", "replies", ["VHU"], {"D": 4}),
]

# Comments and literals may hold what looks like a test or like the end of one.
NO_CODE = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<raw>[^(\s]*)\(.*?\)(?P=raw)"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'',
    re.DOTALL)
TEST = re.compile(
    r"\b(?:TEST|TEST_F|TEST_P|TYPED_TEST|TYPED_TEST_P|RC_GTEST_PROP|RC_GTEST_FIXTURE_PROP"
    r"|RC_GTEST_TYPED_FIXTURE_PROP)\s*\(\s*(\w+)\s*,\s*(\w+)\s*[,)]")
BORNE = re.compile(r"([A-Z]{3})_([DGBI])_(\d+)")

Row = collections.namedtuple("Row", "id level section side statement reason")
Test = collections.namedtuple("Test", "path suite name")

INTRO = f"""\
# Conformance

What virtio 1.3 asks of a balloon device and of its driver, and the tests that show it. Statements are
in our own words; the ids are those that tests bear, `BAL_D_05` for BAL-D-05: D is said of the device,
G of the driver (the guest), B of both, and I is not normative. Behind a level, L is for legacy only,
and a version says when the row came into the standard. The last table is about vhost-user, of which the
standard does not speak: what Linux's user-mode-linux insists on.

`{THIS}` makes this page from `{CHECKLIST}`
and from the names of the tests; do not edit it. `tools/mutate` shows that the tests can fail.

"""


class Findings(Exception):
    """What is wrong, a line each."""


def read_checklist(text, blocks=None):
    """The rows of the checklist in its order; raises Findings when it is malformed."""
    lines = text.splitlines()
    if not lines or lines[0].split("\t") != COLUMNS:
        raise Findings([f"{CHECKLIST}:1: the first line names the columns: {', '.join(COLUMNS)}"])
    rows, findings = [], []
    for number, line in enumerate(lines[1:], 2):
        fields = line.split("\t")
        wrong = what_is_wrong_with(fields)
        findings += [f"{CHECKLIST}:{number}: {what}" for what in wrong]
        if not wrong:
            rows.append(Row(*fields))
    seen = collections.Counter(row.id for row in rows)
    findings += [f"{CHECKLIST}: {id} stands there {n} times" for id, n in seen.items() if n > 1]
    if not findings:
        findings = miscounted(rows, BLOCKS if blocks is None else blocks)
    if findings:
        raise Findings(findings)
    return rows


def what_is_wrong_with(fields):
    if len(fields) != len(COLUMNS):
        return [f"{len(fields)} fields, expected {len(COLUMNS)}"]
    wrong = [f"no {column}" for column, field in zip(COLUMNS, fields)
             if not field.strip() and column not in MAY_BE_EMPTY]
    wrong += [f"'{field}' begins or ends with a space, or has a bar" for field in fields
              if field != field.strip() or "|" in field]
    id, level, _, side, _, _ = fields
    if not ID.fullmatch(id):
        wrong.append(f"'{id}' is no id")
    word, _, mark = level.rpartition(" ")
    if level not in LEVELS and not (word in LEVELS and mark in MARKS):
        wrong.append(f"'{level}' is no level")
    if side not in SIDES:
        wrong.append(f"'{side}' is no side")
    return wrong


def rows_of(block, rows):
    return [row for row in rows if row.id[:3] in block.areas]


def side_of(id):
    return ID.fullmatch(id)["side"] or "I"


def miscounted(rows, blocks):
    findings = []
    for block in blocks:
        counts = dict(collections.Counter(side_of(row.id) for row in rows_of(block, rows)))
        if counts != block.counts:
            findings.append(f"{CHECKLIST}: {block.title} has {in_words(counts)} rows, "
                            f"expected {in_words(block.counts)}")
    areas = {area for block in blocks for area in block.areas}
    findings += [f"{CHECKLIST}: {row.id} is of no known area" for row in rows
                 if row.id[:3] not in areas]
    return findings


def in_words(counts):
    return ", ".join(f"{side} {counts[side]}" for side in "DGBI" if side in counts) or "no"


def tests_in(text, path):
    """The tests of a source file, but for those that are disabled."""
    code = NO_CODE.sub(" ", text)
    return [Test(path, suite, name) for suite, name in TEST.findall(code)
            if not suite.startswith("DISABLED_") and not name.startswith("DISABLED_")]


def find_tests(root):
    tests = []
    for path in sorted((pathlib.Path(root) / "tests").rglob("*.cc")):
        tests += tests_in(path.read_text(encoding="utf-8"), path.relative_to(root).as_posix())
    return tests


def ids_of(test):
    return [f"{area}-{side}-{number}" for area, side, number in BORNE.findall(test.name)]


def match(rows, tests):
    """The tests of each id; raises Findings when a test bears an id that it should not."""
    reasons = {row.id: row.reason for row in rows}
    borne, findings = collections.defaultdict(list), []
    for test in tests:
        for id in ids_of(test):
            where = f"{test.path}: {test.suite}.{test.name} bears {id}"
            if id not in reasons:
                findings.append(f"{where}, which is not in the checklist")
            elif reasons[id]:
                findings.append(f"{where}, which is not applicable: {reasons[id]}")
            borne[id].append(test)
    if findings:
        raise Findings(findings)
    return borne


def status_of(row, borne):
    if row.reason:
        return f"not applicable: {row.reason}"
    return "covered" if borne[row.id] else "missing"


def names_of(tests):
    names = ", ".join(f"`{test.suite}.{test.name}`" for test in tests[:MOST_TESTS])
    more = len(tests) - MOST_TESTS
    return names + (f" and {more} more" if more > 0 else "")


def totals(rows, borne):
    """Rows by status: all of them, and the normative ones."""
    def count(of):
        counts = collections.Counter(status_of(row, borne).split(":")[0] for row in of)
        return [len(of)] + [counts[s] for s in ("covered", "not applicable", "missing")]
    return count(rows), count([row for row in rows if row.level != "I"])


def make_page(rows, borne, blocks=None):
    lines = ["| rows | total | covered | not applicable | missing |", "|---|---|---|---|---|"]
    everything, normative = totals(rows, borne)
    for title, numbers in (("normative", normative), ("all", everything)):
        lines.append(f"| {title} | {' | '.join(map(str, numbers))} |")
    for block in BLOCKS if blocks is None else blocks:
        lines += ["", f"## {block.title} ({block.section})", "",
                  "| id | level | statement | tests | status |", "|---|---|---|---|---|"]
        lines += [f"| {row.id} | {row.level} | {row.statement} | {names_of(borne[row.id])} | "
                  f"{status_of(row, borne)} |" for row in rows_of(block, rows)]
    return INTRO + "\n".join(lines) + "\n"


def first_difference(old, new):
    """Where two texts differ, in words."""
    old_lines, new_lines = old.splitlines(), new.splitlines()
    for number, (was, wanted) in enumerate(zip(old_lines, new_lines), 1):
        if was != wanted:
            return f"line {number} should be: {wanted}"
    return f"{len(old_lines)} lines, expected {len(new_lines)}"


def run(root, check):
    root = pathlib.Path(root)
    rows = read_checklist((root / CHECKLIST).read_text(encoding="utf-8"))
    page = make_page(rows, match(rows, find_tests(root)))
    path = root / PAGE
    if not check:
        path.write_text(page, encoding="utf-8")
        return
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    if old != page:
        raise Findings([f"{PAGE} is out of date: {first_difference(old, page)}",
                        f"make it anew: python3 {THIS}"])


def main():
    arguments = sys.argv[1:]
    check = "--check" in arguments
    roots = [a for a in arguments if a != "--check"]
    if len(roots) > 1 or any(root.startswith("-") for root in roots):
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    root = roots[0] if roots else pathlib.Path(__file__).resolve().parents[2]
    try:
        run(root, check)
    except Findings as findings:
        print("\n".join(findings.args[0]), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
