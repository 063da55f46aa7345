"""The matrix of learning and forgetting, and transfer, where earlier gates knew fewer domains."""

import json
import shutil

import pytest

from yxanul.report.reading.gather import gather
from yxanul.report.sections.forgetting import forgetting_matrix
from yxanul.report.sections.transfer import transfer


def test_domains_of_stages_trained_one_by_one_have_their_columns(run, tmp_path):
    """Data of a later stage is prepared later, so that earlier gates know nothing of it."""
    copied = shutil.copytree(run, tmp_path / "copy")
    path = copied / "gates.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    verdicts = [row for row in rows if row["row"] == "verdict"]
    known = ("wikipedia", "factbook")
    for key in ("bpb_before", "bpb_after"):
        verdicts[0][key] = {name: verdicts[0][key][name] for name in known}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = forgetting_matrix(gather(copied))
    names = [column[0].value for column in told.columns]
    assert names == list(verdicts[-1]["bpb_after"])
    at_start, after_one, after_two = ([cell.value for cell in row.cells] for row in told.rows[:3])
    assert [value is None for value in at_start] == [name not in known for name in names]
    # What stage 2 found at its start is what stage 1 had left.
    math = names.index("math")
    assert after_one[math].number == verdicts[-3]["bpb_before"]["math"]
    assert told.rows[1].cells[math].against_best is None
    assert told.rows[2].cells[math].against_best.number == pytest.approx(
        after_two[math].number / after_one[math].number - 1
    )
    row = next(row for row in transfer(gather(copied)).domains if row.domain.value == "math")
    assert row.forward is None  # nothing was scored before the first stage
