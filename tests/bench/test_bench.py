"""Every part of `yxanul bench` measures what it says, on real parts."""

import gc
import json
import sysconfig
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._dynamo.utils import counters

from tests.model.tiny import shape
from tests.train.world import STAGES, World
from yxanul.bench import step as step_room
from yxanul.bench.optimizers import measure_optimizers
from yxanul.bench.step import load_by_rule, measure_fitting
from yxanul.bench.workload import StepRun, Workload, time_steps
from yxanul.config.load import load_config
from yxanul.config.schema import OptimizationConfig, OptimizerConfig
from yxanul.hardware import compiler as compiler_room
from yxanul.hardware.compiler import compile_obstacle
from yxanul.model.transformer import Transformer
from yxanul.optim.optimizers import Optimizers
from yxanul.units import format_flops

STEP_FIELDS = {
    "tokens_per_s",
    "flops_per_token",
    "mfu",
    "gemm_flops",
    "model",
    "seq_len",
    "micro_batch",
    "precision",
    "compiled",
    "fp8",
    "optimizer",
    "threads",
    "checkpointed_blocks",
}
CPU = torch.device("cpu")
CONFIGS = Path(__file__).parents[2] / "configs"
HERE = ("--set", "data.source=texts")  # no hub's data set is named by the world's configs


@pytest.fixture
def world(tmp_path) -> World:
    return World.create(tmp_path)


def measured(call, *words, begins: tuple[str, ...] = ()) -> dict:
    """Return what is measured, where these lines tell what begins."""
    code, out, err = call("bench", *map(str, words), "--json")
    assert code == 0, err
    assert [line for line in err.splitlines() if line in begins] == list(begins)
    return json.loads(out)


def test_a_step_tells_its_rate_and_what_it_is_a_share_of(call, world):
    place = ("--config_dir", world.root / "configs")
    tiny = ("--model", world.root / "configs" / "model_config.yaml", *HERE)
    words = (*tiny, *place, "--seq_len", 32, "--micro_batch", 4, "--steps", 3)
    found = measured(call, "step", *words, begins=("tiny: 7 updates of 4 rows of 32 tokens",))
    assert found.keys() >= STEP_FIELDS
    assert (found["model"], found["seq_len"], found["micro_batch"]) == ("tiny", 32, 4)
    assert (found["precision"], found["compiled"]) == ("fp32", "off")
    assert found["recompiles"] is None
    share = found["tokens_per_s"] * found["flops_per_token"] / found["gemm_flops"]
    assert found["mfu"] == pytest.approx(share)


@pytest.mark.filterwarnings("default")  # torch.compile warns about torch's own code
@pytest.mark.skipif(compile_obstacle(CPU) is not None, reason="there is no compiler")
@pytest.mark.parametrize("ending", [(), ("--json",)])
def test_a_step_that_compiles_after_its_first_update_fails(call, world, monkeypatch, ending):
    def compile_anew_at_every_call(block, **_):
        def forward(*args, **kwargs):
            counters["stats"]["unique_graphs"] += 1
            return type(block).forward(block, *args, **kwargs)

        block._compiled_call_impl = forward

    monkeypatch.setattr(torch.nn.Module, "compile", compile_anew_at_every_call)
    place = ("--config_dir", world.root / "configs", *HERE, "--set", "compute.compile=block")
    words = ("--model", world.root / "configs" / "model_config.yaml", *place, "--seq_len", 32)
    asked = map(str, ("bench", "step", *words, "--micro_batch", 4, "--steps", 1, *ending))
    code, out, err = call(*asked)
    assert code == 1
    again = json.loads(out)["recompiles"] if ending else int(out.split()[-1])
    assert again > 0
    assert f"torch.compile made {again} graphs after the first update" in " ".join(err.split())


def test_a_step_tells_which_fp8_was_timed(call, world):
    place = ("--config_dir", world.root / "configs", *HERE)
    shape = ("--model", world.root / "configs" / "model_config.yaml")
    size = ("--seq_len", 32, "--micro_batch", 4, "--steps", 1)
    eight = ("--set", "compute.fp8=ffn", "--set", "compute.fp8_emulate=true")
    assert measured(call, "step", *shape, *place, *size, *eight)["fp8"] == "ffn"
    assert measured(call, "step", *shape, *place, *size)["fp8"] == "off"


def test_a_rate_of_products_is_told_in_a_size_that_can_be_read():
    assert format_flops(745.123e12) == "745 TFLOP/s"
    assert format_flops(80.4e9) == "80 GFLOP/s"


