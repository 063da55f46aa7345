"""One flipped bit in each kind of file that a run leaves behind: named, never silent."""

import shutil
from pathlib import Path

import pytest

from tests.train.world import World
from yxanul.cli.main import main

# A pattern for each kind of file; the first that matches is damaged.
KINDS = [
    "checkpoints/*/manifest.json",
    "checkpoints/*/model.safetensors",
    "checkpoints/*/optimizer.safetensors",
    "checkpoints/*/state.json",
    "data/manifest.json",
    "data/*/train-*.bin",
    "data/*/validation-*.bin",
    "data/*/train.documents.jsonl",
    "data/*/validation.documents.jsonl",
    "data/*/dropped.jsonl",
    "config.yaml",
    "environment.json",
    "exit.json",
    "gates.jsonl",
    "lineage.jsonl",
    "metrics.jsonl",
    "samples.jsonl",
    "scores/*.json",
    "spending.jsonl",
    "sums.json",
]
# Written anew by whoever asks for it, drawn by others' programs, a hint, or nothing at all.
NO_RECORD = {"report.html", "tensorboard", "latest", ".lock", "cards"}


@pytest.fixture(scope="module")
def run(unbroken: World, tmp_path_factory) -> Path:
    return shutil.copytree(unbroken.root / "run", tmp_path_factory.mktemp("bits") / "run")


def flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[min(int(place * len(content)), len(content) - 1)] ^= 1 << 2
    path.write_bytes(content)


@pytest.mark.fault(14)
@pytest.mark.fault(19)
@pytest.mark.parametrize(
    "place", [0.31, *(pytest.param(place, marks=pytest.mark.slow) for place in (0.0, 0.64, 1.0))]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_named(run, capsys, kind, place):
    path = next(iter(sorted(run.glob(kind))))
    before = path.read_bytes()
    if not before:
        pytest.skip("the run left nothing in it")
    flip(path, place)
    with pytest.raises(SystemExit) as left:
        main(["inspect", str(run), "--verify"])
    path.write_bytes(before)
    told = capsys.readouterr().err
    assert left.value.code == 31, told
    assert path.name in told
    with pytest.raises(SystemExit) as left:
        main(["inspect", str(run), "--verify"])
    assert left.value.code == 0, "it is good again"


def test_every_kind_of_file_is_among_them(run):
    known = {path for kind in KINDS for path in run.glob(kind)}
    others = {
        path.relative_to(run)
        for path in run.rglob("*")
        if path.is_file() and path not in known and not NO_RECORD & {*path.relative_to(run).parts}
    }
    assert others == set()


@pytest.mark.fault(14)
def test_what_changed_since_the_last_end_is_told_when_a_run_goes_on(world):
    world.finish("run", "run", "--max_steps", "2")
    metrics = world.root / "run" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"seq_len": 32', '"seq_len": 33', 1))
    told = world.finish("run", "run", "--max_steps", "3").stderr
    assert f"changed since the run's last end: {metrics} is not what the run wrote" in told
