"""`yxanul watch` as a user starts it: runs that go on, have ended, were killed, lie elsewhere."""

import io
import json
import math
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from rich.console import Console

from tests.train.world import BATCH_TOKENS, STAGES, STEPS, World, last_step, wait_until
from yxanul.cli import watch_verbs
from yxanul.cli.watch_verbs import _looks
from yxanul.curriculum.course import read_frozen_config
from yxanul.curriculum.stages import plan_stages
from yxanul.errors import InfrastructureError, UsageError
from yxanul.runfolder.bringing import bring_scores
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import record_event
from yxanul.runfolder.scores import read_score, write_score
from yxanul.runfolder.spending import read_payments
from yxanul.watch.held_out import HeldOutScores
from yxanul.watch.pace import Pace
from yxanul.watch.screen import screen, sparkline
from yxanul.watch.snapshot import Snapshot, Watch, may_begin

PRICE = ("--set", "budget.usd_per_hour=3.6", "--set", "budget.hours=2")


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> World:
    """A world with a run that has ended, at a price, with a mirror."""
    world = World.create(tmp_path_factory.mktemp("watched"))
    mirror = ("--set", f"checkpoint.mirror={world.root / 'mirror'}")
    world.finish("run", "run", *PRICE, *mirror)
    return world


def look(world: World, call, *more: str) -> dict:
    code, out, err = call("watch", world.root / "run", "--json", *more)
    assert (code, err, len(out.splitlines())) == (0, "", 1)
    return json.loads(out)


def told(seen: Snapshot, **more: str) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(screen(seen, source="s3://bucket/run", **more))
    return console.export_text()


def test_an_ended_run_is_told_with_what_it_reached_and_cost(ended, call):
    told = look(ended, call)
    rows = (ended.root / "run" / "metrics.jsonl").read_text().splitlines()
    assert told["newest"] == json.loads(rows[-1])
    assert not told["is_running"]
    assert told["ending"]["word"] == "ended"
    assert told["total_tokens"] == told["newest"]["tokens_seen"] == 2 * STEPS * BATCH_TOKENS
    assert [(stage["name"], stage["done"]) for stage in told["stages"]] == [
        (name, STEPS) for name in STAGES
    ]
    assert {stage["verdict"] for stage in told["stages"]} <= {"pass", "warn"}
    assert told["budget"]["hours"] == 2
    assert told["budget"]["share"] == pytest.approx(told["seconds"]["spent"] / 7200)
    assert told["seconds"]["left"] == told["seconds"]["left_high"] == 0
    assert 2**27 < told["memory_bytes"] < 2**36  # Python, torch and a tiny model
    assert len(told["bpb"]) == len(STAGES)
    assert all(first > now for first, now in told["bpb"].values())
    assert told["usd"]["spent"] == pytest.approx(told["seconds"]["spent"] * 0.001)
    assert [line["what"].split(":")[0] for line in told["incidents"]] == [
        f"gate of {name}" for name in STAGES
    ]


def test_without_a_terminal_one_screen_is_printed(ended, call):
    code, out, _ = call("watch", ended.root / "run")
    assert code == 0
    words = " ".join(out.split())
    for part in (*STAGES, "ended", "tokens/s", "held-out bits per byte", "of the budget of 2.00 h"):
        assert part in words
    assert "took" in words
    assert "to the end" not in words


def test_a_mirror_tells_what_the_run_does(ended, call):
    code, out, _ = call("watch", f"file://{ended.root / 'mirror'}", "--json")
    here = look(ended, call)
    there = json.loads(out)
    assert code == 0
    # With the last verdict, and how it ended: these come after the last checkpoint.
    for key in ("stages", "newest", "ending", "bpb", "usd", "incidents"):
        assert there[key] == here[key]
    assert (there["is_mirror"], here["is_mirror"]) == (True, False)
    assert (there["run"], here["run"]) == ("mirror", "run")
    by_path = json.loads(call("watch", ended.root / "mirror", "--json")[1])
    assert by_path["run"] == "mirror"
    assert (ended.root / "mirror" / "run" / "report.html").stat().st_size > 10_000


