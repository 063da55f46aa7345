"""The level is what held: a machine that lacks something gets a lower one, or none."""

import json
import platform
import subprocess
import sys

from tests.evaluate.sandbox.sandboxes import need
from yxanul.errors import SandboxUnavailableError, UsageError
from yxanul.evaluate.sandbox.level import sandbox_level

UNSHARE = {"x86_64": 272, "aarch64": 97}
LANDLOCK = {"x86_64": 444, "aarch64": 444}

# A container's filter: the given call fails with an error number, all others are allowed.
FILTERED = """
import json, platform, struct, sys
from yxanul.errors import SandboxUnavailableError
from yxanul.evaluate.sandbox.jail import linux, seccomp
from yxanul.evaluate.sandbox.level import sandbox_level
from yxanul.evaluate.sandbox.programs import run_programs
call, error = int(sys.argv[1]), int(sys.argv[2])
code = [(32, 0, 0, 0), (21, 0, 1, call), (6, 0, 0, 0x50000 | error), (6, 0, 0, 0x7FFF0000)]
linux.give_up_privileges()
seccomp.install(b"".join(struct.pack("<HBBI", *line) for line in code))
level, told = sandbox_level(), {}
try:
    told["outcome"] = run_programs(["x = 1"])[0].result
except SandboxUnavailableError as refusal:
    told["refusal"] = str(refusal)
told["unsafe"] = run_programs(["x = 1"], allow_unsafe=True)[0].result
print(json.dumps({**told, **vars(level)}))
"""
ELSEWHERE = """
import json, sys
from yxanul.evaluate.sandbox.level import sandbox_level
sys.platform = "darwin"
print(json.dumps(vars(sandbox_level())))
"""


def told_by(program: str, *arguments: int) -> dict:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def here(numbers: dict[str, int]) -> int:
    return numbers[platform.machine()]


def test_without_user_namespaces_the_level_is_l2_and_programs_run():
    need("L2")
    told = told_by(FILTERED, here(UNSHARE), 1)
    assert (told["name"], told["runs_programs"]) == ("L2", True)
    assert (told["outcome"], told["unsafe"]) == ("passed", "passed")
    assert "not L3" in told["why"]
    assert "(unshare)" in told["why"]


def test_without_landlock_programs_are_refused_unless_asked_for_as_unsafe():
    need("L2")
    told = told_by(FILTERED, here(LANDLOCK), 38)
    assert (told["name"], told["runs_programs"]) == ("L1", False)
    assert "outcome" not in told
    assert "sandbox level L1" in told["refusal"]
    assert "Linux 5.13" in told["refusal"]
    assert told["unsafe"] == "passed"


def test_another_system_than_linux_offers_resource_limits_only():
    told = told_by(ELSEWHERE)
    assert (told["name"], told["runs_programs"]) == ("L1", False)
    assert "need Linux" in told["why"]


def test_the_self_test_runs_once():
    assert sandbox_level() is sandbox_level()


def test_a_refusal_is_a_usage_error():
    assert issubclass(SandboxUnavailableError, UsageError)
