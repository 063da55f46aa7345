"""A wish to stop is one, however many signals it comes as; a later one ends the process."""

import os
import signal
import subprocess
import sys
import time

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
    # Both are there before it heeds one, however long this takes.
    for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
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
