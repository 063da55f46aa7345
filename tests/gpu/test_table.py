"""The card's table on a card: each of its sections has a row that can be measured."""

import time
from dataclasses import replace
from itertools import islice

import pytest
import torch

from benchmarks.card.section import Conditions, History, Report
from benchmarks.gpu import card_sections
from yxanul.config.schema import ComputeConfig
from yxanul.hardware.choices import fp8_obstacle

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA card"),
]
SECTIONS = {section.name: section for section in card_sections("nano", every=False)}


@pytest.mark.filterwarnings("default")  # torch.compile warns about torch's own code
@pytest.mark.parametrize("name", SECTIONS)
def test_the_first_row_of_a_section_is_measured(name, tmp_path):
    obstacle = fp8_obstacle(ComputeConfig(fp8="blocks"), torch.device("cuda", 0))
    if name == "fp8" and obstacle is not None:
        pytest.skip(f"FP8 {obstacle}")
    section = SECTIONS[name]
    first = replace(section, rows=lambda: islice(section.rows(), 1))
    report = Report(time.monotonic() + 600, History(tmp_path, Conditions("nano")))
    report.measure(first)
    (row,) = report.sections[0]["rows"]
    assert not row.keys() & {"failed", "not measured"}, row
    assert report.faults() == []