def test_a_step_of_a_named_shape_is_told_in_words(call):
    size = ("--seq_len", "8", "--micro_batch", "1", "--steps", "1")
    words = ("--model", "nano", *size, "--set", "compute.fp8=auto")
    code, out, err = call("bench", "step", *words)
    assert code == 0, err
    assert out.startswith("nano, 21,258,752 parameters, on ")
    assert "tokens/s" in out
    assert "GFLOP/s" in out
    assert "FP8 off (auto was not tried), " in " ".join(out.split())


@pytest.fixture
def card(monkeypatch, tmp_path):
    """Return a function that makes torch speak of a card with so many GiB, and a compiler."""

    def pretend(gib: int) -> torch.device:
        monkeypatch.setattr(compiler_room, "find_spec", lambda _name: object())
        monkeypatch.setenv("CC", "true")
        (tmp_path / "Python.h").touch()
        monkeypatch.setattr(sysconfig, "get_path", lambda _name, _scheme: str(tmp_path))
        card = SimpleNamespace(total_memory=gib * 2**30)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: card)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
        return torch.device("cuda", 0)

    return pretend


@pytest.mark.parametrize(
    ("gib", "settings", "rows"),
    [
        (24, "", 32),
        (24, "compute.compile=block", 64),
        (48, "", 64),  # 32,768 tokens were 47.9 GiB on an H200
        (80, "", 128),
        (80, "compute.precision=fp32", 64),
        (24, "compute.gradient_checkpointing=true", 128),
        (24, "compute.gradient_checkpointing=true compute.checkpointed_share=null", 64),
        (180, "compute.gradient_checkpointing=true compute.checkpointed_share=null", 128),
        (180, "", 128),
        (80, "compute.micro_batch_tokens=2048", 8),
        (80, "compute.micro_batch_tokens=65536", 256),
    ],
)
def test_an_update_on_a_card_is_what_fits_or_what_is_asked(card, gib, settings, rows):
    """Of 256 tokens a row, eager bf16 if not said; over 32,768 tokens are only taken if asked."""
    chosen = ["compute.precision=bf16", "compute.compile=off", *settings.split()]
    config = load_config(CONFIGS, overrides=chosen)
    found = load_by_rule(config.model, config.optimization, seq_len=256, device=card(gib))
    assert (found.rows, found.micro_rows) == (rows, rows)


OPEN_SHARE = "compute.gradient_checkpointing=true compute.checkpointed_share=null"
ASKED = "compute.micro_batch_tokens=16384"
NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    ("settings", "is_asked", "error", "tried", "ends"),
    [
        ("", False, NO_MEMORY, [(128, 64, 0), (64, 32, 0), (32, 16, 0)], False),
        (OPEN_SHARE, False, NO_MEMORY, [(128, 64, 1), (128, 64, 28), (64, 32, 1)], False),
        (f"{OPEN_SHARE} {ASKED}", False, NO_MEMORY, [(128, 64, 1), (128, 64, 28)], True),
        (ASKED, False, NO_MEMORY, [(128, 64, 0)], True),
        ("", True, NO_MEMORY, [(128, 64, 0)], True),
        ("", False, RuntimeError("another fault"), [(128, 64, 0)], True),
    ],
)
def test_a_card_with_less_room_than_by_arithmetic_is_timed_in_what_fits(
    card, monkeypatch, settings, is_asked, error, tried, ends
):
    """As one that draws a desktop too; what was asked for is an error instead."""
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    seen: list[tuple[int, int, int]] = []

    def figures(load: Workload, *, optimization: OptimizationConfig) -> str:
        blocks = optimization.compute.checkpointed_blocks(28)
        seen.append((load.rows, load.micro_rows, blocks))
        if ends or len(seen) < len(tried):
            raise error
        return "figures"

    monkeypatch.setattr(step_room, "measure_load", figures)
    config = load_config(CONFIGS, overrides=["compute.precision=bf16", *settings.split()])
    load = Workload(config.model, 256, 128, 64, card(48), torch.bfloat16)
    with pytest.raises(type(error)) if ends else nullcontext():
        timed, _ = measure_fitting(load, optimization=config.optimization, is_asked=is_asked)
        assert (timed.rows, timed.micro_rows) == tried[-1][:2]
    assert seen == tried


def test_an_update_on_a_cpu_has_2048_tokens():
    config = load_config(CONFIGS)
    cpu = torch.device("cpu")
    assert load_by_rule(config.model, config.optimization, seq_len=256, device=cpu).rows == 8