def test_a_mirror_whose_machine_is_gone_says_how_old_it_is(ended, tmp_path):
    mirror, folder = ended.root / "mirror" / "run", tmp_path / "copy"
    shutil.copytree(mirror, folder)
    (folder / "exit.json").unlink()
    spending = folder / "spending.jsonl"
    paid = [json.loads(line) for line in spending.read_text().splitlines()]
    spending.write_text("".join(json.dumps({**row, "at": row["at"] - 7200}) + "\n" for row in paid))
    seen = Watch(RunFolder(folder), is_mirror=True).look()
    assert seen.row_age_s > 7000
    assert not seen.has_ended
    assert "its machine may be gone" in told(seen)
    fresh = replace(seen, row_age_s=60.0)
    assert "its machine may be gone" not in told(fresh)
    assert "no process of this machine" not in told(fresh)


def test_an_end_that_the_run_went_on_after_is_none(ended, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(ended.root / "run", folder)
    stopped = {"code": 10, "reason": "stopped by SIGINT", "ended_at": time.time()}
    (folder / "exit.json").write_text(json.dumps(stopped))
    seen = Watch(RunFolder(folder)).look()
    assert seen.ending.code == 10
    assert not seen.has_ended, "a supervisor may start it again"
    (folder / "exit.json").write_text(json.dumps({**stopped, "ended_at": time.time() - 3600}))
    with (folder / "spending.jsonl").open("a") as spending:
        later = {"process": 1, "seconds": 1.0, "tokens_spent": 1, "at": time.time()}
        spending.write(json.dumps(later) + "\n")
    seen = Watch(RunFolder(folder)).look()
    assert seen.ending is None
    assert "stopped on request" not in told(seen)


def test_a_run_is_watched_while_it_trains_and_is_killed(tmp_path):
    world = World.create(tmp_path)
    process = world.start("run", "run", YXANUL_FAILPOINTS="step.updated=wait@4")
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_until(lambda: last_step(metrics) >= 3, process)
    watched = Watch(RunFolder(tmp_path / "run"))
    seen = watched.look()
    assert seen.is_running
    assert not seen.has_ended
    assert seen.newest["step"] == 3
    assert [stage.done for stage in seen.stages] == [3, 0]
    assert 0 < seen.outlook.seconds.left_low < seen.outlook.seconds.left_high
    process.kill()
    process.communicate()
    after = watched.look()
    assert not after.is_running
    assert after.ending is None
    assert not after.has_ended, "a supervisor may start it again"
    for path in (tmp_path / "run").rglob("*"):
        os.utime(path, (time.time() - 3600,) * 2)
    assert watched.look().has_ended


def on_a_terminal(folder: Path, **environment: str) -> bytes:
    """What `watch` shows on a terminal, until it ends by itself."""
    main, other = pty.openpty()
    command = [sys.executable, "-m", "yxanul", "watch", str(folder)]
    env = {**os.environ, **environment}
    with subprocess.Popen(command, stdout=other, stderr=other, env=env) as process:
        os.close(other)
        shown = b""
        while select.select([main], [], [], 60)[0]:
            try:
                shown += os.read(main, 1 << 16)
            except OSError:  # its other end is closed
                break
        else:
            process.kill()
        assert process.wait(timeout=60) == 0
    os.close(main)
    assert b"Traceback" not in shown
    return shown


def test_a_terminal_shows_the_run_until_it_has_ended(ended):
    assert STAGES[0].encode() in on_a_terminal(ended.root / "run", TERM="xterm")


def test_a_terminal_that_only_adds_lines_shows_one_look(ended, tmp_path):
    """A run that may go on is looked at again and again where that can be shown."""
    folder = tmp_path / "run"
    shutil.copytree(ended.root / "run", folder)
    (folder / "exit.json").unlink()
    (folder / "config.yaml").touch()
    assert STAGES[0].encode() in on_a_terminal(folder, TERM="dumb")


def test_a_run_begun_at_a_later_stage_has_that_stage_and_its_own_borders(ended, call):
    later = ("--stage", STAGES[1], "--init_from", str(ended.root / "run"), "--max_steps", "4")
    ended.finish("train", "later", *later)
    code, out, _ = call("watch", ended.root / "later", "--json")
    told, folder = json.loads(out), RunFolder(ended.root / "later")
    assert code == 0
    assert [(stage["name"], stage["done"]) for stage in told["stages"]] == [(STAGES[1], 4)]
    assert told["newest"]["tokens_seen"] == (STEPS + 4) * BATCH_TOKENS
    assert told["total_tokens"] == 2 * STEPS * BATCH_TOKENS
    config = read_frozen_config(folder)
    pace = Pace(config.model)
    for payment in read_payments(folder.spending):
        pace.add(payment)
    alone = pace.forecast(plan_stages(config)[1:], stage=0, stage_step=4)
    assert told["seconds"]["left"] == pytest.approx(alone.left)


def test_a_beginning_after_the_last_stage_is_damage(ended, tmp_path, call):
    folder = tmp_path / "run"
    shutil.copytree(ended.root / "run", folder)
    begun = json.loads((folder / "lineage.jsonl").read_text().splitlines()[0])
    (folder / "lineage.jsonl").write_text(json.dumps({**begun, "step": 10**6}) + "\n")
    code, _, err = call("watch", folder)
    assert (code, "after its last stage" in err) == (31, True)


def test_a_mirror_that_does_not_answer_once_is_asked_again(ended):
    whole = Watch(RunFolder(ended.root / "run")).look()
    going_on = replace(whole, ending=None)
    lost = [InfrastructureError("it did not answer"), UsageError("it holds no run")]
    answers = iter([going_on, *lost, going_on, whole])

    def look():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    seen = list(_looks(look, every_s=0.01, is_mirror=True))
    assert [found for found, _ in seen] == [going_on] * 4 + [whole]
    troubles = [trouble for _, trouble in seen]
    assert troubles[0] is troubles[3] is troubles[4] is None
    assert "asked again every 0.01 s: it did not answer" in troubles[1]
    assert "it holds no run" in troubles[2]
    answers = iter([going_on, *lost])
    with pytest.raises(InfrastructureError):
        list(_looks(look, every_s=0.01, is_mirror=False))


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self) -> bool:
        return True


