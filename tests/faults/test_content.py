"""What lies in a run folder and is not what the run wrote: refused with its reason."""

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.faults.harness import KILLED, assert_ends_like, run_with
from tests.train.world import World
from yxanul.errors import CorruptCheckpointError
from yxanul.runfolder.checkpoints import load_checkpoint
from yxanul.runfolder.durable import seal


class Payload:
    """Writes a file where it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self):
        return os.system, (f"touch {self.place}",)


def copy_of(unbroken: World, out: str) -> Path:
    """Return a finished run's newest checkpoint, in a copy whose last gate is still to come."""
    run = shutil.copytree(unbroken.root / "run", unbroken.root / out)
    (run / "exit.json").unlink()
    gates = run / "gates.jsonl"
    gates.write_text("".join(gates.read_text().splitlines(keepends=True)[:-1]))
    return unbroken.checkpoints(out)[-1]


def sign(checkpoint: Path, name: str) -> None:
    """Make the manifest agree with a file, as whoever planted it would."""
    path = checkpoint / "manifest.json"
    manifest = json.loads(path.read_text())
    content = (checkpoint / name).read_bytes()
    manifest["files"][name] = {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    path.write_text(json.dumps({**manifest, "sha256": seal(manifest)}))


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "state.json", "pytorch_model.bin"]
)
def test_a_pickle_is_never_unpickled(unbroken, tmp_path, name):
    checkpoint = copy_of(unbroken, f"pickle-{name}")
    proof = tmp_path / "proof"
    (checkpoint / name).write_bytes(pickle.dumps(Payload(proof)))
    sign(checkpoint, name)
    if name == "pytorch_model.bin":
        load_checkpoint(checkpoint)  # a name that nobody asks for is not opened
    else:
        with pytest.raises(CorruptCheckpointError, match=name):
            load_checkpoint(checkpoint)
    assert not proof.exists()
    pickle.loads((checkpoint / name).read_bytes())
    assert proof.exists(), "the payload works, where somebody unpickles it"


HUGE = (1 << 40).to_bytes(8, "little") + b"{}"
FORGED = {
    "huge header": lambda place: place.write_bytes(HUGE),
    "huge tensor": lambda place: place.write_bytes(
        (94).to_bytes(8, "little")
        + json.dumps({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}})
        .encode()
        .ljust(94)
    ),
    "not a number": lambda place: save_file({"w": np.array([np.nan], np.float32)}, place),
    "other tensors": lambda place: save_file({"w": np.ones(3, np.float32)}, place),
}


@pytest.mark.fault(18)
@pytest.mark.parametrize("kind", FORGED)
def test_forged_weights_are_refused_with_the_reason(unbroken, kind):
    out = f"forged-{kind.replace(' ', '-')}"
    checkpoint = copy_of(unbroken, out)
    FORGED[kind](checkpoint / "model.safetensors")
    sign(checkpoint, "model.safetensors")
    if kind == "other tensors":
        # They are tensors, and finite; only the model can tell that they are not its own.
        told = unbroken.finish("run", out, code=31).stderr
        assert "embed_tokens.weight" in told
    else:
        with pytest.raises(CorruptCheckpointError, match=r"model\.safetensors"):
            load_checkpoint(checkpoint)


@pytest.mark.slow
@pytest.mark.fault(36)
def test_the_newest_checkpoint_is_the_one_of_the_last_step_whatever_the_clock_says(world, unbroken):
    run_with(world, "checkpoint.renamed=kill@2", code=KILLED)
    # The clock went back by ten years for each of them.
    for number, path in enumerate([*world.checkpoints("run"), *(world.root / "run").iterdir()]):
        os.utime(path, (1e9 - number * 3e8, 1e9 - number * 3e8))
    told = world.finish("run", "run").stderr
    assert "step-00000006-a0" in told
    assert_ends_like(world, unbroken)


@pytest.mark.slow
@pytest.mark.fault(37)
def test_a_token_is_in_nothing_that_a_run_writes_or_says(world, monkeypatch):
    token = "hf_" + "Zz9" * 11
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, token)
    process = world.start("run", "run", "--max_steps", "2")
    said = "".join(process.communicate(timeout=90))
    assert process.returncode == 0, said
    # One that crashes, too: out of memory in a step.
    crashed = world.start("run", "crash", YXANUL_FAILPOINTS="step.updated=memory@2")
    said += "".join(crashed.communicate(timeout=90))
    assert crashed.returncode == 11
    assert token not in said
    files = [path for path in world.root.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path for path in files if token.encode() in path.read_bytes()] == []


@pytest.mark.slow
@pytest.mark.fault(42)
def test_another_program_is_told_on_resume_and_refused_by_strict(world):
    world.finish("run", "run", "--max_steps", "2")
    path = world.root / "run" / "environment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "torch": "2.1.0"}))
    finished = world.finish("run", "run", "--max_steps", "3", "--strict", code=30)
    assert "torch: 2.1.0 -> " in finished.stderr
    assert "bit for bit" in finished.stderr
    assert json.loads(path.read_text())["torch"] == "2.1.0", "it is refused again and again"
    told = world.finish("run", "run", "--max_steps", "3").stderr
    assert "this start differs from the run's last one: torch: 2.1.0 -> " in told
