"""A machine that has a card, as far as torch is asked what it has."""

import sys
import types

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
