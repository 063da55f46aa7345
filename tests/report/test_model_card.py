"""The card of an export tells of the weights that it comes with, and of no others."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.report.recorded import BPB, DOMAINS, ROOT, begin_late
from tests.report.recorded_skills import ITEMS, evaluated, write_evaluation
from tests.report.written_page import Page
from yxanul.config.load import load_config
from yxanul.curriculum.stages import StagePlan, plan_stages
from yxanul.data.prepared.manifest import load_manifest, write_manifest
from yxanul.errors import CorruptDataError
from yxanul.report.model_card import write_card
from yxanul.report.write import write_report
from yxanul.runfolder.checkpoints import CheckpointInfo, checkpoint_name
from yxanul.runfolder.durable import write_json
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.scores import read_score, score_path
from yxanul.units import format_count

ONE, TWO, THREE, FOUR = plan_stages(load_config(ROOT / "configs" / "embedded"))


def checkpoint(plan: StagePlan, *, attempt: int, before_end: int = 0) -> CheckpointInfo:
    """A checkpoint of the recorded run, at the end of a stage or some steps before it."""
    step = plan.last_step - before_end
    path = Path(checkpoint_name(step, attempt))
    tokens = plan.first_token + (step - plan.first_step) * plan.config.training.batch_tokens
    return CheckpointInfo(path, step, attempt, tokens, plan.name, True, None)


def wikipedia(language: str) -> dict:
    settings = {"hub_id": "wikimedia/wikipedia", "hub_config": f"20231101.{language}"}
    return {"kind": "hub", "settings": settings}


def card(root: Path, *checkpoints: CheckpointInfo) -> str:
    found = write_card(root, checkpoints=checkpoints)
    assert found is not None
    return found


def cells(text: str, first: str) -> list[str]:
    """The cells of the first row of a table that begins with a word."""
    row = next(line for line in text.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def line_of(text: str, beginning: str) -> str:
    """The first line that begins so."""
    return next(line for line in text.splitlines() if line.startswith(beginning))


def test_every_checkpoint_has_the_scores_that_were_taken_of_it(skilled):
    for plan, stages, attempt in ((ONE, 1, 0), (TWO, 2, 0), (TWO, 2, 1), (FOUR, 4, 1)):
        text = card(skilled, checkpoint(plan, attempt=attempt))
        for domain, first, now in zip(DOMAINS, BPB[0, 0], BPB[stages, attempt], strict=True):
            assert cells(text, domain)[1:3] == [f"{first:.3f}", f"{now:.3f}"]
        assert f"in {plan.last_step:,} steps" in cells(text, "tokens seen")[1]
    assert "not scored" not in text


def test_a_checkpoint_that_was_left_behind_keeps_its_own_verdict(skilled):
    verdicts = {
        attempt: cells(card(skilled, checkpoint(TWO, attempt=attempt)), TWO.name)[1]
        for attempt in (0, 1)
    }
    assert verdicts[0] == "rollback"
    assert verdicts[1] != "rollback"


def test_a_checkpoint_of_an_earlier_stage_says_nothing_of_later_ones(skilled):
    text = card(skilled, checkpoint(ONE, attempt=0))
    assert cells(text, THREE.name)[1] == "none yet"
    assert ONE.config.data.embedded_sources[0].name in text
    assert FOUR.config.data.embedded_sources[0].name not in text


def test_weights_without_a_score_have_no_figures(skilled):
    between = checkpoint(FOUR, attempt=1, before_end=3)
    mean = (checkpoint(THREE, attempt=1), checkpoint(FOUR, attempt=1))
    for text in (card(skilled, between), card(skilled, *mean)):
        assert "not scored on held-out documents" in text
        assert "not scored in any task" in text
        assert "| domain | at first |" not in text
        assert "| hellaswag |" not in text
    assert f"{between.tokens_seen / 1e6:.1f}" in cells(card(skilled, between), "tokens seen")[1]
    assert "the average itself was not scored" in card(skilled, *mean)


def test_what_evaluate_scored_of_these_very_weights_stands_there(skilled, tmp_path):
    root = shutil.copytree(skilled, tmp_path / "copy")
    between = checkpoint(FOUR, attempt=1, before_end=3)
    write_evaluation(root, between.name, evaluated("hellaswag", 300, right=90, cut_prompts=7))
    of_a_file = replace(evaluated("triviaqa", 9, right=3), origin="triviaqa_sm_sub.jsonl, sha256 0")
    write_evaluation(root, between.name, of_a_file)
    begun = read_score(score_path(root / "scores", step=0, attempt=0, domain="wikipedia"))
    documents = [{"nats": 1.0, "bytes": size, "tokens": 3} for size in begun.bytes]
    texts = {"wikipedia": (1.625, documents), "math": (2.5, documents[:2])}
    held_out = {
        name: {"bpb": bpb, "manifest_sha256": "f" * 64, "documents": of}
        for name, (bpb, of) in texts.items()
    }
    # As older versions wrote it, also of data that was given in place of the run's own.
    held_out["factbook"] = {"bpb": 9.875, "documents": documents}
    write_json(RunFolder(root).evaluation / between.name / "perplexity.json", held_out)
    text = card(root, between)
    how = "version 1.0, worked examples 0, items from a made-up set"
    row = [cell.strip() for cell in line_of(text, "| hellaswag |").strip("|").split("|")]
    assert (row[1:3], row[4], row[6]) == (["acc_norm", "30.0 %"], "300", how)
    assert "hellaswag: 7 of 300 prompts lost their beginning" in text
    assert "triviaqa: its items are other texts than the hub's: not comparable with" in text
    assert cells(text, "wikipedia")[1:] == [f"{BPB[0, 0][0]:.3f}", "1.625", f"{len(documents)}"]
    # Of other documents than those that the run was scored by at first.
    assert cells(text, "math")[1:] == ["not scored", "2.500", "2"]
    assert "9.875" not in text
    assert "not scored in any task" not in text
    for other in (checkpoint(ONE, attempt=0), checkpoint(FOUR, attempt=1)):
        assert card(root, other) == card(skilled, other).replace(skilled.name, root.name)


def test_of_several_scores_of_the_same_weights_the_most_complete_one_stands_there(
    skilled, tmp_path
):
    root = shutil.copytree(skilled, tmp_path / "copy")
    last = checkpoint(FOUR, attempt=1)

    def items() -> str:
        return line_of(card(root, last), "| hellaswag |").split("|")[5].strip()

    write_evaluation(root, last.name, evaluated("hellaswag", 50, right=1), of="-first50")
    assert items() == f"{ITEMS['hellaswag']}"  # the gate's
    write_evaluation(root, last.name, evaluated("hellaswag", 400, right=1, shots=10))
    assert items() == "400"
    assert "worked examples 10" in card(root, last)
    write_evaluation(root, last.name, evaluated("hellaswag", 400, right=1))
    assert "worked examples 10" not in card(root, last)
    # Damage is told, as of every record.
    damaged = RunFolder(root).evaluation / last.name / "hellaswag-0shot.json"
    damaged.write_text("{}")
    with pytest.raises(CorruptDataError, match=r"hellaswag-0shot\.json is not what was written"):
        card(root, last)


def test_only_a_share_of_items_can_be_guessed(skilled):
    rows = card(skilled, checkpoint(FOUR, attempt=1)).splitlines()
    assert any("| acc |" in row and "| 25.0 % |" in row for row in rows)
    golds = [row for row in rows if "| gold_bpb |" in row]
    assert golds
    assert not any("25.0 %" in row for row in golds)


def test_text_made_from_the_problems_of_a_task_is_declared_where_it_was_trained_on(skilled):
    told = "made from the same problems or their kin: gsm_symbolic."
    assert told in card(skilled, checkpoint(FOUR, attempt=1))
    assert told not in card(skilled, checkpoint(ONE, attempt=0))


@pytest.mark.parametrize(
    ("changed", "is_english"),
    [
        ({}, True),
        ({"kind": "folder"}, False),
        ({"kind": "hub", "settings": {"hub_id": "openai/gsm8k"}}, True),
        ({"kind": "hub", "settings": {"hub_id": "someone/else"}}, False),
        (wikipedia("en"), True),
        (wikipedia("de"), False),
    ],
)
def test_english_is_said_of_sources_that_are_known_to_be(skilled, tmp_path, changed, is_english):
    copied = shutil.copytree(skilled, tmp_path / "copy")
    manifest = load_manifest(copied / "data")
    manifest.sources["wikipedia_leads"] = replace(manifest.sources["wikipedia_leads"], **changed)
    write_manifest(manifest, copied / "data")
    text = card(copied, checkpoint(FOUR, attempt=1))
    assert ("language: en\n" in text) == is_english
    assert text.startswith("---\nl")


def test_a_checkpoint_before_the_first_row_has_no_card(skilled):
    early = checkpoint(ONE, attempt=0, before_end=ONE.total_steps - 1)
    assert write_card(skilled, checkpoints=[early]) is None


def test_damaged_data_lists_no_sources_and_keeps_no_card_back(copied):
    (copied / "data" / "manifest.json").write_text("{}")
    text = card(copied, checkpoint(FOUR, attempt=1))
    assert "is damaged, or is of another version of yxanul, so its sources are not listed" in text


def test_what_a_part_of_the_run_took_is_not_mixed_with_what_all_of_it_took(run):
    text = card(run, checkpoint(ONE, attempt=0))
    assert "scoring" not in cells(text, "training time")[1]
    assert cells(text, "cost of the whole run")[1].startswith(f"${12.5 * 212 / 3600:,.2f} ")
    # of the last checkpoint both are of the whole run
    last = card(run, checkpoint(FOUR, attempt=1))
    assert "of scoring" in cells(last, "training time")[1]


def test_a_price_that_some_processes_had_is_not_denied(run, tmp_path):
    """The words are the page's."""
    copied = shutil.copytree(run, tmp_path / "copy")
    config = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(config.replace("usd_per_hour: 12.5", "usd_per_hour: null"))
    rows = (copied / "spending.jsonl").read_text()
    (copied / "spending.jsonl").write_text(rows.replace("null", "12.5", 1))
    told = cells(card(copied, checkpoint(FOUR, attempt=1)), "cost of the whole run")[1]
    assert told == "not known: not every process was given a price (budget.usd_per_hour)"
    assert told in Page(write_report(copied).read_text(encoding="utf-8")).text


