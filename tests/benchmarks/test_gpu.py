"""The card's table, where there is no card: what it measures in its minutes, and what it minds."""

import time

from benchmarks.card.section import RECOMPILED, Report, Section


def rows(*found):
    return lambda: (({"row": number}, lambda row=row: row) for number, row in enumerate(found))


def test_a_row_that_compiled_again_is_found_by_its_section():
    report = Report(deadline=time.monotonic() + 60)
    report.measure(Section("well", "?", rows({RECOMPILED: 0}, {"ms": 1.0})))
    assert report.recompiled() == []
    report.measure(Section("ill", "?", rows({RECOMPILED: 0}, {RECOMPILED: 2})))
    assert report.recompiled() == ["ill"]
