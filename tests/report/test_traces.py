"""Every number on the page stands in a row of the run folder, and is what the page says."""

import json
import math
import re

import pytest

from tests.report.formulas import OF_LISTS, OF_PLAN, recompute
from tests.report.written_page import Page, plain_figures, resolve, shown_number
from yxanul.report.reading.traced import FORMULAS


def wrong_values(root, page):
    """What the page says and its addresses do not."""
    wrong = []
    for value in page.values:
        held = recompute(root, value)
        if value.value is None:
            shown, stored = value.text, str(held).lower() if isinstance(held, bool) else held
            if value.is_sentence:
                shown, stored = plain_figures(shown), plain_figures(stored)
            if shown != stored:
                wrong.append((value, held))
            continue
        said, half = shown_number(value.text)
        full = float(value.value)
        if (
            not math.isclose(full, held, rel_tol=1e-12, abs_tol=1e-14)
            or abs(said - full) > half * 1.001
        ):
            wrong.append((value, held))
    return wrong


def test_every_value_on_the_page_is_what_its_rows_hold(run, page):
    assert len(page.values) > 500
    assert wrong_values(run, page) == []


def test_every_value_of_a_run_with_skills_is_what_its_files_hold(skilled, skilled_page):
    assert len(skilled_page.values) > 900
    assert wrong_values(skilled, skilled_page) == []
    assert skilled_page.untraced == []


def test_hostile_names_are_traced_like_all_others(hostile):
    page = Page((hostile / "report.html").read_text(encoding="utf-8"))
    assert wrong_values(hostile, page) == []


def test_no_number_on_the_page_lacks_an_address(page):
    assert page.untraced == []


@pytest.mark.parametrize("how", ["", "change", "sum", "count", "length", "median", "key", "date",
                                 "file", "gain", "mean gain", "parameters", "perplexity",
                                 "dollars", "trained", "forecast",
                                 "memory", "off forecast", "whole steps"])  # fmt: skip
def test_every_formula_is_used_and_so_recomputed(page, how):
    assert any(value.how == how for value in page.values)


PAIRED = {"paired change", "paired high", "paired low"}  # of a comparison


@pytest.mark.parametrize("how", sorted({"dirty", *OF_LISTS} - {"perplexity"} - PAIRED))
def test_every_formula_of_skills_is_used_and_so_recomputed(skilled_page, how):
    assert any(value.how == how for value in skilled_page.values)


def test_no_formula_is_written_without_a_meaning_and_none_is_left_over(page, skilled_page):
    used = {value.how for one in (page, skilled_page) for value in one.values} - {""}
    of_a_card = OF_PLAN.keys()  # tests/report/test_planned.py has a run on one
    # tests/report/test_page.py has such runs
    others = {"own tokens", "since", "spent", "spent tokens"}
    assert used | {"named"} | PAIRED | of_a_card | others == FORMULAS.keys()


def test_a_wrong_number_would_be_found(run, page):
    html = (run / "report.html").read_text(encoding="utf-8")
    value = next(v for v in page.values if v.how == "change")
    forged = Page(html.replace(f'data-value="{value.value}"', 'data-value="0.123"', 1))
    assert wrong_values(run, forged)
    bare = Page(html.replace("<main>", "<main><p>loss 3.14</p>"))
    assert bare.untraced == ["loss 3.14"]


def test_a_value_can_be_seen_with_its_address(page):
    titles = [a["title"] for _, a in page.tags if "data-source" in a]
    assert len(titles) == len(page.values)
    assert any(re.match(r"gates\.jsonl, line \d+: bpb_after / wikipedia", t) for t in titles)
    assert any("the first divided by the second, minus one" in t for t in titles)


def test_every_point_of_a_chart_is_a_row(run, page):
    points = 0
    for figure in page.figures.values():
        for trace in figure["data"]:
            x_of, y_of = trace["meta"]["x"], trace["meta"]["y"]
            for index, place in enumerate(trace["customdata"]):
                x_source = x_of[index] if isinstance(x_of, list) else f"{place}#/{x_of}"
                assert trace["x"][index] == resolve(run, x_source)
                assert trace["y"][index] == resolve(run, f"{place}#/{y_of}")
                points += 1
    assert points > 500


def test_every_row_and_every_score_is_drawn(run, page):
    rows = (run / "metrics.jsonl").read_text().splitlines()
    losses = [t for t in page.figures["loss"]["data"] if t["meta"]["y"] == "loss"]
    assert sum(len(t["x"]) for t in losses) == len(rows)
    drawn = {place for t in page.figures["bpb"]["data"] for place in t["customdata"]}
    assert drawn == {f"scores/{path.name}" for path in (run / "scores").iterdir()}


def test_forgetting_is_against_the_best_before(run, page):
    """The last row of wikipedia: stage 1 had been its best."""
    verdicts = [
        json.loads(line)
        for line in (run / "gates.jsonl").read_text().splitlines()
        if '"verdict"' in line and '"ledger"' in line
    ]
    last, best = (verdicts[i]["bpb_after"]["wikipedia"] for i in (-1, 0))
    lines = [n for n, line in enumerate((run / "gates.jsonl").read_text().splitlines(), start=1)
             if json.loads(line) in (verdicts[-1], verdicts[0])]  # fmt: skip
    wanted = [f"gates.jsonl:{n}#/bpb_after/wikipedia" for n in reversed(lines)]
    found = [v for v in page.values if v.how == "change" and v.sources == wanted]
    assert len(found) == 2  # in the matrix, and in the column of forgetting
    assert [float(v.value) for v in found] == [pytest.approx(last / best - 1)] * 2