def test_what_matters_most_is_seen_on_a_terminal_of_24_lines(ended, monkeypatch):
    """While the run goes on; its end is told whole, whatever scrolls away."""
    whole = Watch(RunFolder(ended.root / "run")).look()
    seconds = replace(whole.outlook.seconds, left=60.0, left_high=70.0)
    going_on = replace(
        whole,
        ending=None,
        stages=whole.stages * 2,
        outlook=replace(whole.outlook, seconds=seconds),
        scores={f"domain {number}": [2.0, 1.0] for number in range(6)},
        incidents=tuple(replace(one, what=one.what * 9) for one in whole.incidents),
    )
    shown = Terminal()
    for name, value in (("COLUMNS", "80"), ("LINES", "24"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", shown)
    lengths = []

    def looks():
        yield going_on, "as seen at 12:00:00"
        told = shown.getvalue()
        lengths.append(len(told))
        for words in ("as seen at", "to the end", "of the budget", "gate of", "domain 5", "loss"):
            assert words in told
        assert told.count("\n") < 24
        assert "..." not in told
        yield whole, "as seen at 12:09:00"

    watch_verbs._go_on(looks(), "runs/first")
    last = shown.getvalue()[lengths[0] :]
    assert all(words in last for words in ("took", "gradient norm", "memory", "as seen at 12:09"))


def test_a_path_in_an_incident_is_told_to_its_end(ended):
    seen = Watch(RunFolder(ended.root / "run")).look()
    path = f"/workspace/{'a' * 300}/model.safetensors"
    long = replace(seen.incidents[0], what=f"{path} is damaged")
    assert path in told(replace(seen, incidents=(long,))).replace("\n", "")


def test_an_old_look_says_that_it_is_one(ended):
    seen = Watch(RunFolder(ended.root / "run")).look()
    assert "\nas seen at 12:00:00\n" in told(seen, trouble="as seen at 12:00:00")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: root / "nowhere", ["nowhere is not a folder"]),
        (lambda root: root, ["is no run folder", "config.yaml"]),
        (lambda root: f"file://{root}/nothing", ["holds no run", "checkpoint.mirror"]),
        (lambda root: "nothing://there/run", ["nothing://there/run cannot be reached"]),
    ],
)
def test_what_is_no_run_is_said_in_one_sentence(tmp_path, call, make, words):
    code, out, err = call("watch", make(tmp_path))
    assert (code, out) == (30, "")
    assert all(word in err for word in words), err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("code", "ended_s", "seen_s", "expected"),
    [
        (11, 300, None, True),
        (11, 700, None, False),
        (11, 300, 302, True),
        (30, 300, 302, False),
        (30, 300, 299, False),  # written while it still held the folder
        (30, 4000, 300, True),  # of an earlier start: this one was killed
        (None, None, 300, True),
        (None, None, 700, False),
        (None, None, None, False),
    ],
)
def test_a_preparation_that_ended_is_waited_for_where_it_may_go_on(
    tmp_path, code, ended_s, seen_s, expected
):
    folder, now = RunFolder(tmp_path), time.time()
    if code is not None:
        record = {"code": code, "reason": "no network", "ended_at": now - ended_s}
        folder.exit_record.write_text(json.dumps(record))
    seen_at = None if seen_s is None else now - seen_s
    assert may_begin(folder, seen_at=seen_at) is expected


