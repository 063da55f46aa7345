"""The measuring program: by itself, as two ranks, refused and too late."""

import signal
from pathlib import Path

import pytest
import torch

from tests.train.world import write_configs
from yxanul.config.load import dump_config, load_config
from yxanul.errors import InfrastructureError, UsageError
from yxanul.parallel.processes import ALONE
from yxanul.plan.flops import flops_per_token
from yxanul.preflight import machine
from yxanul.preflight.machine import look_at_features, measure_apart
from yxanul.preflight.measuring import main, measure, measured_lengths
from yxanul.train.setup import prepare_process


def tiny(tmp_path: Path, *overrides: str):
    place = write_configs(tmp_path / "configs")
    return load_config(place, overrides=["data.source=texts", *overrides])


def test_updates_are_timed_at_the_shortest_and_at_the_longest_sequences(tmp_path):
    config = tiny(tmp_path)
    found = measure(config, ALONE, device=torch.device("cpu"))
    assert [rate.seq_len for rate in found.rates] == measured_lengths(config) == [32, 64]
    assert (found.processes, found.bus_bytes_per_s, found.slow) == (1, None, ())
    for rate in found.rates:
        assert rate.tokens_per_s > 0
        assert rate.flops_per_token == flops_per_token(config.model, rate.seq_len)
        assert rate.mfu > 0


def test_a_setting_that_cannot_run_here_is_said_by_whoever_measures(tmp_path):
    config = tiny(tmp_path, "compute.attention=flash")
    with pytest.raises(UsageError, match=r"compute\.attention=flash needs a CUDA card"):
        measure_apart(config, processes=1, limit_s=600)


def test_whoever_measures_too_long_is_ended(tmp_path):
    with pytest.raises(InfrastructureError, match="no step was measured within 1 s"):
        measure_apart(tiny(tmp_path), processes=1, limit_s=1)


@pytest.mark.usefixtures("products_as_torch_has_them")
def test_products_are_as_configured_where_something_is_timed(tmp_path, monkeypatch):
    medium, keep = "compute.float32_matmul_precision=medium", "compute.keep_freed_memory=false"
    request = tmp_path / "config.yaml"
    request.write_text(dump_config(tiny(tmp_path, medium, keep)))
    monkeypatch.setattr(signal, "alarm", lambda _seconds: 0)  # it would end this process
    assert main([str(request), str(tmp_path / "answer.json"), "600"]) == 0
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.usefixtures("products_as_torch_has_them")
def test_products_are_as_configured_before_a_run_probes_its_card(tmp_path):
    high, keep = "compute.float32_matmul_precision=high", "compute.keep_freed_memory=false"
    assert prepare_process(tiny(tmp_path, high, keep)) == "off"
    assert torch.get_float32_matmul_precision() == "high"


@pytest.mark.slow
def test_two_processes_measure_their_bus_and_the_slower_counts(tmp_path):
    found = measure_apart(tiny(tmp_path), processes=2, limit_s=600)
    assert found.processes == 2
    assert found.bus_bytes_per_s > 1e6


def test_a_machine_without_a_card_is_told(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a card")
    found = look_at_features(tiny(tmp_path), processes=1)
    assert found.state == "warn"
    assert "no card is used" in found.why
    assert "CUDA" in found.why


def test_features_are_judged_for_as_many_processes_as_will_train(tmp_path):
    shared = tiny(tmp_path, "compute.zero1=true")
    missing = [look_at_features(shared, processes=n).value["missing"] for n in (1, 2)]
    assert missing == [["ZeRO-1"], []]


def test_a_card_that_torch_does_not_use_is_a_failure(tmp_path, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("this machine has a card that torch uses")
    card = tmp_path / "nvidia0"
    card.touch()
    monkeypatch.setattr(machine, "_CARD", card)
    found = look_at_features(tiny(tmp_path), processes=1)
    assert (found.state, found.code) == ("fail", UsageError.exit_code)
    assert "torch does not use it" in found.why