@pytest.mark.parametrize(
    ("parent", "told"),
    [
        ("/home/ada/runs/first/checkpoints/step-00000400-a0", "step-00000400-a0 of first"),
        ("/home/ada/.cache/hub/models--me--my--own/snapshots/5e5e", "me/my--own at commit 5e5e"),
        ("/home/ada/weights", "weights"),
    ],
)
def test_a_run_begun_from_other_weights_names_them_and_counts_its_own_tokens(
    skilled, tmp_path, parent, told
):
    assert "begun from other weights" not in card(skilled, checkpoint(FOUR, attempt=1))
    copied = shutil.copytree(skilled, tmp_path / "copy")
    begin_late(copied, parent=parent)
    text = card(copied, checkpoint(FOUR, attempt=0))
    assert f"begun from other weights: {told}." in text
    assert "/home/" not in text
    assert "language: en\n" not in text
    own = f"{format_count(FOUR.tokens)} (in {FOUR.total_steps} steps)"
    assert cells(text, "tokens seen")[1] == own
    # Settings of another version do not tell where the stage began.
    with (copied / "config.yaml").open("a") as config:
        config.write("a_later_part: {}\n")
    seen = cells(card(copied, checkpoint(FOUR, attempt=0)), "tokens seen")[1]
    assert seen.endswith(f"(in {FOUR.last_step} steps, those of the stages before it counted in)")
