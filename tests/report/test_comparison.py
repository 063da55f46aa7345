"""Several runs on one page: every figure traced to its run, and only like compared with like."""

import json
import shutil
from pathlib import Path

import pytest

from scripts.chromium import find_chromium, open_page
from tests.report.test_browser import EMPTY, NOISE, OUTSIDE, VIEWS
from tests.report.test_traces import PAIRED, wrong_values
from tests.report.written_page import Page
from yxanul.report import comparison
from yxanul.report.reading.gather import gather
from yxanul.report.write import write_comparison


def change_scores(root: Path, domain: str, factor: float) -> None:
    """Make every score of a domain that much larger, document by document."""
    for path in (root / "scores").glob(f"step-*-{domain}.json"):
        score = json.loads(path.read_text())
        score["bpb"] *= factor
        score["nats"] = [factor * nats for nats in score["nats"]]
        path.write_text(json.dumps(score))


@pytest.fixture(scope="module")
def three(run, skilled, tmp_path_factory) -> list[Path]:
    """Two runs that read the same documents, one better in one domain, and one with skills."""
    place = tmp_path_factory.mktemp("compared")
    roots = [shutil.copytree(run, place / name) for name in ("first", "second")]
    change_scores(roots[1], "wikipedia", 0.9)
    config = (roots[1] / "config.yaml").read_text()
    assert config.count("learning_rate: 0.02\n") > 0
    (roots[1] / "config.yaml").write_text(config.replace("seed: 42\n", "seed: 43\n"))
    return [*roots, shutil.copytree(skilled, place / "skilled")]


@pytest.fixture(scope="module")
def page(three) -> Page:
    path = write_comparison(three, three[0].parent / "comparison.html")
    return Page(path.read_text(encoding="utf-8"))


def line(lines, title):
    return next(one for one in lines if one.title == title)


def test_every_value_of_the_comparison_is_what_the_runs_hold(three, page):
    assert len(page.values) > 60
    assert wrong_values(three[0].parent, page) == []
    assert page.untraced == []
    assert {value.how for value in page.values} >= PAIRED


def test_a_domain_is_compared_document_by_document_with_the_first_run(three):
    runs = [gather(root) for root in three[:2]]
    wikipedia, math = (line(comparison.domains(runs), name) for name in ("wikipedia", "math"))
    better = wikipedia.cells[1]
    assert better.moved.number == pytest.approx(-0.1)
    assert better.moved_low.number == pytest.approx(-0.1)  # each document is as much better
    assert better.moved_high.number == pytest.approx(-0.1)
    assert (better.tone, better.is_best, wikipedia.cells[0].is_best) == ("good", True, False)
    assert math.cells[1].tone == ""
    assert not any(cell.is_best for cell in math.cells)


@pytest.mark.parametrize(
    ("key", "of_first", "of_other"),
    [("bytes", [400] * 124, [401] + [400] * 123), ("text_sha256", "a", "b")],
)
def test_runs_that_read_other_documents_are_not_compared(three, tmp_path, key, of_first, of_other):
    """By the hash of the documents, or their sizes where a score of an older run has none."""
    roots = [shutil.copytree(three[n], tmp_path / f"run{n}") for n in (0, 1)]
    for root, value in zip(roots, (of_first, of_other), strict=True):
        for path in (root / "scores").glob("step-*-wikipedia.json"):
            path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    found = line(comparison.domains([gather(root) for root in roots]), "wikipedia")
    assert "other documents" in found.note
    assert all(cell.moved is None and not cell.is_best for cell in found.cells)


def test_without_a_score_of_the_first_run_no_change_is_told(three, tmp_path):
    bare = shutil.copytree(three[0], tmp_path / "bare")
    for path in (bare / "scores").glob("step-*-wikipedia.json"):
        path.unlink()
    found = line(comparison.domains([gather(bare), *map(gather, three[:2])]), "wikipedia")
    assert found.cells[0].value is None
    assert all(cell.moved is None for cell in found.cells)
    assert [cell.is_best for cell in found.cells] == [False, False, True]


def test_settings_that_differ_are_listed_and_no_others(three):
    found = comparison.differences([gather(root) for root in three[:2]])
    assert {one.title.rsplit(".", 1)[-1] for one in found} == {"seed"}
    assert all([cell.value.value for cell in one.cells] == [42, 43] for one in found)


@pytest.mark.parametrize(
    "changed", [{"prompts_sha256": "c" * 64}, {"version": "2.0"}, {"max_new_tokens": 16}]
)
def test_a_task_that_was_asked_otherwise_is_not_compared(skilled, tmp_path, changed):
    roots = [skilled, shutil.copytree(skilled, tmp_path / "other")]
    for path in (roots[1] / "scores" / "skills").glob("step-*-gsm8k.json"):
        score = json.loads(path.read_text())
        half = len(score["ids"]) // 2
        score["measures"]["exact_match"] = [1.0] * half + [0.0] * (len(score["ids"]) - half)
        path.write_text(json.dumps({**score, **changed}))
    lines = comparison.tasks([gather(root) for root in roots])
    gsm8k, cloze = line(lines, "gsm8k"), line(lines, "cloze")
    assert "length of answers in each run: not compared" in gsm8k.note
    assert "kin: skilled, other" in gsm8k.note
    assert not any(cell.is_best for cell in gsm8k.cells)
    assert cloze.note == "acc"


def test_a_task_that_one_run_lacks_has_an_empty_cell(three):
    found = comparison.tasks([gather(root) for root in three])
    assert found
    for one in found:
        assert one.cells[0].value is one.cells[1].value is None
        assert one.cells[2].value is not None


@pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed")
@pytest.mark.parametrize(
    "views", [VIEWS[::3], pytest.param(VIEWS[1:3], marks=pytest.mark.slow)], ids=["often", "others"]
)
def test_the_comparison_is_quiet_fits_its_window_and_is_drawn(three, page, views):
    address = (three[0].parent / "comparison.html").as_uri()
    with open_page(find_chromium()) as browser:
        for (width, height), dark in views:
            before = len(browser.events)
            browser.show(address, width=width, height=height, dark=dark)
            events = browser.events[before:]
            assert [event for event in events if event["method"] in NOISE] == []
            asked = [event["params"]["request"]["url"] for event in events
                     if event["method"] == "Network.requestWillBeSent"]  # fmt: skip
            assert asked == [address]
            assert browser.evaluate(OUTSIDE) == []
            assert browser.evaluate(EMPTY) == 0
