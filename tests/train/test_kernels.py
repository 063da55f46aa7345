"""Which attention kernels are timed at the start of a run on a card, and which one is taken."""

from types import SimpleNamespace
from typing import cast

import pytest
import torch

from tests.hardware.cards import pretend
from tests.model.tiny import shape
from yxanul.config.schema import ComputeConfig
from yxanul.hardware.choices import settle_compute
from yxanul.parallel.processes import ALONE
from yxanul.train.probing import kernels, timing
from yxanul.train.processes.machine import Machine


@pytest.mark.parametrize(
    ("wish", "has_version_3", "timed"),
    [
        ({}, True, ["cudnn", "flash", "flash3"]),
        ({}, False, ["cudnn", "flash"]),
        ({"flash_attention_3": False}, True, ["cudnn", "flash"]),
        ({"document_masking": True}, True, ["flash", "flash3"]),
        ({"document_masking": True}, False, ["flash"]),
        ({"flash_attention_3": True}, True, []),
        ({"attention": "efficient"}, True, []),
        ({"precision": "fp32"}, True, []),
    ],
)
def test_what_the_card_can_run_and_the_wish_leaves_open_is_timed(
    monkeypatch, wish, has_version_3, timed
):
    hopper = pretend(monkeypatch, (9, 0), package=has_version_3)
    asked = ComputeConfig(**{"precision": "bf16", **wish})
    tried: dict[str, int | None] = {}

    def attention_ms(name: str, *_args, document_tokens: int | None, **_more):
        tried[name] = document_tokens
        return 0.5, 9.0 - len(tried)

    monkeypatch.setattr(kernels, "attention_ms", attention_ms)
    found = settle_compute(asked, hopper, longest_seq_len=512)
    chosen = kernels.time_kernels(
        asked, found, shape=shape(), seq_len=512, machine=standing_in(hopper, said=[])
    )
    assert list(tried) == timed
    assert set(tried.values()) <= {512 if asked.document_masking else None}
    assert chosen.attention == (timed[-1] if timed else found.attention)
    ComputeConfig.model_validate(chosen.model_dump())


def standing_in(device: torch.device, *, said: list[str]) -> Machine:
    voice = SimpleNamespace(say=said.append)
    return cast("Machine", SimpleNamespace(device=device, processes=ALONE, progress=voice))


def test_a_kernel_that_cannot_be_loaded_is_told_and_left_out(monkeypatch):
    times = {"cudnn": 3.0, "flash": 2.0, "flash3": 1.0}

    def attention_ms(name: str, *_args, **_more) -> tuple[float, float]:
        if name == "flash3":
            raise ImportError("libcudart.so.13: cannot open shared object file")
        return 0.5, times[name]

    monkeypatch.setattr(kernels, "attention_ms", attention_ms)
    told: list[str] = []
    machine = standing_in(torch.device("cpu"), said=told)
    kernel = kernels.fastest_kernel(list(times), shape(), seq_len=64, machine=machine)
    assert kernel == "flash"
    assert told == [
        "attention kernel flash3: libcudart.so.13: cannot open shared object file",
        "attention over 64 tokens, forward and backward: cudnn 3.00 ms, flash 2.00 ms",
    ]


def test_a_row_longer_than_what_a_kernel_is_timed_on_is_timed_alone(monkeypatch):
    """Of none of it no kernel could be run, and the slowest would be left."""
    monkeypatch.setattr(timing, "TIMED_TOKENS", 8)
    made: list[torch.Size] = []

    def milliseconds(work) -> float:
        found = work()
        made.extend(part.shape for part in ([found] if isinstance(found, torch.Tensor) else found))
        return 1.0

    monkeypatch.setattr(timing, "milliseconds", milliseconds)
    size = shape()
    timing.attention_ms("plain", size, seq_len=16, device=torch.device("cpu"), document_tokens=4)
    heads = (size.num_attention_heads, 16, size.head_dim)
    assert made[0] == (1, *heads)
    assert made[1:] == 3 * [torch.Size([1, 16, size.num_attention_heads, size.head_dim])]
