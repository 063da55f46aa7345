"""Another start where it may help, a limit where it does not."""

import json
from dataclasses import replace

import pytest

from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.supervised import VARIABLE, read_note, tell_run_folder
from yxanul.supervise.ending import Ending, read_ending
from yxanul.supervise.policy import (
    LONG_START_S,
    SAME_STEP_FAILURES,
    STARTS_WITHOUT_PROGRESS,
    Policy,
)


def recorded(code: int, step: int | None = 5) -> Ending:
    return Ending(code, "because", is_recorded=True, step=step)


def killed(step: int | None, code: int = 137, *, saved: int = 0, scores: int = 0) -> Ending:
    names = (f"step-{saved:08d}-a0",) if saved else ()
    return Ending(code, "gone", is_recorded=False, step=step, checkpoints=names, scores=scores)


def launched(step: int | None, *, saved: int = 0) -> Ending:
    """A launcher's own 1, as where a rank was killed."""
    return replace(killed(step, 1, saved=saved), may_hide_a_kill=True)


@pytest.mark.parametrize("code", [0, 1, 20, 30, 31, 32, 33, 130, 143])
def test_what_would_end_the_same_way_is_not_started_again(code):
    assert Policy(backoff_s=1.0).after(recorded(code)).wait_s is None


def test_a_stop_that_was_saved_is_started_again_at_once_however_often():
    policy = Policy(backoff_s=7.0)
    assert [policy.after(recorded(10)).wait_s for _ in range(50)] == [0.0] * 50


def test_failures_at_one_step_wait_longer_and_end_and_progress_forgives_them():
    policy = Policy(backoff_s=2.0)
    assert [policy.after(recorded(11)).wait_s for _ in range(2)] == [2.0, 4.0]
    assert policy.after(recorded(11, step=6)).wait_s == 2.0
    assert policy.after(recorded(11, step=6)).wait_s == 4.0
    last = policy.after(recorded(11, step=6))
    assert last.wait_s is None
    assert f"failed {SAME_STEP_FAILURES} times at step 6" in last.why


@pytest.mark.parametrize("code", [137, 247])
def test_kills_are_no_failures_unless_nothing_ever_comes_of_a_start(code):
    policy = Policy(backoff_s=1.0)
    for step in range(1, 100):
        assert policy.after(killed(step + 5, code, saved=step)).wait_s == 1.0
    policy = Policy(backoff_s=1.0)
    waits = [policy.after(killed(None, code)).wait_s for _ in range(STARTS_WITHOUT_PROGRESS)]
    assert waits[-1] is None
    assert waits[-2] == 256.0
    assert all(wait is not None for wait in waits[:-1])


def test_a_launchers_own_failure_is_tried_three_times_at_one_step():
    policy = Policy(backoff_s=1.0)
    for step in range(1, 100):
        assert policy.after(launched(step + 5, saved=step)).wait_s == 1.0
    policy = Policy(backoff_s=1.0)
    ends = [policy.after(launched(None)) for _ in range(SAME_STEP_FAILURES)]
    assert [end.wait_s for end in ends] == [1.0, 2.0, None]
    assert f"failed {SAME_STEP_FAILURES} times before its first step" in ends[-1].why


def test_a_launcher_of_another_machine_sees_that_the_run_comes_on(tmp_path, monkeypatch):
    """The main rank works elsewhere, so its supervisor hears of the run folder alone."""
    note, folder = tmp_path / "note", RunFolder(tmp_path / "run")
    monkeypatch.setenv(VARIABLE, str(note))
    monkeypatch.setenv("WORLD_SIZE", "16")
    monkeypatch.setenv("RANK", "9")
    monkeypatch.setenv("LOCAL_RANK", "1")
    tell_run_folder(folder.root)
    assert not note.exists(), "one of a machine is enough"
    monkeypatch.setenv("LOCAL_RANK", "0")
    tell_run_folder(folder.root)
    assert read_note(note) == {"run_folder": str(folder.root)}, "the program is another machine's"
    policy = Policy(backoff_s=1.0)
    for step in range(1, 2 * STARTS_WITHOUT_PROGRESS):
        (folder.checkpoints / f"step-{step:08d}-a0").mkdir(parents=True)
        ending = read_ending(1, read_note(note), started_at=0.0, is_launcher=True)
        assert policy.after(ending).wait_s == 1.0


REFUSED = {"code": 30, "reason": "typo is no key"}


@pytest.mark.parametrize(
    ("returncode", "later", "expected"),
    [
        (0, [], (0, "done", True)),
        (30, [REFUSED], (30, "typo is no key", True)),
        (30, [{"pid": 2}, REFUSED], (30, "typo is no key", True)),
        (137, [{"pid": 2}], (137, "left with 137, without a record", False)),
        (137, [REFUSED, {"pid": 2}], (137, "left with 137, without a record", False)),
        (0, [REFUSED], (0, "done", True)),  # the script has gone on
    ],
)
def test_the_record_of_an_earlier_program_of_a_script_is_not_the_end(
    tmp_path, returncode, later, expected
):
    note, folder = tmp_path / "note", RunFolder(tmp_path)
    folder.exit_record.write_text(
        json.dumps({"code": 0, "reason": "done", "ended_at": 2.0, "pid": 1})
    )
    place = {"run_folder": str(tmp_path)}
    news = [place | {"pid": 1}, *(place | told if "pid" in told else told for told in later)]
    note.write_text("".join(json.dumps(told) + "\n" for told in news))
    end = read_ending(returncode, read_note(note), started_at=1.0)
    assert (end.code, end.reason, end.is_recorded) == expected


