"""A micro-batch is the largest that fits, for all processes alike."""

import errno
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from tests.model.tiny import shape
from yxanul.config.load import load_config
from yxanul.config.schema import ComputeConfig, OptimizationConfig
from yxanul.errors import UsageError
from yxanul.hardware.choices import freeze_compute
from yxanul.hardware.memory import is_out_of_memory
from yxanul.model.transformer import Transformer
from yxanul.parallel.processes import ALONE
from yxanul.plan.memory import CARD_SHARE, memory
from yxanul.train.probing import probes
from yxanul.train.probing.probes import (
    first_tokens,
    largest_that_fits,
    least_that_fits,
    times_of,
    trial_passes,
    trial_update,
    worth_rounding,
)
from yxanul.train.processes.machine import Machine

CPU = torch.device("cpu")
CONFIGS = Path(__file__).parents[2] / "configs"

BYTES_PER_TOKEN = 1000
_NO_HANDLE = "CUBLAS_STATUS_NOT_INITIALIZED"


def need(tokens: int) -> float:
    return BYTES_PER_TOKEN * tokens


def alone(flag: bool) -> bool:
    return flag


@pytest.mark.parametrize(
    ("limit", "found"),
    [(32768, 32768), (32767, 16384), (8192, 8192), (4096, 4096), (2048, 2048)],
)
def test_halves_are_tried_until_one_fits_and_one_sequence_is_the_last(limit, found):
    tried = largest_that_fits(
        32768, need, limit=limit * BYTES_PER_TOKEN, smallest=2048, agree=alone
    )
    assert tried == found


@pytest.mark.parametrize(
    ("first", "tries"),
    [(24_576, [24_576, 12_288, 4096]), (30_000, [28_672, 12_288, 4096]), (8191, [4096])],
)
def test_what_is_tried_is_whole_sequences(first, tries):
    tried = []

    def need(tokens: int) -> float:
        tried.append(tokens)
        return tokens

    assert largest_that_fits(first, need, limit=4096, smallest=4096, agree=alone) == 4096
    assert tried == tries


@pytest.mark.parametrize("advice", ["compute.gradient_checkpointing=true", None])
def test_less_than_one_sequence_is_refused_in_one_sentence(advice):
    with pytest.raises(UsageError, match="one sequence of 4,096 tokens does not fit") as told:
        largest_that_fits(
            32768,
            need,
            limit=4095 * BYTES_PER_TOKEN,
            smallest=4096,
            agree=alone,
            advice=advice,
        )
    assert f"to spare: {f'set {advice}, ' if advice else ''}shorten training" in str(told.value)


def test_too_much_for_another_process_is_too_much():
    others = iter([True, True, False])
    tried = largest_that_fits(
        32768, need, limit=1e12, smallest=512, agree=lambda mine: mine or next(others)
    )
    assert tried == 8192


def test_a_first_try_is_at_least_one_sequence():
    assert largest_that_fits(1024, need, limit=1e12, smallest=4096, agree=alone) == 4096


CARDS = [
    ("compute.compile=block", 24, 1, 32_768),
    ("compute.gradient_checkpointing=true", 24, 1, 65_536),
    ("compute.compile=block", 80, 8, 65_536),
    ("training.batch_tokens=8192", 80, 1, 8192),
    ("training.batch_tokens=32768", 80, 2, 16_384),
    ("compute.compile=block", 1, 1, 8192),
]


@pytest.mark.parametrize(("switch", "gib", "ranks", "first"), CARDS)
def test_the_first_try_is_more_than_fits_or_all_that_a_step_takes(switch, gib, ranks, first):
    config = load_config(CONFIGS, overrides=[switch])
    told = {"seq_len": 4096, "card_bytes": gib * 2**30, "processes": ranks}
    assert first_tokens(config, **told) == first


def test_a_card_of_24_gb_ends_at_what_the_plan_says_in_two_trials():
    config = load_config(CONFIGS, overrides=["compute.compile=block"])
    tried = []

    def need(tokens: int) -> float:
        tried.append(tokens)
        return memory(config, micro_batch_tokens=tokens).total

    first = first_tokens(config, seq_len=4096, card_bytes=24 * 2**30, processes=1)
    find = partial(largest_that_fits, first, need, smallest=4096, agree=alone)
    assert find(limit=CARD_SHARE * 24 * 2**30) == 16_384
    assert tried == [32_768, 16_384]


