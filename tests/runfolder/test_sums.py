"""Sums of what a run leaves tell what is no longer as it left it, and nothing else."""

import pytest

from yxanul.errors import CorruptDataError
from yxanul.runfolder.durable import seal, write_json
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.sums import find_changes, refuse_changes, write_sums


def test_a_score_that_is_taken_anew_is_no_change_of_a_run(tmp_path):
    folder = RunFolder(tmp_path)
    record = tmp_path / "evaluation" / "step-00000008-a0" / "gsm8k-5shot.json"
    record.parent.mkdir(parents=True)
    for path in (record, folder.config):
        path.write_text("first")
    write_sums(folder)
    record.write_text("second")
    assert find_changes(folder) == []
    folder.config.write_text("second")
    assert [change.told for change in find_changes(folder)] == [
        f"{folder.config} is not what the run wrote: its sha256 differs"
    ]


def test_sums_of_an_earlier_version_tell_nothing_of_what_is_no_record_of_the_run(tmp_path):
    folder = RunFolder(tmp_path)
    gone = {"bytes": 5, "sha256": "0" * 64}
    others = ("evaluation/step-00000008-a0/gsm8k-5shot.json", ".DS_Store", "scores/.nfs0001")
    content = {"files": dict.fromkeys((*others, "config.yaml"), gone)}
    write_json(folder.sums, {**content, "sha256": seal(content)})
    assert [change.path for change in find_changes(folder)] == ["config.yaml"]


def test_who_deletes_a_damaged_line_is_told_how_what_is_there_is_taken(tmp_path):
    folder = RunFolder(tmp_path)
    folder.metrics.write_text('{"step": 1}\n{"step":\n')
    write_sums(folder)
    folder.metrics.write_text('{"step": 1}\n')
    damaged = find_changes(folder)
    write_sums(folder, damaged=damaged)
    with pytest.raises(CorruptDataError, match=r"or delete sums\.json to take what is there"):
        refuse_changes(folder)
    folder.sums.unlink()
    write_sums(folder)
    refuse_changes(folder)
