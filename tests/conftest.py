"""What every test runs under: one thread per process, no network, examples that repeat.

Nor does it depend on what the shell says of ranks, of proxies or of the program's own variables.
"""

import os
import tempfile
from pathlib import Path

# Set before torch is imported, and inherited by the programs that tests start. One thread gives
# the same sums everywhere, and `make test` runs one process per core.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
# The hub's own switch: a test that would reach for the network fails at once.
os.environ["HF_HUB_OFFLINE"] = "1"
# A run keeps what it compiles beside it: the first one of a process would keep it for all.
os.environ.setdefault(
    "TORCHINDUCTOR_CACHE_DIR", f"{tempfile.gettempdir()}/yxanul-tests-inductor-{os.getuid()}"
)

import pytest
import torch
from hypothesis import settings

from tests.parsing import parse_texts_once
from tests.products import time_products_once
from yxanul.cli.main import main
from yxanul.hardware import choices

# What the shell of a pod, or of a run, says of ranks and of the program is not said to tests;
# YXANUL_WRITE_GOLDEN is, by whoever starts them.
_RANKS = ("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_PORT")
for _name in list(os.environ):
    if _name in _RANKS or (_name.startswith("YXANUL_") and _name != "YXANUL_WRITE_GOLDEN"):
        del os.environ[_name]
# Servers that tests start are on the loopback: a proxy would be asked for them.
for _name in ("no_proxy", "NO_PROXY"):
    os.environ[_name] = ",".join(filter(None, ("127.0.0.1,localhost", os.environ.get(_name))))
# A program that a test starts is the one of this checkout, whichever is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (str(Path(__file__).parents[1] / "src"), os.environ.get("PYTHONPATH")))
)

# What it asserts is told with its values, as in a test: a rented card is not asked again.
pytest.register_assert_rewrite("tests.model.learned")
time_products_once()
parse_texts_once()
settings.register_profile("yxanul", derandomize=True, deadline=None, database=None, max_examples=50)
settings.load_profile("yxanul")


def pytest_configure(config: pytest.Config) -> None:
    """Hide the cards of this machine, unless the tests of a card were asked for.

    A test is the same then on every machine, also in the programs that it starts. A card that this
    torch does not use is refused: it is hidden in any case. Nor do tests that unset the variable
    see cards that they have not made.
    """
    # Whoever asks torch for a card fixes what it sees: nothing here may do so before.
    is_asked_for = "gpu" in config.option.markexpr.replace("not gpu", "")
    if not is_asked_for or choices.unused_card() is not None:
        os.environ[choices.HIDING] = ""
    choices._DEVICES = Path(__file__).parent / "no devices"


@pytest.fixture
def products_as_torch_has_them():
    """Let products be as torch has them, whatever a program sets, and set them back."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def call(capsys):
    """Return a function that runs the program here: words -> (exit code, stdout, stderr)."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()  # what a library of the test's own said before is not the program's
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    return run
