"""The card's table, where there is no card: what it measures in its minutes, and what it minds."""

import json
import shutil
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from benchmarks.card import updates
from benchmarks.card.section import RECOMPILED, Conditions, History, Report, Section
from benchmarks.gpu import RESULTS, card_sections, main
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
    assert found.faults() == []
    found.measure(Section("ill", "?", rows({RECOMPILED: 0}, {RECOMPILED: 2})))
    (told,) = found.faults()
    assert "graphs after the first update in ill," in told


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


@pytest.mark.filterwarnings("default")  # torch loads more of itself where it sees a card
def test_a_card_that_is_gone_ends_the_table_and_what_was_measured_lies_on_disk(
    monkeypatch, tmp_path, capsys
):
    def die():
        error = RuntimeError("CUDA error: an illegal memory access was encountered\nMore words")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: (_ for _ in ()).throw(error))
        raise error

    kept, found = Kept(tmp_path, "card"), report(tmp_path)
    found.keep = lambda: kept.write(capsys.readouterr().out, found.sections)
    works = [({"row": 0}, lambda: {"ms": 1.0}), ({"row": 1}, die), ({"row": 2}, die)]
    found.measure(Section("any", "?", lambda: iter(works)))
    (path,) = tmp_path.glob("*-card.json")
    (told,) = json.loads(path.read_text())
    assert [row.get("ms", row.get("failed")) for row in told["rows"]] == [
        1.0,
        "RuntimeError: CUDA error: an illegal memory access was encountered",
    ]
    (fault,) = found.faults()
    assert "an illegal memory access was encountered; measure theirs in a new process" in fault


def test_a_row_is_kept_before_the_next_is_begun(tmp_path):
    kept: list[int] = []
    found = report(tmp_path)
    found.keep = lambda: kept.append(len(found.sections[0]["rows"]))
    works = iter([({"row": n}, lambda n=n: {"ms": float(len(kept))}) for n in range(2)])
    found.measure(Section("any", "?", lambda: works))
    assert kept == [1, 2]
    assert [row["ms"] for row in found.sections[0]["rows"]] == [0.0, 1.0]


def test_a_table_without_a_measured_row_is_a_fault(tmp_path):
    found = report(tmp_path)
    assert found.faults()
    found.measure(Section("any", "?", rows({"failed": "no memory"}, {"not measured": "no card"})))
    (told,) = found.faults()
    assert "nothing was measured" in told
    found.measure(Section("other", "?", rows({"failed": "no memory"}, {"ms": 1.0})))
    assert found.faults() == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--shape", "nanno"), "--shape nanno: no such file or model; did you mean nano"),
        (("--sections", "peer"), "--sections peer: choose from lengths, compile, "),
        (("--shape", "nano"), "this machine has no CUDA card"),
    ],
)
def test_a_wrong_word_is_one_line_and_30(monkeypatch, capsys, words, said):
    monkeypatch.setattr(sys, "argv", ["gpu", *words])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as left:
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert left.value.code == 30
    assert said in line


def section(name: str, *, how: str = "block", every: bool = False) -> Section:
    return next(each for each in card_sections("nano", how, every=every) if each.name == name)


@pytest.fixture
def timed(monkeypatch):
    """Every way as if it were timed, but Trainer, whose package is not there."""
    for name in ("transformers", "benchmarks.steps.trainer"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(updates, "nanogpt", lambda load: SimpleNamespace(name="nanoGPT"))
    monkeypatch.setattr(updates, "nanochat", lambda load: SimpleNamespace(name="nanochat"))
    monkeypatch.setattr(updates, "told", lambda run, load: {"ms": 1.0})
    monkeypatch.setattr(updates, "measured", lambda load, wish: {"ms": 1.0})


@pytest.mark.usefixtures("timed")
def test_the_peers_need_no_transformers_but_for_the_trainer(tmp_path):
    found = report(tmp_path)
    found.measure(section("peers"))
    ways = {row["way"]: row for row in found.sections[0]["rows"]}
    assert [way for way, row in ways.items() if "ms" in row] == [
        "nanogpt",
        "nanochat",
        "ours, Muon",
        "ours again",
    ]
    (failed,) = (row["failed"] for row in ways.values() if "failed" in row)
    assert "benchmarks.steps.trainer" in failed


@pytest.mark.usefixtures("timed")
@pytest.mark.parametrize("is_there", [True, False])
def test_a_trainer_without_ligers_kernels_has_a_name_of_its_own(monkeypatch, tmp_path, is_there):
    monkeypatch.setattr(updates, "find_spec", lambda name: object() if is_there else None)
    found = report(tmp_path)
    found.measure(section("peers"))
    ways = {row["way"]: row for row in found.sections[0]["rows"]}
    assert ("trainer" in ways) != is_there
    with_liger = ways["trainer + Liger"]
    assert is_there or "pip install liger-kernel" in with_liger["not measured"]
    assert ("failed" in with_liger) == is_there  # asked for: the package it needs is not there


@pytest.mark.parametrize("how", ["off", "block", "model"])
def test_blocks_are_compiled_before_the_row_of_a_warm_cache(how):
    before = [named["compile"] for named, _ in section("compile", how=how).rows()]
    assert before.pop() == "block, warm cache"
    assert ("block" in before) != (how == "block")  # which the table of lengths has compiled


def test_what_cannot_be_compiled_says_so(monkeypatch):
    monkeypatch.setattr(updates, "compile_obstacle", lambda device: "needs a compiler")
    rows = [row for name in ("compile", "fp8") for row in section(name, how="off").rows()]
    compiled = [work() for named, work in rows if named.get("compile") != "off"]
    assert compiled == 5 * [{"not measured": "torch.compile needs a compiler"}]


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
    monkeypatch.setattr(updates, "find_spec", lambda _: object())  # Liger's kernels are there
    for path in RESULTS.glob("*.json"):
        shutil.copy(path, tmp_path)
    # Rows that the results of that day have under other names.
    renamed = [{"way": "ours, Muon", "took_s": 14.0}, {"way": "trainer + Liger", "took_s": 28.2}]
    content = json.dumps([{"name": "peers", "rows": renamed}])
    (tmp_path / "2026-11-27-renamed.json").write_text(content)
    history = History(tmp_path, Conditions())

    def seconds(*, every: bool) -> float:
        return sum(
            history.expected_s(section.name, named)
            for section in card_sections(every=every)
            for named, _ in section.rows()
        )

    assert seconds(every=False) < 540 < seconds(every=True)