@pytest.mark.parametrize("code", [11, 30])
def test_a_run_is_watched_once_it_begins_or_its_last_start_is_told(tmp_path, monkeypatch, code):
    monkeypatch.setattr(watch_verbs, "_LOCAL_S", 0.02)
    folder = RunFolder(tmp_path)
    ended_at = datetime.now(tz=timezone.utc)
    record = {"code": code, "reason": "no network", "ended_at": ended_at.timestamp()}
    folder.exit_record.write_text(json.dumps(record))
    started_again = threading.Timer(0.2, folder.config.touch)
    if code == 11:
        started_again.start()
    assert watch_verbs._has_begun(folder)
    assert folder.config.exists() == (code == 11)
    folder.config.unlink(missing_ok=True)
    told = rf"left with {code} at {ended_at:%Y-%m-%d %H:%M} UTC \(no network\); .* start it again"
    with pytest.raises(UsageError, match=told):
        Watch(folder)


@pytest.mark.parametrize("ended_at", [math.nan, math.inf, 1e300, -1e300])
def test_a_record_of_a_time_that_no_calendar_has_is_a_damaged_one(tmp_path, ended_at):
    record = {"code": 11, "reason": "no network", "ended_at": ended_at}
    RunFolder(tmp_path).exit_record.write_text(json.dumps(record))
    with pytest.raises(UsageError, match="is no run folder"):
        Watch(RunFolder(tmp_path))


@pytest.mark.parametrize("seconds", ["inf", "nan", "1e10"])
def test_looks_that_would_never_come_are_refused(ended, call, seconds):
    code, out, err = call("watch", ended.root / "run", "--every_s", seconds)
    assert (code, out) == (30, "")
    assert "--every_s" in err
    assert len(err.strip().splitlines()) == 1, err


@pytest.mark.parametrize("change", [{"step": None}, {"step_s": "slow"}, {"seq_len": None},
                                    {"loss": "small"}, {"stage": "none"}])  # fmt: skip
