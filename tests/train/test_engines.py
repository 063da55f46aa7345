"""However the work is spread over processes, a run trains to the same losses."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.train.world import ADAMW, STAGES, World, deterministic_rows
from yxanul.config.load import parse_config
from yxanul.plan.flops import flops_per_token

SHARED = ("--set", "compute.zero1=true")
STAGE = ("--stage", STAGES[0], *ADAMW)
DEEPSPEED = pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")


@pytest.fixture
def world(tmp_path) -> World:
    return World.create(tmp_path)


def deepspeed_json(world: World, **settings) -> tuple[str, str]:
    """Write a DeepSpeed file that agrees with the world's YAML, and more; return the flag."""
    path = world.root / "deepspeed.json"
    path.write_text(
        json.dumps(
            {
                "train_batch_size": "auto",
                "bf16": {"enabled": "auto"},
                "zero_optimization": {"stage": 1, "reduce_bucket_size": 50_000},
                "gradient_clipping": 1.0,
                **settings,
            }
        )
    )
    return "--deepspeed", str(path)


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in deterministic_rows(run)]


def tensors(checkpoint: Path) -> dict[str, np.ndarray]:
    return {
        f"{part}:{name}": array
        for part in ("model", "optimizer")
        for name, array in load_file(checkpoint / f"{part}.safetensors").items()
    }


def apart(first: Path, second: Path) -> float:
    """Return the largest difference of any tensor, as a share of its largest number."""
    a, b = tensors(first), tensors(second)
    assert a.keys() == b.keys()
    worst = 0.0
    for name, array in a.items():
        scale = max(float(np.abs(array).max()), 1e-9)
        worst = max(worst, float(np.abs(array - b[name]).max()) / scale)
    return worst


@pytest.mark.slow
def test_ranks_that_share_the_optimizer_train_as_those_that_do_not(world):
    more = ("--max_steps", "6", *ADAMW)
    world.launch("run", "whole", *more)
    told = world.launch("run", "shared", *more, *SHARED, "--strict").stderr
    assert "ZeRO-1 over 2" in told
    whole, shared = (world.root / name for name in ("whole", "shared"))
    assert losses(shared) == pytest.approx(losses(whole), rel=1e-6)
    assert apart(world.checkpoints("shared")[-1], world.checkpoints("whole")[-1]) < 1e-4


@pytest.mark.slow
def test_the_share_of_the_peak_is_held_against_the_peak_of_all_processes(world):
    world.launch("run", "run", "--max_steps", "5")
    run = world.root / "run"
    peak = json.loads((run / "environment.json").read_text())["gemm_flops"]["fp32"]
    model = parse_config((run / "config.yaml").read_text()).model
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 5
    for row in rows:
        flops_per_s = row["tokens_per_s"] * flops_per_token(model, row["seq_len"])
        assert row["mfu"] == pytest.approx(flops_per_s / (2 * peak))
    shares = [row["mfu"] for row in rows]
    assert min(shares) <= world.exit_record("run")["outcome"]["mfu"] <= max(shares)


@pytest.mark.slow
@pytest.mark.fault(23)
def test_what_ranks_shared_one_takes_up_and_hands_back(world):
    """2 processes, then 1, then 2: the steps of one that did them all, with Muon for matrices."""
    world.finish("run", "alone", "--max_steps", "7")
    world.launch("run", "moved", "--max_steps", "3", *SHARED)
    world.finish("run", "moved", "--max_steps", "5", *SHARED)
    world.launch("run", "moved", "--max_steps", "7", *SHARED)
    alone, moved = (world.root / name for name in ("alone", "moved"))
    assert losses(moved) == pytest.approx(losses(alone), rel=1e-5)
    assert apart(world.checkpoints("moved")[-1], world.checkpoints("alone")[-1]) < 1e-3


def test_one_process_has_nobody_to_share_with_which_strict_refuses(world):
    assert "ZeRO-1" in world.finish("run", "run", *SHARED, "--max_steps", "1").stderr
    refused = world.finish("run", "strict", *SHARED, "--max_steps", "1", "--strict", code=30)
    assert "asked for and not active: ZeRO-1 (one process" in refused.stderr


