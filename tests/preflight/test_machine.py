"""The measuring program: by itself, as two ranks, refused and too late."""

import json
import signal
import sys
import sysconfig
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.hardware.cards import NOT_UP, foreign, pretend, unused
from tests.train.world import write_configs
from yxanul.bench import step as step_room
from yxanul.bench.step import StepFigures
from yxanul.bench.updates import settled
from yxanul.bench.workload import Workload
from yxanul.config.load import dump_config, load_config
from yxanul.config.schema import OptimizationConfig
from yxanul.errors import InfrastructureError, UsageError
from yxanul.hardware import compiler as compiler_room
from yxanul.parallel.processes import ALONE
from yxanul.plan.flops import flops_per_token
from yxanul.plan.memory import CARD_SHARE, Update, update_memory
from yxanul.preflight import flight, machine, measuring
from yxanul.preflight.finding import Check, Finding
from yxanul.preflight.machine import look_at_compiling, look_at_features, measure_apart
from yxanul.preflight.measuring import main, measure, measured_lengths
from yxanul.train.running.setup import prepare_process

CPU, CARD = torch.device("cpu"), torch.device("cuda", 0)
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
            threads=2, checkpointed_blocks=0, first_s=1.0, optimizer_s=0.4,
            tokens_per_s=load.tokens, flops_per_token=1,
            gemm_flops=1.0, mfu=0.25, peak_bytes=None, recompiles=None,
        )  # fmt: skip

    monkeypatch.setattr(step_room, "measure_load", figures)
    config = load_config(CONFIGS, overrides=["training.batch_tokens=16384"])
    rate = measure(config, ALONE, device=torch.device("cpu")).rates[0]
    assert rate.optimizer_s == 0.4
    assert rate.pass_tokens_per_s == pytest.approx(4096 / 0.6)
    assert rate.tokens_per_s == pytest.approx(16_384 / (4 * 0.6 + 0.4))
    assert rate.mfu == pytest.approx(0.25 * rate.tokens_per_s / 4096)


def recomputing(*overrides: str):
    """Return the flagship's configuration with an open share of recomputed blocks."""
    asked = ["compute.gradient_checkpointing=true", "compute.checkpointed_share="]
    asked += ["compute.precision=bf16", "compute.compile=off"]
    return load_config(CONFIGS, overrides=[*asked, *overrides])


@pytest.mark.parametrize(
    ("gib", "more"),
    [(141, []), (24, ["compute.micro_batch_tokens=32768"]), (1, [])],
    ids=["one block", "some", "all"],
)
def test_of_an_open_share_as_few_blocks_are_recomputed_as_fit_the_card(monkeypatch, gib, more):
    """All of them, at half the rate, were taken for what the run would do."""
    pretend(monkeypatch, (9, 0), package=False)
    held = SimpleNamespace(total_memory=gib * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: held)
    config = recomputing(*more)
    load = measuring.planned_load(config, 4096, processes=1, device=CARD)
    settings = settled(config.optimization, load)

    def fits(blocks: int) -> bool:
        compute = settings.compute.model_copy(update={"checkpointed_share": blocks / 28})
        tried = settings.model_copy(update={"compute": compute})
        update = Update(load.micro_tokens, 4096, accumulates=load.micro_rows < load.rows)
        return update_memory(load.model, tried, update=update).total <= CARD_SHARE * gib * 2**30

    blocks = settings.compute.checkpointed_blocks(28)
    assert blocks == next((n for n in range(1, 28) if fits(n)), 28)
    assert (blocks == 1, blocks == 28) == (gib == 141, gib == 1)


@pytest.mark.parametrize(
    ("share", "error", "tried"),
    [
        ("", torch.OutOfMemoryError("CUDA out of memory"), [1, 28]),
        ("", RuntimeError("another fault"), [1]),
        ("0.5", torch.OutOfMemoryError("CUDA out of memory"), [14]),
    ],
    ids=["no memory", "another error", "as asked"],
)
def test_where_as_few_blocks_as_fit_by_arithmetic_do_not_fit_all_are_recomputed(
    monkeypatch, share, error, tried
):
    pretend(monkeypatch, (9, 0), package=False)
    held = SimpleNamespace(total_memory=141 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: held)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    asked: list[int] = []

    def figures(_load: Workload, *, optimization: OptimizationConfig) -> str:
        asked.append(optimization.compute.checkpointed_blocks(28))
        if asked[-1] < 28:
            raise error
        return "figures"

    monkeypatch.setattr(step_room, "measure_load", figures)
    config = recomputing(f"compute.checkpointed_share={share}", "compute.micro_batch_tokens=16384")
    load = measuring.planned_load(config, 4096, processes=1, device=CARD)
    if tried[-1] == 28:
        assert measuring.planned_figures(config, load) == (load, "figures")
    else:
        with pytest.raises(type(error)):
            measuring.planned_figures(config, load)
    assert asked == tried


