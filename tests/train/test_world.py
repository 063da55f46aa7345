"""What the tests of whole runs stand on."""

import subprocess
import sys

import pytest

from tests.train.world import end_together


def process(program: str) -> subprocess.Popen:
    command = [sys.executable, "-c", program]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_of_processes_that_wait_for_each_other_the_one_that_failed_is_told():
    waiting = process("import time; time.sleep(600)")
    failed = process("import sys; sys.exit('no rows for this rank')")
    with pytest.raises(AssertionError, match="left with 1:\nno rows for this rank"):
        end_together([waiting, failed])
    assert waiting.returncode == -9


def test_processes_that_end_well_are_told_in_their_order():
    slow = process("import time; time.sleep(0.3); print('first')")
    assert [end.stdout for end in end_together([slow, process("print('second')")])] == [
        "first\n",
        "second\n",
    ]