@DEEPSPEED
@pytest.mark.slow
def test_deepspeed_trains_as_torch_does_and_one_process_takes_it_up(world):
    more = ("--set", "compute.micro_batch_tokens=64")  # two micro-batches of each rank an update
    world.launch("train", "torch", *STAGE, *more, "--max_steps", "6")
    flag = (*deepspeed_json(world), *more)
    told = world.launch("train", "deepspeed", *STAGE, *flag, "--max_steps", "4", "--strict").stderr
    assert "DeepSpeed" in next(line for line in told.splitlines() if line.startswith("active: "))
    # One process with torch's engine, then two with DeepSpeed's, which finds the moments again.
    world.finish("train", "deepspeed", *STAGE, *more, "--max_steps", "5")
    world.launch("train", "deepspeed", *STAGE, *flag, "--max_steps", "6")
    torchs, deepspeeds = (world.root / name for name in ("torch", "deepspeed"))
    assert losses(deepspeeds) == pytest.approx(losses(torchs), rel=1e-5)
    assert apart(world.checkpoints("deepspeed")[-1], world.checkpoints("torch")[-1]) < 1e-3


@DEEPSPEED
@pytest.mark.slow
def test_the_promised_deepspeed_command_trains_a_stage(world):
    """As in the README: the launcher of DeepSpeed, the older door, and the JSON in configs."""
    out, launcher = world.root / "run", Path(sys.executable).parent / "deepspeed"
    words = world.command("train", "run", *STAGE, *deepspeed_json(world), "--json")[4:]
    done = subprocess.run(
        [str(launcher), "--num_gpus=2", "src/trainer.py", *words],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PATH": f"{launcher.parent}{os.pathsep}{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stderr
    assert [row["stage"] for row in deterministic_rows(out)] == [STAGES[0]] * 8
    # and alone, still with DeepSpeed: it goes on with the next stage
    flag = deepspeed_json(world)
    more = ("--stage", STAGES[1], *ADAMW, *flag)
    alone = subprocess.run(
        world.command("train", "run", *more),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": "src"},
    )
    assert alone.returncode == 0, alone.stderr
    assert len(deterministic_rows(out)) == 16


@DEEPSPEED
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"gradient_clipping": 0.5}, "gradient_clipping is 0.5 and must be 1.0"),
        ({"bf16": {"enabled": True}}, "bf16.enabled is true and must be false"),
        ({"zero_optimization": {"stage": 3}}, "zero_optimization.stage is 3 and must be 1"),
        ({"train_batch_size": 64}, "a batch is counted in tokens (training.batch_tokens)"),
        ({"scheduler": {"type": "WarmupLR"}}, "rates and schedule are the stage's"),
        ({"amp": {"enabled": True}}, "does not hand that on to DeepSpeed"),
    ],
)
def test_a_json_that_contradicts_the_yaml_is_one_sentence(world, settings, said):
    flag = deepspeed_json(world, **settings)
    refused = world.finish("train", "run", *STAGE, *flag, code=30).stderr
    assert said in refused
    assert "Traceback" not in refused
    assert not (world.root / "run").exists()


@DEEPSPEED
def test_two_engines_at_once_are_one_sentence(world):
    flag = deepspeed_json(world)
    both = world.finish("train", "run", *STAGE, *flag, *SHARED, code=30).stderr
    assert "compute.zero1 shares the optimizer's state in torch's engine" in both
    other = ("--set", "compute.engine=torch")
    named = world.finish("train", "run", *STAGE, *flag, *other, code=30).stderr
    assert "--deepspeed and compute.engine=torch name two engines" in named
    muon = world.finish("train", "run", "--stage", STAGES[0], *flag, code=30).stderr
    assert "compute.engine=deepspeed drives adamw" in muon


@DEEPSPEED
@pytest.mark.slow
def test_deepspeed_skips_a_step_that_is_not_finite_as_torch_does(world):
    # The second step and its second computation; every start counts anew.
    for out, more in (("torch", ()), ("deepspeed", deepspeed_json(world))):
        words = world.command("train", out, *STAGE, *more, "--max_steps", "5")
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "PYTHONPATH": "src", "YXANUL_FAILPOINTS": "step.scale=nan@2-3"},
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("no weight was moved") == 1
    ends = [world.checkpoints(out)[-1] for out in ("torch", "deepspeed")]
    assert apart(*ends) < 1e-3
