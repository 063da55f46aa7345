"""The doctor's rows about a card, which only a card can make: run with `pytest -m gpu`."""

import pytest
import torch

from yxanul.config.schema import ComputeConfig, OptimizationConfig
from yxanul.hardware.doctor import ROWS, examine

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA card"),
]


@pytest.mark.parametrize("attention", ["auto", "plain", "sdpa", "flash"])
def test_every_row_is_told_of_a_card(attention):
    wish = OptimizationConfig(compute=ComputeConfig(attention=attention))
    diagnosis = examine(wish, (), device=torch.device("cuda", 0), processes=1)
    rows = {feature.name: feature for feature in diagnosis.features}
    assert len(rows) == len(ROWS)
    assert torch.cuda.get_device_name(0) in rows["device"].reason
    assert rows["CUDA"].state == "active"
    assert rows["attention"].state == "active"
    kernel = rows["pinned attention kernel"]
    assert kernel.state == ("active" if attention == "flash" else "available")
    assert (kernel.choice == "auto") == (attention == "auto")  # a run's first start times them
    assert diagnosis.rates == {}
