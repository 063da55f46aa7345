"""docs/reliability.md tells of every row, and names the tests that plant it."""

import re
from pathlib import Path

TESTS = Path("tests")
ROW = re.compile(r"^\| (\d+) \|.*\| ([^|]+) \|$", re.MULTILINE)
MARK = re.compile(r"fault\((\d+)\)")
FUNCTION = re.compile(r"^def (test_\w+)", re.MULTILINE)


def marked() -> dict[int, set[str]]:
    """Return {row: names of the tests that carry its mark}."""
    found: dict[int, set[str]] = {}
    for path in TESTS.rglob("test_*.py"):
        begin, text = 0, path.read_text()
        for match in FUNCTION.finditer(text):
            decorators = text[begin : match.start()].rpartition("\n\n\n")[2]
            for row in MARK.findall(decorators):
                found.setdefault(int(row), set()).add(match[1])
            begin = match.end()
    return found


def documented() -> dict[int, set[str]]:
    text = Path("docs/reliability.md").read_text()
    return {int(row): set(tests.split(", ")) for row, tests in ROW.findall(text)}


def test_all_42_rows_are_documented_with_tests_that_are_there():
    table, tests = documented(), marked()
    assert sorted(table)[-42:] == list(range(1, 43))
    for row in range(1, 43):
        assert table[row] <= tests[row], row


def test_the_scan_sees_marks_of_parameters_too():
    assert "test_a_kill_at_a_planted_place_changes_nothing" in marked()[5]
