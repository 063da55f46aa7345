"""What is expected of the benchmarks stands once, with sources, and everywhere alike."""

import re
from pathlib import Path

import pytest

from yxanul.config.evaluation import TASKS
from yxanul.config.load import load_config
from yxanul.plan.claims.judge import claims
from yxanul.plan.expected import EXPECTATIONS, expected_table

ROOT = Path(__file__).parents[2]


def ranges(text):
    return [tuple(map(float, pair)) for pair in re.findall(r"(\d+)-(\d+)", text)]


def test_the_five_promised_benchmarks_stand_in_the_order_of_the_promise():
    names = [one.name for one in EXPECTATIONS]
    assert names == ["Perplexity", "HellaSwag", "TriviaQA", "GSM8K", "HumanEval"]
    assert {one.task for one in EXPECTATIONS} - {None} <= TASKS.keys()


def test_every_published_figure_names_its_source():
    published = [p for one in EXPECTATIONS for p in (*one.public, one.reference) if p is not None]
    assert len(published) > 10
    assert all(p.source and p.model and p.tokens for p in published)
    assert all(0 <= p.value <= 100 for p in published)


@pytest.mark.parametrize("one", [e for e in EXPECTATIONS if e.task], ids=lambda one: one.name)
def test_no_realistic_range_reaches_what_is_called_out_of_reach(one):
    as_planned, *with_other_text = ranges(one.realistic)
    assert as_planned[0] < as_planned[1] < one.promised
    assert all(low < high <= one.promised for low, high in with_other_text)
    assert "out of reach" in one.verdict


def test_the_plans_claims_are_written_from_the_same_facts():
    judged = {claim.claim: claim for claim in claims(load_config(ROOT / "configs"))}
    for one in EXPECTATIONS:
        claim = judged[one.claim]
        assert (claim.promised, claim.unit, claim.computed) == (one.promised, one.unit, None)
        for public in one.public:
            assert public.told in claim.why
        assert one.task is None or one.realistic in claim.why


def test_a_promise_of_the_claim_and_its_figure_are_the_same_number():
    for one in EXPECTATIONS:
        assert f"{one.promised:g}" in one.claim
        assert one.promised_text.removesuffix(" %").endswith(f"{one.promised:g}")


def test_the_table_has_a_row_for_each_and_claims_nothing_that_was_not_run():
    rows = expected_table().splitlines()
    assert len(rows) == 2 + len(EXPECTATIONS)
    assert {row.count("|") for row in rows} == {7}
    assert all(row.split("|")[5].strip() == "not run" for row in rows[2:])


def test_the_table_of_the_readme_is_written_from_the_facts():
    told = "run `python -m yxanul.plan.expected` and put its table into README.md"
    assert expected_table() in (ROOT / "README.md").read_text(encoding="utf-8"), told