@pytest.mark.parametrize(("share", "blocks"), [("", 28), ("0.5", 14)])
def test_a_cpu_recomputes_all_blocks_of_an_open_share_and_others_as_asked(share, blocks):
    config = recomputing(f"compute.checkpointed_share={share}")
    load = measuring.planned_load(config, 512, processes=1, device=CPU)
    assert settled(config.optimization, load).compute.checkpointed_blocks(28) == blocks


def test_a_setting_that_cannot_run_here_is_said_by_whoever_measures(tmp_path):
    config = tiny(tmp_path, "compute.attention=flash")
    with pytest.raises(UsageError, match=r"compute\.attention=flash needs a CUDA card"):
        measure_apart(config, processes=1, limit_s=600)


@pytest.mark.parametrize(("device", "error"), [(CPU, UsageError), (CARD, InfrastructureError)])
def test_whoever_measures_too_long_is_ended(tmp_path, monkeypatch, device, error):
    """No other start of a CPU is quicker, so none is asked for."""
    monkeypatch.setattr(machine, "pick_device", lambda: device)
    with pytest.raises(error, match="no step was measured within 1 s") as told:
        measure_apart(tiny(tmp_path), processes=1, limit_s=1)
    for command in ("bench step", "plan"):
        words = f"yxanul {command} --config_dir DIR --model FILE"
        assert (words in str(told.value)) == (device == CPU)


@pytest.mark.parametrize(("compiled", "limit_s"), [("model", 300), ("block", 90), ("auto", 90)])
def test_a_whole_model_gets_the_time_that_its_compiling_takes(tmp_path, compiled, limit_s):
    assert flight._measuring_s(tiny(tmp_path, f"compute.compile={compiled}")) == limit_s


@pytest.mark.parametrize("compiled", ["model", "block"])
def test_where_compiling_took_the_time_away_the_quicker_way_is_named(
    tmp_path, monkeypatch, compiled
):
    monkeypatch.setattr(machine, "pick_device", lambda: CARD)
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
def test_nothing_is_measured_on_a_card_that_torch_was_not_built_for(tmp_path, monkeypatch):
    foreign(monkeypatch)
    request = tmp_path / "config.yaml"
    request.write_text(dump_config(tiny(tmp_path, "compute.keep_freed_memory=false")))
    monkeypatch.setattr(signal, "alarm", lambda _seconds: 0)
    assert main([str(request), str(tmp_path / "answer.json"), "600"]) == 30
    told = json.loads((tmp_path / "refusal-0.json").read_text())
    assert "Tesla V100 is an sm_70, and torch" in told["error"]