@pytest.mark.usefixtures("products_as_torch_has_them")
@pytest.mark.parametrize("part", [("optimizer",), ("step", "--seq_len", 32)], ids=lambda p: p[0])
def test_updates_are_timed_in_a_process_that_is_prepared_as_a_runs(call, world, part):
    model = world.root / "configs" / "model_config.yaml"
    place = ("--config_dir", world.root / "configs", "--model", model, *HERE)
    medium = "compute.float32_matmul_precision=medium"
    measured(call, *part, *place, "--steps", 1, "--set", medium)
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.filterwarnings("default")  # torch.compile warns about torch's own code
@pytest.mark.parametrize(("lengths", "recompiles"), [((4, 4, 4, 4), 0), ((4, 5, 4, 6), 2)])
def test_graphs_that_are_made_after_the_first_update_are_counted(lengths, recompiles):
    load = Workload(shape(), 8, 1, 1, torch.device("cpu"), torch.float32, steps=3, warmup=0)
    double = torch.compile(lambda x: 2 * x, backend="eager", dynamic=False)
    left = iter(lengths)
    run = StepRun("any", parameters=0, flops_per_token=0)
    time_steps(run, lambda _: double(torch.ones(next(left))).sum().item(), workload=load)
    assert run.recompiles == recompiles


def test_a_loader_is_read_at_every_stage_and_length(call, world):
    world.finish("run", "run", "--max_steps", "1")
    place = ("--config_dir", world.root / "configs", "--data", world.root / "run" / "data", *HERE)
    begins = tuple(
        f"{stage}: 2 x 2 batches of rows of {length} tokens"
        for stage in STAGES
        for length in (32, 64)
    )
    found = measured(call, "loader", *place, "--batches", 2, begins=begins)["loader"]
    assert [(one["stage"], one["seq_len"]) for one in found] == [
        (stage, length) for stage in STAGES for length in (32, 64)
    ]
    assert all(one["tokens_per_s"] > 0 and one["ms"] > 0 for one in found)


def test_the_tokenizer_encodes_real_text(call, monkeypatch):
    monkeypatch.setattr("yxanul.data.tokenizer.usable_cores", lambda: 64)
    found = measured(call, "tokenizer", "--documents", 40)
    assert (found["documents"], found["cores"]) == (40, 8)
    assert 2 < found["bytes"] / found["tokens"] < 6
    assert found["bytes_per_s"] / found["tokens_per_s"] == pytest.approx(
        found["bytes"] / found["tokens"]
    )


def test_every_optimizer_is_timed_with_its_state(call, world):
    model = world.root / "configs" / "model_config.yaml"
    place = ("--config_dir", world.root / "configs", "--model", model, *HERE)
    begins = tuple(f"{name}: 4 updates" for name in ("adamw", "adamw, not fused", "muon"))
    words = (*place, "--steps", 2)
    told = measured(call, "optimizer", *words, begins=begins)["optimizers"]
    found = {one["optimizer"]: one for one in told}
    assert list(found) == ["adamw", "adamw, not fused", "muon"]
    assert found["adamw"]["state_bytes"] == found["adamw, not fused"]["state_bytes"]
    assert found["muon"]["state_bytes"] < found["adamw"]["state_bytes"]
    assert all(one["ms"] > 0 for one in found.values())


def test_optimizers_are_timed_in_the_settings_of_the_configuration(call, world):
    model = world.root / "configs" / "model_config.yaml"
    words = ("--config_dir", world.root / "configs", "--model", model, *HERE, "--steps", 1)

    def sizes(*more: str) -> dict[str, int]:
        told = measured(call, "optimizer", *words, *more)["optimizers"]
        return {one["optimizer"]: one["state_bytes"] for one in told}

    even, plain = sizes(), sizes("--set", "optimizer.muon_beta2=null")
    assert even.pop("muon") > plain.pop("muon")  # how far each neuron moves is remembered
    assert even == plain


def test_no_model_and_no_optimizer_is_held_while_the_next_one_is_timed():
    held = []

    def count(_sentence: str) -> None:
        held.append(sum(type(one) in (Transformer, Optimizers) for one in gc.get_objects()))

    dtype = torch.float32
    ways = measure_optimizers(
        shape(), OptimizerConfig(), steps=1, device=CPU, dtype=dtype, say=count
    )
    gc.collect()
    gc.disable()  # a card's memory is not what makes Python look for circles
    try:
        assert len(list(ways)) == 3
    finally:
        gc.enable()
    assert held == 3 * held[:1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("step", "--seq_len", "100000"), "max_position_embeddings"),
        (("step", "--model", "none-such"), "none-such"),
        (("step", "--set", "compute.engine=deepspeed"), "in torch's engine; leave"),
        (("loader", "--data", "nowhere"), "nowhere"),
        (("tea",), "tea"),
    ],
)
def test_a_mistake_is_one_sentence(call, words, said):
    code, out, err = call("bench", *words)
    assert (code, out) == (30, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1, err
