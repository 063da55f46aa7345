"""One table of peaks, and no name of a device is taken for another card's."""

import re

import pytest

from yxanul.cards import CARDS, card_of_device


@pytest.mark.parametrize(
    ("device", "card"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA A100-PCIE-40GB", "A100-40GB"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100-PCIe"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
    ],
)
def test_a_device_is_known_by_its_name(device, card):
    found = card_of_device(device)
    assert found is not None
    assert found.name == card


@pytest.mark.parametrize(
    "device",
    [
        "NVIDIA H100 NVL",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "NVIDIA GH200 480GB",
        "NVIDIA GB200",
        "NVIDIA L40",
        "NVIDIA A10",
        "Tesla T4",
        "",
    ],
)
def test_a_sister_or_a_slice_of_a_card_is_unknown_and_never_guessed(device):
    assert card_of_device(device) is None


def test_names_are_single_words_without_a_count():
    names = [card.name for card in CARDS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", name) for name in names)


def test_peaks_are_dense_and_in_flops_per_second():
    for card in CARDS:
        assert 50e12 < card.dense_bf16_flops < 3e15
        assert card.memory_bytes is None or 20e9 < card.memory_bytes < 200e9