@pytest.mark.parametrize(
    ("ffn", "blocks", "best"),
    [(90.0, 80.0, "blocks"), (85.0, 88.0, "ffn"), (98.0, 99.0, "off"), (110.0, 120.0, "off")],
)
def test_fp8_is_taken_where_it_is_faster_by_more_than_noise(ffn, blocks, best):
    assert worth_rounding({"off": 100.0, "ffn": ffn, "blocks": blocks}) == best


def compute(**choices) -> ComputeConfig:
    wish = ComputeConfig(precision="fp32", compile="off", **choices)
    return freeze_compute(wish, CPU, longest_seq_len=16)


@pytest.mark.parametrize(("tokens", "passes"), [(64, 2), (127, 2), (128, 1), (200, 1)])
def test_a_trial_has_a_second_pass_where_the_run_has_one(tokens, passes):
    assert trial_passes(tokens, 128, processes=1) == passes


def test_a_trial_for_several_processes_holds_gradients_through_a_pass_as_their_buckets_do():
    assert trial_passes(128, 128, processes=8) == 2


@pytest.mark.parametrize("passes", [1, 2])
def test_an_update_of_a_trial_holds_gradients_through_later_passes_as_a_run_does(passes):
    held: list[bool] = []

    def look(module, inputs):
        if isinstance(module, Transformer):
            assert inputs[0].shape == (4, 16)
            held.append(module.embed_tokens.weight.grad is not None)

    optimization = OptimizationConfig(compute=compute(micro_batch_tokens=64))
    update = trial_update(shape(), optimization, seq_len=16, device=CPU, passes=passes)
    hook = register_module_forward_pre_hook(look)
    try:
        update()
        update()
    finally:
        hook.remove()
    assert held == 2 * [number > 0 for number in range(passes)]


def test_a_part_that_fails_is_told_with_its_reason_and_left_out():
    def time(part: str) -> float:
        if part == "ffn":
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")
        if part == "blocks":
            raise RuntimeError("_scaled_mm is only supported on other cards")
        return 100.0

    said: list[str] = []
    times = times_of(("off", "ffn", "blocks"), time, agree=alone, say=said.append)
    assert times == {"off": 100.0}
    assert said == [
        "FP8 in ffn is left out: OutOfMemoryError: CUDA out of memory.",
        "FP8 in blocks is left out: RuntimeError: _scaled_mm is only supported on other cards",
    ]
    assert worth_rounding(times) == "off"


def test_a_part_that_fails_on_another_process_is_left_out_by_all():
    others = iter([False, True, False])
    said: list[str] = []
    times = times_of(
        ("off", "ffn", "blocks"),
        {"off": 100.0, "ffn": 10.0, "blocks": 90.0}.__getitem__,
        agree=lambda mine: mine or next(others),
        say=said.append,
    )
    assert times == {"off": 100.0, "blocks": 90.0}
    assert said == ["FP8 in ffn is left out: it fails on another process"]


def test_without_the_time_of_no_rounding_nothing_is_rounded():
    assert worth_rounding({"ffn": 1.0}) == "off"
    assert worth_rounding({}) == "off"


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("whatever it says"), True),
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),  # of fork, or of a map of a file
        (OSError(errno.EIO, "Input/output error"), False),
        (RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA"), True),
        (RuntimeError("CUDA driver error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"), True),
        (RuntimeError(f"CUDA error: {_NO_HANDLE} when calling `cublasCreate(handle)`"), True),
        (RuntimeError(f"CUDA error: {_NO_HANDLE} when calling `cublasSgemm(handle, opa)`"), False),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("out of resource: shared memory, Required: 294912"), False),
    ],
)
def test_memory_that_is_not_there_is_known_by_class_or_words(error, is_memory):
    assert is_out_of_memory(error) == is_memory


