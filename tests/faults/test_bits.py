"""One flipped bit in each kind of file that a run leaves behind: named, never silent."""

import json
import shutil
from pathlib import Path

import pytest

from tests.train.test_gate_acts import sets
from tests.train.test_skills import words, write_bench
from tests.train.world import STAGES, World, finished_world, tale
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
# What only a run with skills leaves behind, whose texts were looked through for near duplicates.
MORE_KINDS = [
    "bench/*.json",
    "contamination.json",
    "data/*/dropped.jsonl",
    "data/*/train.signatures.bin",
    "data/*/validation.signatures.bin",
    "scores/skills/*.json",
]
# Written anew by whoever asks for it, drawn by others' programs, what saves a reading, or nothing.
NO_RECORD = {"report.html", "tensorboard", "latest", ".hashed.json", ".lock", "cards"}


@pytest.fixture(scope="module")
def run(unbroken: World, tmp_path_factory) -> Path:
    return shutil.copytree(unbroken.root / "run", tmp_path_factory.mktemp("bits") / "run")


@pytest.fixture(scope="module")
def fuller(tmp_path_factory) -> Path:
    """A run that leaves every kind of file behind."""
    root = tmp_path_factory.mktemp("fuller")
    world = World.create(root)
    texts = root / "texts" / STAGES[0] / "texts.jsonl"
    again = json.dumps({"text": tale(3).replace("carried", "carried away")})
    texts.write_text(texts.read_text() + again + "\n" + json.dumps({"text": tale(4)}) + "\n")
    looked_for = sets({"data.folder_treatment": json.dumps({"near_duplicates": 0.9})})
    world.finish("run", "run", *words(write_bench(root / "bench")), *looked_for)
    return root / "run"


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
    if not path.stat().st_size:
        pytest.skip("the run left nothing in it")
    assert_is_named(run, path, place=place, capsys=capsys)


@pytest.mark.slow
@pytest.mark.fault(14)
@pytest.mark.fault(19)
@pytest.mark.parametrize("place", [0.0, 0.31, 0.64, 1.0])
@pytest.mark.parametrize("kind", MORE_KINDS)
def test_a_flipped_bit_of_what_a_fuller_run_leaves_is_named(fuller, capsys, kind, place):
    path = next(path for path in sorted(fuller.glob(kind)) if path.stat().st_size)
    assert_is_named(fuller, path, place=place, capsys=capsys)


def assert_is_named(run: Path, path: Path, *, place: float, capsys) -> None:
    """Flip a bit of a file: `inspect --verify` names it and leaves with 31, and then no more."""
    before = path.read_bytes()
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
    assert others_than(KINDS, run) == set()


@pytest.mark.slow
def test_every_kind_of_file_of_a_fuller_run_is_among_them(fuller):
    assert others_than([*KINDS, *MORE_KINDS], fuller) == set()


def others_than(kinds: list[str], run: Path) -> set[Path]:
    """Return the files of a run that are of none of these kinds and should be."""
    known = {path for kind in kinds for path in run.glob(kind)}
    return {
        path.relative_to(run)
        for path in run.rglob("*")
        if path.is_file() and path not in known and not NO_RECORD & {*path.relative_to(run).parts}
    }


@pytest.mark.fault(14)
def test_what_changed_since_the_last_end_is_told_when_a_run_goes_on(world):
    world.finish("run", "run", "--max_steps", "2")
    metrics = world.root / "run" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"seq_len": 32', '"seq_len": 33', 1))
    environment = world.root / "run" / "environment.json"
    environment.write_text(environment.read_text().replace("seed", "seeds", 1))
    told = world.finish("run", "run", "--max_steps", "3").stderr
    assert f"changed since the run's last end: {metrics} is not what the run wrote" in told
    assert f"{environment} is not what the run wrote" in told
    # New sums would make good what is damaged still; the other file was written anew.
    told = world.finish("run", "run", "--max_steps", "4").stderr
    assert f"{metrics} is not what the run wrote" in told
    assert f"{environment} is not" not in told


@pytest.mark.fault(14)
def test_damage_to_a_complete_run_is_told_again(tmp_path_factory, call):
    world = finished_world(tmp_path_factory, "damaged")
    metrics = world.root / "run" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"seq_len": 32', '"seq_len": 33', 1))
    for _ in range(2):
        told = world.finish("run", "run").stderr
        assert "is complete already" in told
        assert f"{metrics} is not what the run wrote" in told
    code, _, err = call("inspect", world.root / "run", "--verify")
    assert code == 31
    assert f"{metrics} is not what the run wrote" in err


@pytest.mark.fault(14)
def test_a_refused_start_leaves_the_sums_of_the_end_before(world, call):
    world.finish("run", "run", "--max_steps", "2")
    run = world.root / "run"
    before = (run / "sums.json").read_bytes()
    world.finish("run", "run", "--set", "seed=9", code=30)
    assert (run / "sums.json").read_bytes() == before
    assert call("inspect", run, "--verify")[0] == 0


@pytest.mark.fault(14)
def test_a_start_that_is_refused_for_its_stage_changes_nothing_of_the_run(world, call):
    """Only what has begun to go on with other settings writes them down."""
    first, second = STAGES[:2]
    world.finish("train", "run", "--stage", first, "--max_steps", "2")
    run = world.root / "run"
    before = (run / "exit.json").read_bytes()
    config = (run / "config.yaml").read_bytes()
    world.finish("train", "run", "--stage", second, code=30)
    assert (run / "config.yaml").read_bytes() == config
    assert (run / "exit.json").read_bytes() == before
    assert call("inspect", run, "--verify")[0] == 0
    told = world.finish("train", "run", "--stage", first, "--max_steps", "3").stderr
    assert "changed since the run's last end" not in told
