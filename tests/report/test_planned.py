"""What was planned stands beside what came of it, and what cannot be compared says so."""

import json
import shutil

import pytest

from tests.report.reading import Page
from yxanul.cards import CARDS
from yxanul.report.write import write_report


@pytest.fixture
def copied(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


def lines(root):
    """Return {name: [planned, measured, remark]} of the section, as it is read."""
    html = write_report(root).read_text(encoding="utf-8")
    section = html[html.index('<section id="planned">') :].partition("</section>")[0]
    rows = section.partition("<tbody>")[2].split("<tr>")[1:]
    cells = [[Page(cell).text.strip() for cell in row.split("<td")] for row in rows]
    return {name: [text.partition(">")[2].strip() for text in rest] for name, *rest in cells}


def keep_lines(path, count):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:count]))


def test_every_stage_the_clock_the_memory_and_the_mfu_are_compared(run):
    found = lines(run)
    assert found["steps of stage2_reasoning"] == ["65", "65", ""]
    assert len([name for name in found if name.startswith("steps of ")]) == 4
    _, took, remark = found["wall clock, forecast after a tenth of the tokens"]
    assert took == "3 min 32 s"
    assert "against the forecast; restarts and rollbacks are in none" in remark
    planned, measured, remark = found["memory of the main process"]
    assert "MiB" in planned
    assert measured == "1.15 GiB"
    assert "whole process" in remark


def test_a_run_that_is_not_over_is_not_held_against_its_plan(copied):
    gates = (copied / "gates.jsonl").read_text().splitlines(keepends=True)
    kept = [row for row in gates if json.loads(row)["stage"] == "stage1_wikipedia"]
    (copied / "gates.jsonl").write_text("".join(kept))
    found = lines(copied)
    assert found["steps of stage1_wikipedia"][2] == ""
    assert found["steps of stage4_code"][2] == "not over yet"
    assert found["wall clock, forecast after a tenth of the tokens"][2].startswith(
        "the run is not over"
    )


def test_before_a_tenth_of_the_tokens_there_is_no_forecast_to_judge(copied):
    keep_lines(copied / "spending.jsonl", 1)
    assert not [name for name in lines(copied) if name.startswith("wall clock")]


def test_a_run_that_had_gone_back_before_a_tenth_has_no_forecast_to_judge(copied):
    rows = [json.loads(row) for row in (copied / "lineage.jsonl").read_text().splitlines()]
    for row in rows[1:]:
        row["tokens_spent"] = 50_000
    (copied / "lineage.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert not [name for name in lines(copied) if name.startswith("wall clock")]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_on_a_card_the_assumed_mfu_and_its_source_stand_there(copied, card):
    path = copied / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"device": f"NVIDIA {card.device}"}))
    found = lines(copied)
    assert found["MFU, PaLM convention"][2].endswith("measured is the median")
    assert found["memory of the main process"][2] == ""


def test_rows_of_an_older_version_have_no_memory_to_compare(copied):
    path = copied / "spending.jsonl"
    rows = [json.loads(row) for row in path.read_text().splitlines()]
    for row in rows:
        del row["memory_bytes"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "memory of the main process" not in lines(copied)


def test_settings_of_another_version_are_not_computed_with(copied):
    path = copied / "config.yaml"
    path.write_text(path.read_text() + "a_later_part: {}\n")
    html = write_report(copied).read_text(encoding="utf-8")
    assert "written by another version, so what was planned cannot be computed" in html
