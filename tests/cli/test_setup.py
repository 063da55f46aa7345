"""scripts/setup.sh: which Python it takes, and what it says of one that it keeps or refuses.

Small programs stand in the interpreters' place; what pip is asked to install is only written down.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INTERPRETER = """#!/bin/sh
case "$1" in
    -) exit 0 ;;
    --version) echo "Python {version}.4" ;;
    -c) echo "{version}" ;;
    *) echo "{version} $*" >> calls ;;
esac
"""
# The script's own questions are answered by a real one, which takes itself for another machine's.
OF_ANOTHER_MACHINE = """#!/bin/sh
[ "$1" = - ] || exec echo "Python 3.11.4"
exec {real} -c "
import platform, sys, sysconfig
sysconfig.get_config_vars()
sys.platform, platform.machine = '{system}', lambda: '{machine}'
exec(sys.stdin.read())"
"""


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A checkout with the script, a compiler and one Python, 3.11."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "setup.sh", tmp_path / "scripts")
    shutil.copy(ROOT / "requirements.txt", tmp_path)
    program(tmp_path / "bin" / "cc", "#!/bin/sh\n")
    program(tmp_path / "bin" / "python3.11", INTERPRETER.format(version="3.11"))
    return tmp_path


def begin(checkout: Path, *words: str) -> subprocess.Popen[str]:
    path = f"{checkout / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [checkout / "scripts" / "setup.sh", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PATH": path, "PYTHON": "python3.11"},
    )


def set_up(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    process = begin(checkout, *words)
    out, told = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, told)


@pytest.mark.parametrize("version", ["3.11", "3.12"])
def test_an_environment_of_another_python_is_kept_and_told(checkout, version):
    program(checkout / ".venv" / "bin" / "python", INTERPRETER.format(version=version))
    done = set_up(checkout)
    assert done.returncode == 0, done.stderr
    assert f".venv is there, with Python {version}.4" in done.stdout
    is_told = "make clean first for one from Python 3.11.4 (python3.11)" in done.stderr
    assert is_told == (version != "3.11")
    used = {line.split()[0] for line in (checkout / "calls").read_text().splitlines()}
    assert used == {version}


@pytest.mark.parametrize("other_ends", [True, False])
def test_a_set_up_waits_for_another_one_and_does_what_that_has_left(checkout, other_ends):
    """`make train` and `make test` in two terminals; the other one may have failed."""
    # The lock is asked of a real interpreter.
    asks = INTERPRETER.replace('-c) echo "{version}"', f'-c) exec {sys.executable} "$@"')
    for place in ("bin/python3.11", ".venv/bin/python"):
        program(checkout / place, asks.format(version="3.11"))
    with (checkout / ".venv.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = begin(checkout)
        assert "another set-up is at work on .venv" in process.stdout.readline()
        assert not (checkout / "calls").exists()
        if other_ends:
            (checkout / ".venv" / ".ready").touch()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert (checkout / "calls").exists() is not other_ends
    assert (checkout / ".venv" / ".ready").exists()


def test_a_folder_may_be_named_with_a_slash_at_its_end(checkout):
    """The lock would lie in a folder that is not there yet, or is emptied."""
    program(checkout / "envs" / "one" / "bin" / "python", INTERPRETER.format(version="3.11"))
    done = set_up(checkout, "envs/one/")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (checkout / "envs").iterdir()) == ["one", "one.lock"]


def test_a_folder_beside_which_nothing_can_be_written_needs_no_lock(checkout):
    program(checkout / "env" / "bin" / "python", INTERPRETER.format(version="3.11"))
    (checkout / "env.lock").mkdir()  # root may write everywhere else
    done = set_up(checkout, "env")
    assert (done.returncode, done.stderr) == (0, "")
    assert (checkout / "env" / ".ready").exists()


@pytest.mark.parametrize(
    ("system", "machine", "is_refused"),
    [("darwin", "x86_64", True), ("darwin", "arm64", False), ("linux", "x86_64", False)],
)
def test_a_machine_that_pytorch_is_not_built_for_is_told(checkout, system, machine, is_refused):
    told = {"real": sys.executable, "system": system, "machine": machine}
    program(checkout / "bin" / "python3.11", OF_ANOTHER_MACHINE.format(**told))
    program(checkout / ".venv" / "bin" / "python", INTERPRETER.format(version="3.11"))
    done = set_up(checkout)
    assert ("python3.11 is for Intel Macs" in done.stderr) == is_refused, done.stderr
    assert done.returncode == int(is_refused), done.stderr
