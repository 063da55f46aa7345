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


HANGS = """
import ctypes, sys, threading, time
from yxanul.signals import stop_on_signals

libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)

def let_go():
    sys.stdin.readline()
    libc.pthread_mutex_unlock(mutex)

libc.pthread_mutex_init(mutex, None)
libc.pthread_mutex_lock(mutex)
threading.Thread(target=let_go, daemon=True).start()
with stop_on_signals() as stop, stop.leaving_word(lambda *told: print(*told, flush=True)):
    print("ready", flush=True)
    while {heeds_first} and not stop.asked:
        time.sleep(0.01)
    print("asked", flush=True)
    libc.pthread_mutex_lock(mutex)  # no handler of Python runs meanwhile
    print("saved", flush=True)
"""
FORKS = """
import os, signal, time
from yxanul.signals import stop_on_signals

with stop_on_signals() as stop:
    print("ready", flush=True)
    child = os.fork()
    if not child:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1.05)
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    print(os.waitpid(child, 0)[1], stop.signal_name)
"""


def started(program: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "src"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def insist(process: subprocess.Popen, number: int) -> str:
    """Send a signal, each a second after the one before, until one is the last; return its word."""
    assert process.stdout is not None
    assert process.stdout.readline() == "asked\n"
    deadline = time.monotonic() + 45
    while process.poll() is None and time.monotonic() < deadline:
        process.send_signal(number)
        time.sleep(1.05)
    process.kill()
    told, _ = process.communicate()
    return str(told)


def test_signals_that_come_together_are_one_wish_and_a_later_one_leaves_at_once():
    process = started(WAITS.format(hangs_s=0))
    # Both are there before it heeds one, however long this takes.
    for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
        process.send_signal(number)
    time.sleep(1.05)
    assert process.poll() is None
    told = insist(process, signal.SIGTERM)
    assert process.returncode == 143
    assert told == "143 a second signal, SIGTERM: left at once, what was not saved is done again\n"


def test_a_disk_that_hangs_holds_nobody_up():
    process = started(WAITS.format(hangs_s=60))
    process.send_signal(signal.SIGINT)
    insist(process, signal.SIGINT)
    assert process.returncode == 130


def test_a_signal_that_is_heeded_late_is_no_later_one():
    process = started(HANGS.format(heeds_first=True))
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGTERM)
    time.sleep(1.05)
    told, _ = process.communicate("go\n", timeout=30)
    assert (process.returncode, told) == (0, "saved\n")


def test_a_second_signal_ends_a_process_that_heeds_none():
    process = started(HANGS.format(heeds_first=False))
    told = insist(process, signal.SIGINT)
    assert process.returncode == 130
    assert told.startswith("130 a second signal, SIGINT: ")


def test_signals_to_a_forked_child_are_none_to_its_parent():
    process = started(FORKS)
    told, _ = process.communicate(timeout=30)
    assert (process.returncode, told) == (0, "0 None\n")