def test_the_record_of_another_machines_main_rank_is_the_end_of_a_scripts_later_program(tmp_path):
    """The first one was this machine's alone, and told who it was."""
    note, place = tmp_path / "note", {"run_folder": str(tmp_path)}
    note.write_text("".join(json.dumps(told) + "\n" for told in (place | {"pid": 5}, place)))
    record = {"code": 11, "reason": "no network", "ended_at": 2.0, "pid": 1}
    RunFolder(tmp_path).exit_record.write_text(json.dumps(record))
    end = read_ending(1, read_note(note), started_at=1.0)
    assert (end.code, end.is_recorded) == (11, True)


def test_what_a_rank_left_with_is_believed_of_a_launcher():
    end = replace(launched(None), code=11)
    policy = Policy(backoff_s=1.0)
    assert [policy.after(end).wait_s for _ in range(SAME_STEP_FAILURES)] == [1.0, 2.0, None]
    assert Policy(backoff_s=1.0).after(killed(None, 11)).wait_s is None


@pytest.mark.parametrize("end", [launched(None), recorded(11, step=None)])
def test_a_start_that_prepares_for_long_is_no_failure_in_a_row(end):
    """Texts of the hub take hours, and what was prepared is kept; nothing else tells of it."""
    policy, long = Policy(backoff_s=1.0), replace(end, lived_s=LONG_START_S, is_preparing=True)
    assert [policy.after(one).wait_s for one in (end, end, long, end)] == [1.0, 2.0, 1.0, 2.0]
    assert policy.after(end).wait_s is None
    policy = Policy(backoff_s=1.0)
    waits = [policy.after(long).wait_s for _ in range(STARTS_WITHOUT_PROGRESS)]
    assert waits == [1.0] * (STARTS_WITHOUT_PROGRESS - 1) + [None], "rented hours pass"


@pytest.mark.parametrize("has_run", [False, True])
def test_a_start_prepares_until_its_settings_are_written_down(tmp_path, has_run):
    note, folder = tmp_path / "note", RunFolder(tmp_path / "run")
    if has_run:
        folder.create()
        note.write_text(json.dumps({"run_folder": str(folder.root)}) + "\n")
    assert read_ending(1, read_note(note), started_at=0.0).is_preparing
    if has_run:
        folder.config.write_text("")
        assert not read_ending(1, read_note(note), started_at=0.0).is_preparing


def test_a_damaged_row_does_not_take_the_end_of_a_run(tmp_path):
    note, folder = tmp_path / "note", RunFolder(tmp_path)
    note.write_text(json.dumps({"run_folder": str(tmp_path), "pid": 1}) + "\n")
    record = {"code": 10, "reason": "saved", "ended_at": 2.0, "pid": 1}
    folder.exit_record.write_text(json.dumps(record))
    folder.metrics.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    end = read_ending(10, read_note(note), started_at=1.0)
    assert (end.code, end.step) == (10, None)


def test_a_hang_before_the_first_step_is_tried_three_times_however_long_it_took():
    policy, end = Policy(backoff_s=1.0), replace(recorded(11, None), lived_s=2 * LONG_START_S)
    assert [policy.after(end).wait_s for _ in range(SAME_STEP_FAILURES)] == [1.0, 2.0, None]


def test_a_start_that_trains_for_long_and_fails_at_one_step_is_tried_three_times():
    policy, end = Policy(backoff_s=1.0), replace(recorded(11), lived_s=2 * LONG_START_S)
    assert [policy.after(end).wait_s for _ in range(SAME_STEP_FAILURES)] == [1.0, 2.0, None]


@pytest.mark.parametrize("end", [killed, launched, lambda step: recorded(11, step)])
def test_steps_that_no_checkpoint_keeps_are_no_progress(end):
    """As where the host's memory ends at the first save, at another step each time."""
    policy = Policy(backoff_s=1.0)
    ends = [policy.after(end(50 + 7 * n % 5)) for n in range(STARTS_WITHOUT_PROGRESS)]
    assert [one.wait_s is None for one in ends] == [False] * (len(ends) - 1) + [True]
    assert "kept no checkpoint and no score" in ends[-1].why


def test_a_start_that_is_killed_before_it_names_its_run_is_no_progress():
    """Between two that came as far as the one before, it must not make them look like progress."""
    policy = Policy(backoff_s=1.0)
    ends = [killed(7, saved=4, scores=6), killed(None)] * (STARTS_WITHOUT_PROGRESS // 2)
    waits = [policy.after(end).wait_s for end in ends]
    assert waits[-1] is None
    assert all(wait is not None for wait in waits[:-1])


def test_a_stage_that_is_scored_between_kills_comes_to_its_end():
    policy = Policy(backoff_s=1.0)
    assert all(policy.after(killed(64, scores=n)).wait_s == 1.0 for n in range(50))


@pytest.mark.parametrize("code", [1, 2, 143])
def test_other_ends_without_a_record_are_left_to_a_person(code):
    assert Policy(backoff_s=1.0).after(killed(3, code)).wait_s is None


@pytest.mark.parametrize("code", [134, 135, 139, 245, 249, 250])
def test_a_crash_without_a_record_is_tried_three_times_at_one_step(code):
    """As where the network's disk fails under a prepared folder: SIGBUS, and no error of Python."""
    policy = Policy(backoff_s=1.0)
    for step in range(1, 20):
        assert policy.after(killed(step + 5, code, saved=step)).wait_s == 1.0
    ends = [policy.after(killed(40, code)) for _ in range(SAME_STEP_FAILURES)]
    assert [end.wait_s for end in ends] == [1.0, 2.0, None]
    assert f"failed {SAME_STEP_FAILURES} times at step 40" in ends[-1].why