@pytest.mark.parametrize(("spare", "found"), [(27, 1), (20, 8), (1, 27), (0, 28), (-1, 28)])
def test_as_few_blocks_are_recomputed_as_make_it_fit(spare, found):
    """28 blocks of which each that is recomputed frees one part of memory."""
    tried = []

    def need(blocks: int) -> float:
        tried.append(blocks)
        return 28.0 - blocks

    assert least_that_fits(28, need, limit=spare, agree=alone) == found
    assert len(tried) <= 5


def stand_in(processes=ALONE, *, said: list[str]) -> Machine:
    voice = SimpleNamespace(say=said.append)
    return cast("Machine", SimpleNamespace(device=CPU, processes=processes, progress=voice))


@pytest.mark.parametrize(
    ("gib", "wish", "tokens", "blocks"),
    [
        (24, {}, 16_384, 1),
        (80, {}, 65_536, 1),
        (16, {}, 16_384, 12),
        (6.6, {}, 8192, 28),
        (24, {"micro_batch_tokens": 32_768}, 32_768, 13),
        (24, {"checkpointed_share": 1.0}, 65_536, 28),
    ],
)
def test_blocks_are_recomputed_for_no_more_than_a_micro_batch_has_to_have(
    monkeypatch, gib, wish, tokens, blocks
):
    """By the plan's arithmetic of the flagship; 32,768 tokens without recomputing need 37 GiB."""
    asked = ["compute.gradient_checkpointing=true", "compute.compile=block"]
    config = load_config(CONFIGS, overrides=[*asked, "compute.precision=bf16"])
    open_ = {"micro_batch_tokens": None, "checkpointed_share": None, **wish}
    compute = config.optimization.compute.model_copy(update=open_)
    settled = compute.model_copy(update={"checkpointed_share": wish.get("checkpointed_share", 1.0)})

    def planned(_shape, optimization: OptimizationConfig, **_place) -> float:
        return memory(probes.with_compute(config, optimization.compute)).total

    monkeypatch.setattr(probes, "trial_bytes", planned)
    monkeypatch.setattr(probes, "memory_bytes", lambda _device: int(gib * 2**30))
    said: list[str] = []
    found = probes._fitted(compute, settled, cards=probes._Cards(config, 4096, stand_in(said=said)))
    assert found.micro_batch_tokens == tokens
    assert found.checkpointed_blocks(28) == blocks
    told = [f"a forward pass of {tokens:,} tokens fits the card, as tried"]
    told += [f"{blocks} of 28 blocks are recomputed, as tried"]
    assert said == [line for line, key in zip(told, open_, strict=True) if key not in wish]


def test_a_cublas_that_gives_no_handle_on_an_empty_card_is_no_trial_that_does_not_fit(monkeypatch):
    def no_handle() -> int:
        raise RuntimeError(f"CUDA error: {_NO_HANDLE} when calling `cublasCreate(handle)`")

    monkeypatch.setattr(torch.cuda, "device", lambda _device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_blas_handle", no_handle)
    config = load_config(CONFIGS)
    card = SimpleNamespace(device=torch.device("cuda", 0))
    with pytest.raises(RuntimeError, match=_NO_HANDLE):
        probes.probe_card(compute(), config, seq_len=64, machine=cast("Machine", card))


class Votes:
    """Two processes, of which the other one always says `other`."""

    world_size = 2

    def __init__(self, *, other: bool) -> None:
        self.other, self.asked = other, []

    def anyone(self, flag: bool, device: torch.device) -> bool:
        self.asked.append(flag)
        return flag or self.other


@pytest.mark.parametrize(
    ("obstacle", "other", "told"),
    [
        (None, True, "FP8 is off: another process cannot have it"),
        ("needs another card", False, "FP8 is off: it needs another card"),
        ("needs another card", True, "FP8 is off: it needs another card"),
    ],
)
def test_what_one_process_cannot_round_no_process_times(monkeypatch, obstacle, other, told):
    """Else the others would wait for it in an exchange that it never comes to."""
    monkeypatch.setattr(probes, "fp8_obstacle", lambda *_: obstacle)
    said: list[str] = []
    votes = Votes(other=other)
    cards = probes._Cards(load_config(CONFIGS), 64, stand_in(votes, said=said))
    found = probes._fastest_fp8(compute(), cards=cards)
    assert (found, said, votes.asked) == ("off", [told], [obstacle is not None])
