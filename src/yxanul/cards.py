"""The GPUs that the program knows by name: peak rate and memory, from NVIDIA's data sheets.

One table for two rooms: the planner divides work by these peaks before a run, the engine divides by
the same peaks to say what MFU a run reaches. A card that is not here is unknown, never guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

GB = 10**9


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU: dense bf16 FLOP/s with fp32 accumulation (never with sparsity), memory in bytes.

    `device` is a pattern of the name that CUDA reports, empty for a machine outside the table.
    `memory_bytes` is None where one name is sold with several sizes, or it is not known.
    """

    name: str
    device: str
    dense_bf16_flops: float
    memory_bytes: int | None


# The first pattern that fits counts.
CARDS = (
    Card("A100-40GB", r"A100.*\b40GB", 312e12, 40 * GB),
    Card("A100-80GB", r"A100.*\b80GB", 312e12, 80 * GB),
    Card("H100-PCIe", r"H100 PCIe", 756e12, 80 * GB),
    Card("H100", r"H100", 989e12, 80 * GB),
    Card("H200", r"H200", 989e12, 141 * GB),
    Card("B200", r"B200", 2250e12, None),
    Card("L40S", r"L40S", 362e12, 48 * GB),
    Card("RTX-5090", r"RTX 5090", 210e12, 32 * GB),
    Card("RTX-4090", r"RTX 4090", 165e12, 24 * GB),
    Card("RTX-3090", r"RTX 3090", 71e12, 24 * GB),
)

# A slice of a card, or a sister of another speed under almost the same name: H100 NVL, RTX 3090 Ti.
_OTHER = re.compile(r"\b(MIG|NVL|Ti|D|Laptop)\b", re.IGNORECASE)


def card_of_device(device_name: str) -> Card | None:
    """Return the card that CUDA calls `device_name`, in capitals or not; None: it is not known."""
    if _OTHER.search(device_name):
        return None
    return next((card for card in CARDS if re.search(rf"(?i)\b{card.device}\b", device_name)), None)
