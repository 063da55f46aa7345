"""A machine that has a card, as far as torch is asked what it has."""

import sys
import types
from pathlib import Path

import pytest
import torch

from yxanul.hardware import choices


def pretend(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], *, package: bool
) -> torch.device:
    """Make torch speak of a card, and Python of FlashAttention 3's package or its absence."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91900)
    found = object() if package else None
    monkeypatch.setattr(choices, "find_spec", lambda _name: found)
    monkeypatch.setitem(sys.modules, choices.FLASH3_MODULE, types.ModuleType("stand-in"))
    return torch.device("cuda", 0)


def foreign(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Make torch speak of a card of an architecture that it was not built for."""
    device = pretend(monkeypatch, (7, 0), package=False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "compute_120"])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Tesla V100")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    properties = types.SimpleNamespace(name="Tesla V100", total_memory=16 << 30, major=7, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: properties)
    return device


TOO_OLD = "The NVIDIA driver on your system is too old (found version 11040). Please update it."
MISSING = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU."
NOT_UP = "Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized"


def unused(
    monkeypatch: pytest.MonkeyPatch, devices: Path, *, card: str = "nvidia0", said: str = ""
) -> None:
    """Let a driver show a card in that folder, which torch does not use.

    CUDA says why; nothing, if torch is a build without it.
    """

    def refuse() -> None:
        raise RuntimeError(said)

    devices.mkdir()
    (devices / card).touch()
    monkeypatch.setattr(choices, "_DEVICES", devices)
    monkeypatch.setattr(torch.version, "cuda", "13.0" if said else None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", refuse)
    monkeypatch.delenv(choices.HIDING, raising=False)


def dying(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Make torch count a card that does not start, and say so in its own words."""

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA driver initialization failed, you might not have a CUDA gpu.")

    device = foreign(monkeypatch)
    for use in ("get_device_capability", "get_device_name", "is_bf16_supported"):
        monkeypatch.setattr(torch.cuda, use, refuse)
    return device