@pytest.mark.usefixtures("products_as_torch_has_them")
@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered\nmore"),
            11,
            "ECC",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            11,
            "out of memory",
        ),
        (torch.AcceleratorError("CUDA error: out of memory\nmore"), 11, "out of memory"),
        (ZeroDivisionError("division by zero"), 1, "ZeroDivisionError: division by zero"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
@pytest.mark.parametrize("where", ["usable_device", "joined_processes", "measure"])
def test_why_a_process_measured_nothing_is_written_down(
    tmp_path, monkeypatch, error, code, said, where
):
    """Of several processes torchrun tells no more than their codes."""

    def fail(*_, **__):
        raise error

    request = tmp_path / "config.yaml"
    request.write_text(dump_config(tiny(tmp_path, "compute.keep_freed_memory=false")))
    monkeypatch.setattr(signal, "alarm", lambda _seconds: 0)
    monkeypatch.setattr(measuring, where, fail)
    assert main([str(request), str(tmp_path / "answer.json"), "600"]) == code
    told = json.loads((tmp_path / "refusal-0.json").read_text())
    assert said in told["error"]
    assert told["code"] == 11  # as before, whoever asked for it may try again
    assert "checkpoint is whole" not in told["error"]  # there is no run
    # Before anything is measured, other programs hold what is missing.
    is_memory = said == "out of memory"
    assert ("compute.micro_batch_tokens" in told["error"]) == (is_memory and where == "measure")
    assert ("stop other programs" in told["error"]) == (is_memory and where != "measure")


@pytest.mark.usefixtures("products_as_torch_has_them")
@pytest.mark.parametrize(
    ("share", "way"),
    [("1", None), ("0.5", "compute.checkpointed_share=1"), ("", None)],
)
def test_blocks_that_are_recomputed_already_are_no_advice(tmp_path, monkeypatch, share, way):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    again = ("compute.gradient_checkpointing=true", f"compute.checkpointed_share={share}")
    request = tmp_path / "config.yaml"
    config = tiny(tmp_path, "compute.keep_freed_memory=false", *again)
    request.write_text(dump_config(config))
    monkeypatch.setattr(signal, "alarm", lambda _seconds: 0)
    monkeypatch.setattr(measuring, "measure", fail)
    assert main([str(request), str(tmp_path / "answer.json"), "600"]) == 11
    told = json.loads((tmp_path / "refusal-0.json").read_text())["error"]
    ways = ["set a smaller compute.micro_batch_tokens", way, "take a machine with more memory"]
    assert ", or ".join(filter(None, ways)) in told


def test_the_last_words_of_a_process_are_no_border():
    program = "import sys; sys.exit('why it ended\\n=====\\n-----\\n')"
    told = machine._run([sys.executable, "-c", program], 60)
    assert told == "left with 1 and said: why it ended"


@pytest.mark.slow
def test_of_several_processes_that_are_killed_the_signal_is_told(tmp_path):
    program = tmp_path / "killed.py"
    program.write_text("import os\nos.kill(os.getpid(), 9)\n")
    told = machine._run([*machine._launcher(2), str(program)], 120)
    assert "Signal 9 (SIGKILL)" in told


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
    assert ("finds no card" if torch.version.cuda else "without CUDA") in found.why


def features_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, error: Exception) -> Finding:
    """Return the finding where a card is counted, and its first use raises the error."""

    def refuse(**_):
        raise error

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", refuse)
    monkeypatch.setattr(machine, "pick_device", lambda: CARD)
    look = partial(look_at_features, tiny(tmp_path, "compute.precision=auto"), processes=1)
    return Check("features", look, 60.0).made()


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered\nmore"),
        torch.cuda.DeferredCudaCallError("CUDA call failed lazily at initialization\n\nmore"),
        RuntimeError("No CUDA GPUs are available"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_card_that_is_counted_and_does_not_answer_is_a_failure(tmp_path, monkeypatch, error):
    found = features_where(monkeypatch, tmp_path, error=error)
    assert (found.state, found.code) == ("fail", InfrastructureError.exit_code)
    assert str(error).split("\n")[0] in found.why
    assert "another machine" in found.why


def test_a_card_that_others_fill_is_told_as_that(tmp_path, monkeypatch):
    error = torch.AcceleratorError("CUDA error: out of memory\nmore")
    found = features_where(monkeypatch, tmp_path, error=error)
    assert (found.state, found.code) == ("fail", InfrastructureError.exit_code)
    assert found.why.startswith("out of memory (CUDA error: out of memory); stop other programs")


def test_a_card_that_torch_was_not_built_for_is_a_failure(tmp_path, monkeypatch):
    foreign(monkeypatch)
    found = look_at_features(tiny(tmp_path), processes=1)
    assert (found.state, found.code) == ("fail", UsageError.exit_code)
    assert "Tesla V100 is an sm_70, and torch" in found.why


def test_what_is_no_cards_fault_is_not_called_one(tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        features_where(monkeypatch, tmp_path, error=RuntimeError("shapes cannot be multiplied"))


def test_features_are_judged_for_as_many_processes_as_will_train(tmp_path):
    shared = tiny(tmp_path, "compute.zero1=true")
    found = [look_at_features(shared, processes=n) for n in (1, 2)]
    assert [one.value["missing"] for one in found] == [["ZeRO-1"], []]
    assert ["not active: ZeRO-1 (one process" in one.why for one in found] == [True, False]


@pytest.mark.parametrize(("said", "kind"), [("", UsageError), (NOT_UP, InfrastructureError)])
def test_a_card_that_torch_does_not_use_is_a_failure(tmp_path, monkeypatch, said, kind):
    unused(monkeypatch, tmp_path / "dev", said=said)
    found = look_at_features(tiny(tmp_path, "compute.zero1=true"), processes=1)
    assert (found.state, found.code) == ("fail", kind.exit_code)
    assert f"CUDA (there is a card ({tmp_path}/dev/nvidia0), and torch" in found.why
    assert "ZeRO-1 (" in found.why
    assert found.value["missing"] == ["CUDA", "ZeRO-1"]


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
