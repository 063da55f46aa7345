"""Signals: which are obeyed, which are ignored, and what a process does that stood still."""

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time

import pytest

from tests.faults.harness import assert_ends_like
from tests.needs import PROC
from tests.supervise.test_supervisor import PAUSE, paused
from tests.train.world import last_step, wait_until
from yxanul.failpoints import VARIABLE
from yxanul.runfolder.checkpoints import verify_checkpoint


@pytest.mark.fault(7)
def test_sigterm_finishes_the_step_saves_and_leaves_with_10(world, unbroken):
    # Which fails where the run has not ended a minute after the signal.
    assert world.interrupt("run", after_step=4, signals=[signal.SIGTERM]) == 10
    record = world.exit_record("run")
    assert record["code"] == 10
    verify_checkpoint(world.root / "run" / "checkpoints" / record["checkpoint"])
    world.finish("run", "run")
    assert_ends_like(world, unbroken)


@pytest.mark.slow
@pytest.mark.fault(8)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_leaves_at_once(world, unbroken, number):
    # It stands still after the fourth row, so that the first one is not answered.
    process = world.start("run", "run", **{VARIABLE: "rows.spending=wait@4"})
    wait_until(lambda: last_step(world.root / "run" / "metrics.jsonl") >= 4, process)
    # One within a second after the first was heeded is no second one.
    deadline = time.monotonic() + 45  # it stands still for longer
    while process.poll() is None and time.monotonic() < deadline:
        process.send_signal(number)
        time.sleep(0.2)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    record = world.exit_record("run")
    assert record["code"] == 128 + number
    assert "a second signal" in record["reason"]
    for path in world.checkpoints("run"):
        verify_checkpoint(path)
    world.finish("run", "run")
    assert_ends_like(world, unbroken)


@pytest.mark.fault(8)
def test_two_signals_at_once_are_one_wish(world):
    """Ctrl-C under a launcher: the terminal's SIGINT, and the launcher's own SIGTERM."""
    both = [signal.SIGINT, signal.SIGTERM]
    assert world.interrupt("run", after_step=4, signals=both) == 10
    record = world.exit_record("run")
    assert record["code"] == 10
    assert record["checkpoint"] == world.checkpoints("run")[-1].name


@pytest.mark.slow
@pytest.mark.fault(9)
def test_a_dropped_ssh_is_ignored(world, unbroken):
    assert world.interrupt("run", after_step=4, signals=[signal.SIGHUP]) == 0
    assert_ends_like(world, unbroken)


@PROC
@pytest.mark.slow
@pytest.mark.fault(9)
@pytest.mark.parametrize("supervisor", [(), (sys.executable, "-m", "yxanul", "supervise", "--")])
def test_a_run_whose_terminal_is_gone_goes_on_to_the_same_end(world, unbroken, supervisor):
    """sshd hangs up and closes the terminal: after the signal every write fails."""
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [*supervisor, *world.command("run", "run")],
        stdin=end,
        stdout=end,
        stderr=end,
        env={**os.environ, "PYTHONPATH": "src", **PAUSE},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  (no threads)
    )
    os.close(end)
    os.set_blocking(terminal, False)

    def stands_still() -> bool:
        with contextlib.suppress(BlockingIOError):
            os.read(terminal, 4096)
        return bool(paused(process.pid))

    wait_until(stands_still, process)
    (run,) = paused(process.pid)
    os.close(terminal)
    os.kill(run, signal.SIGCONT)
    assert process.wait(timeout=120) == 0
    assert_ends_like(world, unbroken)


@pytest.mark.slow
@pytest.mark.fault(10)
def test_a_process_that_stood_still_goes_on_and_says_so(world, unbroken):
    # Ten seconds, where a hang is one of two: to stand still is none.
    process = world.start_to("run", 4, "--set", "watch.hang_s=2")
    time.sleep(10)
    process.send_signal(signal.SIGCONT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert "stood still for" in told
    assert_ends_like(world, unbroken)