def test_damaged_rows_are_named(ended, tmp_path, call, change):
    folder, source = tmp_path / "run", ended.root / "run"
    folder.mkdir()
    for name in ("config.yaml", "lineage.jsonl"):
        (folder / name).write_bytes((source / name).read_bytes())
    whole = json.loads((source / "metrics.jsonl").read_text().splitlines()[0])
    (folder / "metrics.jsonl").write_text(json.dumps({**whole, **change}) + "\n")
    code, _, err = call("watch", folder)
    assert code == 31
    assert "metrics.jsonl" in err
    assert next(iter(change)) in err
    assert "Traceback" not in err


def test_a_budget_that_another_start_raised_is_seen(ended, tmp_path):
    folder, source = tmp_path / "run", ended.root / "run"
    folder.mkdir()
    for name in ("config.yaml", "lineage.jsonl", "metrics.jsonl"):
        (folder / name).write_bytes((source / name).read_bytes())
    watched = Watch(RunFolder(folder))
    assert watched.look().budget.hours == 2
    config = (folder / "config.yaml").read_text()
    raised = re.sub(r"^( +hours): 2(\.0)?$", r"\1: 3", config, flags=re.MULTILINE)
    assert raised != config
    (folder / "config.yaml").write_text(raised)
    os.utime(folder / "config.yaml", (1, 1))
    assert watched.look().budget.hours == 3


def test_a_sparkline_keeps_the_ends_and_the_shape():
    assert sparkline([]) == ""
    assert sparkline([1.0]) == "▁"
    assert sparkline([float(k) for k in range(8)]) == "▁▂▃▄▅▆▇█"
    long = sparkline([float(k) for k in range(1000)], width=24)
    assert (len(long), long[0], long[-1]) == (24, "▁", "█")


def test_what_befell_one_step_is_told_in_the_order_in_which_it_did(ended, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(ended.root / "run", folder)
    why = "model.safetensors is not what was written"
    record_event(folder / "lineage.jsonl", "diverged", step=4, why="too high")
    record_event(folder / "lineage.jsonl", "set aside", checkpoint="step-00000004-a0", why=why)
    told = [one.what for one in Watch(RunFolder(folder)).look().incidents if one.step == 4]
    assert told == ["it diverged: too high", f"step-00000004-a0 was set aside: {why}"]


def test_a_score_that_is_taken_again_is_seen_here_and_through_a_mirror(ended, tmp_path):
    folder, brought = RunFolder(tmp_path / "mirror" / "run"), RunFolder(tmp_path / "copy")
    shutil.copytree(ended.root / "run", folder.root)
    address = str(tmp_path / "mirror")
    bring_scores(address, brought)
    here, there = HeldOutScores(folder.scores), HeldOutScores(brought.scores)
    before = here.read({0: math.inf})
    assert there.read({0: math.inf}) == before
    path = sorted(folder.scores.glob("step-*.json"))[-1]
    again = replace(read_score(path), bpb=0.123, text_sha256="others now")
    write_score(folder.scores, again)
    bring_scores(address, brought)
    for scores in (here, there):
        after = scores.read({0: math.inf})
        # What was scored before is of other documents.
        assert after == {**before, again.domain: [again.bpb]}


def test_a_score_that_is_deleted_during_a_look_is_left_out(ended, tmp_path):
    """A run that is resumed deletes those of later steps, perhaps between listing and reading."""
    folder = shutil.copytree(ended.root / "run" / "scores", tmp_path / "scores")
    before = HeldOutScores(folder).read({0: math.inf})
    gone = sorted(folder.glob("step-*.json"))[-1]
    domain = read_score(gone).domain
    gone.unlink()
    gone.symlink_to("nowhere")  # is listed, and not there to be read
    after = HeldOutScores(folder).read({0: math.inf})
    assert after == {**before, domain: before[domain][:-1]}
