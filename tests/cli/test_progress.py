"""How far a long piece of work is: a bar on a terminal, lines elsewhere, nothing on stdout."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from tests.evaluate.runs import add_checkpoint, write_run
from tests.train.world import STAGES, World
from yxanul.cli import progress
from yxanul.cli.output import print_outcome
from yxanul.cli.progress import StderrWatcher
from yxanul.train.outward.progress import RunProgress
from yxanul.train.starting.request import RunOutcome


class Terminal(io.StringIO):
    """Keeps what it was sent."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Return what a terminal in place of stderr was sent."""
    shown = Terminal()
    console = Console(file=shown, force_terminal=True, width=120)
    monkeypatch.setattr(progress, "plain_console", lambda **_: console)
    return shown


@pytest.mark.parametrize(("total", "shown"), [(3000, "2000/3000"), (None, "2000/?")])
def test_a_bar_shows_count_and_rate_and_the_time_left_where_the_whole_is_known(
    terminal, total, shown
):
    watcher = StderrWatcher()
    assert watcher.is_bar
    watcher.begin("tales", total=total)
    for _ in range(2):
        watcher.advance(1000)
    watcher.close()
    seen = terminal.getvalue()
    for part in ("tales", shown, " per s"):
        assert part in seen
    has_time_left = re.search(r"\d:\d\d:\d\d", seen.rpartition(shown)[2]) is not None
    assert has_time_left == (total is not None)


def test_lines_tell_count_rate_and_time_left_without_a_terminal(capsys, monkeypatch):
    clock = iter([0.0, 20.0, 40.0, 40.0, 4040.0])
    monkeypatch.setattr("yxanul.cli.progress.time.monotonic", lambda: next(clock))
    watcher = StderrWatcher()
    assert not watcher.is_bar
    watcher.begin("tales", total=300)
    watcher.advance(100)
    watcher.advance(100)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        "tales: 300",
        "tales: 100/300, 5.0 per s, 40 s left",
        "tales: 200/300, 5.0 per s, 20 s left",
    ]
    watcher.begin("sagas", total=54_010)
    watcher.advance(4000)
    line = "sagas: 4,000/54,010, 1.0 per s, 13 h 53 min left"
    assert capsys.readouterr().err.splitlines()[-1] == line


def test_what_a_run_took_is_told_in_hours_where_it_took_hours(capsys):
    took = {"training_s": 301_234.0, "evaluation_s": 59.0}
    print_outcome(RunOutcome(Path("runs/first"), tokens_per_s=9.0, **took))
    assert "training 83 h 40 min, evaluation 59 s" in capsys.readouterr().out


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_a_log_gets_lines_whatever_asks_for_colours(capsys, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    watcher = StderrWatcher()
    assert not watcher.is_bar
    watcher.begin("tales", total=300)
    watcher.close()
    progress = RunProgress(visible=True)
    progress.begin("stage1_tales", done=0, total=8)
    progress.say("a line of news")
    progress.close()
    assert capsys.readouterr().err == "tales: 300\na line of news\n"


@pytest.mark.parametrize("has_terminal", [True, False])
def test_a_preparation_has_a_bar_on_a_terminal_and_lines_elsewhere(
    call, tmp_path, request, has_terminal
):
    shown = request.getfixturevalue("terminal") if has_terminal else io.StringIO()
    World.create(tmp_path)
    words = ["--config_dir", tmp_path / "configs", "--stage", STAGES[0], "--json"]
    words += ["--data", tmp_path / "texts", "--out", tmp_path / "prepared"]
    code, out, err = call("prepare", *words)
    assert code == 0
    assert json.loads(out)["sources"]
    # Nobody knows how many documents a folder holds.
    assert ("/?" in shown.getvalue()) == has_terminal
    assert ("documents held out" in shown.getvalue()) == has_terminal
    assert ("documents held out" in err) != has_terminal


def test_texts_of_many_prompts_go_to_stdout_beside_a_bar(call, tmp_path, terminal):
    folder = write_run(tmp_path / "run")
    add_checkpoint(folder, 3)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("The city of\na\n")
    code, out, err = call("generate", folder.root, "--prompts", prompts, "--max_new_tokens", "4")
    assert code == 0, err
    assert out.startswith("[1] The city of\n")
    assert "\n[2] a\n" in out
    shown = terminal.getvalue()
    assert "2/2" in shown
    assert "[1]" not in shown
