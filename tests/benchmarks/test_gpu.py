"""The card's table, where there is no card: what it measures in its minutes, and what it minds."""

import json
import shutil
import sys
import time

import pytest

from benchmarks.card import updates
from benchmarks.card.section import RECOMPILED, Conditions, History, Report, Section
from benchmarks.gpu import RESULTS, card_sections
from benchmarks.keeping import Kept


def rows(*found):
    return lambda: (({"row": number}, lambda row=row: row) for number, row in enumerate(found))


def report(folder, *, seconds=60.0) -> Report:
    return Report(time.monotonic() + seconds, History(folder, Conditions()))


@pytest.fixture
def results(tmp_path):
    """Two cards measured one row on the newest day, and one of them another before."""

    def write(name: str, *took: tuple[int, float]) -> None:
        found = [{"row": row, "took_s": seconds} for row, seconds in took]
        (tmp_path / name).write_text(json.dumps([{"name": "any", "rows": found}]))

    write("2026-11-25-a.json", (0, 500.0), (1, 40.0))
    write("2026-11-26-a.json", (0, 7.0))
    write("2026-11-26-b.json", (0, 9.0))
    (tmp_path / "2026-11-27-cpu.json").write_text("{}")
    return tmp_path


def test_a_row_that_compiled_again_is_found_by_its_section(tmp_path):
    found = report(tmp_path)
    found.measure(Section("well", "?", rows({RECOMPILED: 0}, {"ms": 1.0})))
    assert found.recompiled() == []
    found.measure(Section("ill", "?", rows({RECOMPILED: 0}, {RECOMPILED: 2})))
    assert found.recompiled() == ["ill"]


def test_a_row_is_expected_to_take_what_it_took_last_on_the_slower_card(results):
    history = History(results, Conditions())
    assert history.expected_s("any", {"row": 0}) == 9.0
    assert history.expected_s("any", {"row": 1}) == 40.0
    assert history.expected_s("any", {"row": 2}) == 24.5  # never measured: what half of them took
    assert 10 < history.expected_s("new", {"row": 0}) < 60


def test_other_shapes_and_ways_of_compiling_tell_nothing_of_a_rows_time(results):
    whole = json.dumps([{"name": "any", "compile": "model", "rows": [{"row": 0, "took_s": 200.0}]}])
    (results / "2026-11-28-a.json").write_text(whole)
    assert History(results, Conditions()).expected_s("any", {"row": 0}) == 9.0
    model = History(results, Conditions(compile="model"))
    assert model.expected_s("any", {"row": 0}) == 200.0
    assert History(results, Conditions(shape="nano")).expected_s("any", {"row": 0}) < 60


def test_conditions_are_kept_with_every_section(tmp_path):
    found = Report(time.monotonic() + 60, History(tmp_path, Conditions("nano", "off")))
    found.measure(Section("any", "?", rows({"ms": 1.0})))
    assert Conditions.of(found.sections[0]) == Conditions("nano", "off")


def test_a_row_that_fails_without_a_word_says_how_and_the_next_is_measured(tmp_path):
    def fail():
        raise AssertionError

    found = report(tmp_path)
    works = iter([({"row": 0}, fail), ({"row": 1}, lambda: {"ms": 1.0})])
    found.measure(Section("any", "?", lambda: works))
    first, second = found.sections[0]["rows"]
    assert first["failed"] == "AssertionError"
    assert second["ms"] == 1.0


def test_the_peers_need_no_transformers_but_for_the_trainer(monkeypatch, tmp_path):
    for name in ("transformers", "benchmarks.steps.trainer"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(updates, "nanogpt", lambda load: {})
    monkeypatch.setattr(updates, "nanochat", lambda load: {})
    monkeypatch.setattr(updates, "_named", lambda run, load: {"ms": 1.0})
    monkeypatch.setattr(updates, "measured", lambda load, wish: {"ms": 1.0})
    found = report(tmp_path)
    found.measure(next(each for each in card_sections(every=False) if each.name == "peers"))
    assert ["ms" in row for row in found.sections[0]["rows"]] == [True, True, False, True]
    assert "benchmarks.steps.trainer" in found.sections[0]["rows"][2]["failed"]


def test_a_second_run_of_a_day_does_not_write_over_the_first(tmp_path):
    for text in ("first", "second", "third"):
        Kept(tmp_path, "card.v2").write(text, [{"name": text}])
    assert {path.read_text() for path in tmp_path.glob("*.md")} == {"first", "second", "third"}
    assert len(list(tmp_path.glob("*-card.v2*.json"))) == 3


def test_no_row_is_begun_that_would_end_too_late(results):
    found = report(results, seconds=20)
    found.measure(Section("any", "?", rows({"ms": 1.0}, {"ms": 2.0}, {"ms": 3.0})))
    assert ["ms" in row for row in found.sections[0]["rows"]] == [True, False, False]
    assert found.sections[0]["rows"][1]["not measured"].startswith("about 40 s")


@pytest.mark.parametrize("flash3", [True, False])
def test_all_default_rows_end_within_nine_minutes_by_earlier_results(monkeypatch, tmp_path, flash3):
    monkeypatch.setattr(updates, "flash3_obstacle", lambda _: None if flash3 else "is not there")
    for path in RESULTS.glob("2026-11-2*-nvidia-*.json"):  # an H100 and an H200, whatever follows
        shutil.copy(path, tmp_path)
    history = History(tmp_path, Conditions())

    def seconds(*, every: bool) -> float:
        return sum(
            history.expected_s(section.name, named)
            for section in card_sections(every=every)
            for named, _ in section.rows()
        )

    assert seconds(every=False) < 540 < seconds(every=True)
