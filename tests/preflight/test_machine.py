"""The measuring program: by itself, as two ranks, refused and too late."""

import signal
import sysconfig
from pathlib import Path

import pytest
import torch

from tests.train.world import write_configs
from yxanul.bench.step import StepFigures
from yxanul.bench.workload import Workload
from yxanul.config.load import dump_config, load_config
from yxanul.errors import InfrastructureError, UsageError
from yxanul.hardware import compiler as compiler_room
from yxanul.parallel.processes import ALONE
from yxanul.plan.flops import flops_per_token
from yxanul.preflight import flight, machine, measuring
from yxanul.preflight.machine import look_at_compiling, look_at_features, measure_apart
from yxanul.preflight.measuring import main, measure, measured_lengths
from yxanul.train.setup import prepare_process

CONFIGS = Path(__file__).parents[2] / "configs"


def tiny(tmp_path: Path, *overrides: str):
    place = write_configs(tmp_path / "configs")
    return load_config(place, overrides=["data.source=texts", *overrides])


def test_updates_are_timed_at_the_shortest_and_at_the_longest_sequences(tmp_path):
    config = tiny(tmp_path)
    found = measure(config, ALONE, device=torch.device("cpu"))
    assert [rate.seq_len for rate in found.rates] == measured_lengths(config) == [32, 64]
    assert (found.processes, found.bus_bytes_per_s, found.slow) == (1, None, ())
    assert (found.compiled, found.fp8) == ("off", "off")
    for rate in found.rates:
        assert rate.pass_tokens_per_s > rate.tokens_per_s > 0
        assert rate.optimizer_s > 0
        assert rate.flops_per_token == flops_per_token(config.model, rate.seq_len)
        assert rate.mfu > 0


@pytest.mark.parametrize(
    ("batch_tokens", "ranks", "timed", "each"),
    [(8192, 1, 4096, 2048), (8192, 4, 2048, 2048), (8192, 8, 1024, 1024), (524_288, 8, 4096, 2048)],
)
def test_updates_are_as_large_as_the_runs_or_of_two_passes(batch_tokens, ranks, timed, each):
    """By the rule of a CPU a pass has 2,048 tokens."""
    config = load_config(CONFIGS, overrides=[f"training.batch_tokens={batch_tokens}"])
    cpu = torch.device("cpu")
    load = measuring.planned_load(config, 512, processes=ranks, device=cpu)
    assert (load.tokens, load.micro_tokens) == (timed, each)
    longest = measuring.planned_load(config, 4096, processes=ranks, device=cpu)
    assert longest.micro_rows == 1  # at least one row
    assert longest.rows == min(2, max(1, batch_tokens // ranks // 4096))


def test_what_more_passes_than_two_would_do_is_told_of_them(monkeypatch):
    """Two passes take 0.6 s, the optimizer's step 0.4 s, and an update of 8 passes pays it once."""

    def figures(load: Workload, **_settings) -> StepFigures:
        return StepFigures(
            "any", 1, "any", load.seq_len, load.micro_rows, "fp32", "plain", "off", "off", "adamw",
            first_s=1.0, optimizer_s=0.4, tokens_per_s=load.tokens, flops_per_token=1,
            gemm_flops=1.0, mfu=0.25, peak_bytes=None, recompiles=None,
        )  # fmt: skip

    monkeypatch.setattr(measuring, "measure_load", figures)
    config = load_config(CONFIGS, overrides=["training.batch_tokens=16384"])
    rate = measure(config, ALONE, device=torch.device("cpu")).rates[0]
    assert rate.optimizer_s == 0.4
    assert rate.pass_tokens_per_s == pytest.approx(4096 / 0.6)
    assert rate.tokens_per_s == pytest.approx(16_384 / (4 * 0.6 + 0.4))
    assert rate.mfu == pytest.approx(0.25 * rate.tokens_per_s / 4096)


def test_a_setting_that_cannot_run_here_is_said_by_whoever_measures(tmp_path):
    config = tiny(tmp_path, "compute.attention=flash")
    with pytest.raises(UsageError, match=r"compute\.attention=flash needs a CUDA card"):
        measure_apart(config, processes=1, limit_s=600)


def test_whoever_measures_too_long_is_ended(tmp_path):
    with pytest.raises(InfrastructureError, match="no step was measured within 1 s"):
        measure_apart(tiny(tmp_path), processes=1, limit_s=1)


@pytest.mark.parametrize(("compiled", "limit_s"), [("model", 300), ("block", 90), ("auto", 90)])
def test_a_whole_model_gets_the_time_that_its_compiling_takes(tmp_path, compiled, limit_s):
    assert flight._measuring_s(tiny(tmp_path, f"compute.compile={compiled}")) == limit_s


@pytest.mark.parametrize("compiled", ["model", "block"])
def test_where_compiling_took_the_time_away_the_quicker_way_is_named(
    tmp_path, monkeypatch, compiled
):
    monkeypatch.setattr(machine, "_run", lambda *_: "was ended")
    with pytest.raises(InfrastructureError, match="no step was measured within 0 s") as told:
        measure_apart(tiny(tmp_path, f"compute.compile={compiled}"), processes=1, limit_s=0)
    assert ("set compute.compile=block" in str(told.value)) == (compiled == "model")


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
    found = [look_at_features(shared, processes=n) for n in (1, 2)]
    assert [one.value["missing"] for one in found] == [["ZeRO-1"], []]
    assert ["not active: ZeRO-1 (one process" in one.why for one in found] == [True, False]


@pytest.mark.parametrize("name", ["nvidia0", "nvidia3", "nvidia12"])
def test_a_card_that_torch_does_not_use_is_a_failure(tmp_path, monkeypatch, name):
    """A container may have been given any of a machine's cards."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a card that torch uses")
    devices = tmp_path / "dev"
    devices.mkdir()
    monkeypatch.setattr(machine, "_DEVICES", devices)
    (devices / "nvidiactl").touch()  # the driver's own
    asked = tiny(tmp_path, "compute.zero1=true")
    assert look_at_features(asked, processes=1).state == "warn"
    (devices / name).touch()
    found = look_at_features(asked, processes=1)
    assert (found.state, found.code) == ("fail", UsageError.exit_code)
    assert f"there is a card ({devices / name}), and torch does not use it" in found.why
    assert "asked for and not active: ZeRO-1" in found.why


@pytest.mark.parametrize(("compiler", "state"), [(None, "warn"), ("/usr/bin/gcc", "pass")])
def test_compiling_that_a_card_lost_by_rule_is_a_warning(monkeypatch, tmp_path, compiler, state):
    """Nobody asked for it by name, so no wish is missing, and the step is slower."""
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda _name, _scheme: str(tmp_path))
    monkeypatch.setattr(compiler_room, "find_spec", lambda _name: object())
    monkeypatch.setattr(compiler_room, "c_compiler", lambda: compiler)
    monkeypatch.setattr(machine, "pick_device", lambda: torch.device("cuda", 0))
    found = look_at_compiling()
    assert found.state == state
    assert ("1.6 times" in found.why) == ("install gcc" in found.why) == (state == "warn")
