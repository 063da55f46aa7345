"""A wish to stop is one, however many signals it comes as; a later one ends the process."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from yxanul.errors import StoppedOnRequest
from yxanul.parallel.processes import ALONE
from yxanul.runfolder.layout import RunFolder
from yxanul.signals import StopRequest
from yxanul.train.safety.ending import forget_ending, owned

WAITS = """
import time
from yxanul.signals import stop_on_signals

def write(code, reason):
    print(code, reason, flush=True)
    time.sleep({hangs_s})

with stop_on_signals() as stop, stop.leaving_word(write):
    print("ready", flush=True)
    while not stop.asked:
        time.sleep(0.01)
    print("asked", flush=True)
    time.sleep(60)
"""


def waiting(*, hangs_s: float) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS.format(hangs_s=hangs_s)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "src"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def pass_a_second(process: subprocess.Popen) -> None:
    """Wait until what is sent is later by a second than what has been heeded."""
    assert process.stdout is not None
    assert process.stdout.readline() == "asked\n"
    time.sleep(1.05)


def test_signals_that_come_together_are_one_wish_and_a_later_one_leaves_at_once():
    process = waiting(hangs_s=0)
    for number in (signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
    pass_a_second(process)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=30)
    assert process.returncode == 143
    assert told == "143 a second signal, SIGTERM: left at once, what was not saved is done again\n"


def test_a_disk_that_hangs_holds_nobody_up():
    process = waiting(hangs_s=60)
    process.send_signal(signal.SIGINT)
    pass_a_second(process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    process.communicate()


@pytest.mark.parametrize("code", [10, 130])
@pytest.mark.parametrize("is_done", [True, False], ids=["done", "begun again"])
def test_who_stops_a_start_of_a_run_that_is_done_leaves_what_it_had_reached(
    tmp_path, code, is_done
):
    """Its steps and its speed stand in that record alone."""
    folder, stop = RunFolder(tmp_path / "run"), StopRequest()
    folder.create()
    with owned(folder, ALONE, stop=stop, say=print) as record:
        record["outcome"] = {"steps": 16}
    before = folder.exit_record.read_bytes()
    with suppress(StoppedOnRequest), owned(folder, ALONE, stop=stop, say=print):
        if not is_done:
            forget_ending(folder, ALONE)
        if code == 10:
            raise StoppedOnRequest("stopped")
        stop._last_words(code, "a second signal")
        after = folder.exit_record.read_bytes()
    after = after if code == 130 else folder.exit_record.read_bytes()
    assert json.loads(after)["code"] == (0 if is_done else code)
    assert (after == before) is is_done
