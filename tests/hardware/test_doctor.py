"""The doctor's table: complete, true of this machine, and the same wherever it is shown."""

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch

from tests.hardware.cards import unused
from tests.train.world import World, write_configs
from yxanul.cli.entry import start
from yxanul.config.load import load_config
from yxanul.config.schema import OptimizationConfig
from yxanul.cores import usable_cores
from yxanul.hardware import peak
from yxanul.hardware.choices import settle_compute
from yxanul.hardware.compiler import compile_obstacle
from yxanul.hardware.device import memory_bytes
from yxanul.hardware.doctor import ROWS, examine, list_features, measure_rates, summarise
from yxanul.hardware.feature import Case, Feature
from yxanul.hardware.memory import GROWING, allocator_settings
from yxanul.hardware.rows import machine
from yxanul.hardware.rows.optional import installed

ROOT = Path(__file__).parents[2]
CPU, CARD = torch.device("cpu"), torch.device("cuda", 0)
STATES = {"active", "available", "unavailable"}
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="these rows are a CPU's")


@pytest.fixture
def configs(tmp_path):
    folder = write_configs(tmp_path / "configs")
    for path in folder.glob("stage*.yaml"):
        path.write_text(path.read_text().replace("source: hub", "source: texts"))
    return folder


def judge(configs: Path, *overrides: str, malloc: str = "active", **more) -> dict[str, Feature]:
    """Return the rows of a configuration by name, without timing anything."""
    config = load_config(configs, overrides=["data.source=texts", *overrides])
    compute = settle_compute(config.optimization.compute, CPU, longest_seq_len=64)
    settled = config.optimization.model_copy(update={"compute": compute})
    fields = {"world_size": 1, "rates": {}, "device": CPU} | more
    case = Case(optimization=settled, stages=config.stages, malloc=malloc, **fields)
    return {feature.name: feature for feature in list_features(case)}


def with_compiler(monkeypatch, tmp_path: Path) -> Path:
    """Put a program called like a C++ compiler on PATH."""
    compiler = tmp_path / "my-cxx"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "my-cxx")
    return compiler


def test_the_defaults_are_judged_without_a_configuration(call):
    code, out, err = call("doctor", "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert told["torch"] == torch.__version__
    assert told["processes"] == max(1, torch.cuda.device_count())
    assert told["device"] in told["features"][0]["reason"]
    assert told["gemm_flops"].keys() == {"bf16", "fp32"}
    assert len({feature["name"] for feature in told["features"]}) == len(ROWS)
    for feature in told["features"]:
        assert feature.keys() == {"name", "state", "reason"}
        assert feature["state"] in STATES
        assert len(feature["reason"]) > 10


def test_a_person_reads_it_at_80_columns_with_no_word_cut(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call("doctor", "--config_dir", ROOT / "configs" / "embedded")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    diagnosis = examine(OptimizationConfig(), (), device=CPU, processes=1)
    assert all(feature.name in out for feature in diagnosis.features)


def test_a_command_in_a_reason_is_shown_as_it_is_typed(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("yxanul.hardware.rows.optional.find_spec", lambda name: None)
    assert "pip install 'yxanul[deepspeed]'" in call("doctor")[1]


def test_a_choice_made_by_rule_is_told_apart_from_one_of_the_configuration(configs):
    defaults = examine(OptimizationConfig(), (), device=CPU, processes=1)
    chosen = {feature.name: feature for feature in defaults.features}
    other = {"bf16": "fp32", "fp32": "bf16"}[chosen["precision"].choice]
    compute = ("compute.attention=sdpa", f"compute.precision={other}")
    forced = judge(configs, *compute)
    assert "as configured" not in chosen["precision"].reason + chosen["attention"].reason
    assert f"the rule would take {chosen['precision'].choice}" in forced["precision"].reason
    assert "the rule would take plain" in forced["attention"].reason


def test_the_faster_type_is_named_when_it_was_not_chosen(configs):
    slow = {"bf16": 1e9, "fp32": 5e9}
    row = judge(configs, "compute.precision=bf16", rates=slow)["precision"]
    assert "compute.precision=fp32 has the faster products" in row.reason
    assert "1 GFLOP/s in bf16" in row.reason
    row = judge(configs, "compute.precision=fp32", rates=slow)["precision"]
    assert "has the faster products" not in row.reason


@pytest.mark.parametrize(
    ("override", "name", "state"),
    [
        ("compute.compile=off", "torch.compile", "available"),
        ("compute.compile=model", "torch.compile", "active"),
        ("compute.gradient_checkpointing=true", "gradient checkpointing", "active"),
        ("compute.gradient_checkpointing=false", "gradient checkpointing", "available"),
        ("optimizer.name=muon", "Muon", "active"),
        ("optimizer={name: adamw}", "Muon", "available"),
        ("optimizer.fused=true", "fused AdamW", "active"),
        ("optimizer.fused=false", "fused AdamW", "available"),
        ("training.schedule=linear_to_zero", "linear decay to zero", "active"),
        ("training.schedule=wsd", "linear decay to zero", "available"),
        ("training.warmup_fraction=0.1", "sequence-length curriculum", "active"),
        (
            "training.seq_len_curriculum=[{from_fraction: 0.0, seq_len: 32}]",
            "sequence-length curriculum",
            "available",
        ),
        ("compute.attention=flash", "attention", "unavailable"),
        ("compute.attention=plain", "attention", "active"),
    ],
)
def test_each_switch_of_the_configuration_shows(
    configs, monkeypatch, tmp_path, override, name, state
):
    with_compiler(monkeypatch, tmp_path)
    assert judge(configs, override)[name].state == state


@pytest.mark.parametrize(
    ("malloc", "state"),
    [
        ("active", "active"),
        ("off", "available"),
        ("refused by mallopt", "unavailable"),
        ("not available (no glibc)", "unavailable"),
    ],
)
def test_what_came_of_keeping_freed_memory_is_said(configs, malloc, state):
    row = judge(configs, malloc=malloc)["freed memory kept"]
    assert row.state == state
    assert malloc in row.reason or state != "unavailable"


def allocator_of_a_card(monkeypatch, **environment: str) -> Feature:
    unset = {"PYTORCH_ALLOC_CONF": "", "PYTORCH_CUDA_ALLOC_CONF": ""}
    for name, value in {**unset, **environment}.items():
        monkeypatch.setenv(name, value)
    case = Case(OptimizationConfig(), (), CARD, world_size=1, malloc="active", rates={})
    return machine.allocator(case)


def test_a_card_that_torch_does_not_use_is_a_wish_that_is_not_met(configs, tmp_path, monkeypatch):
    assert not judge(configs)["CUDA"].asked
    unused(monkeypatch, tmp_path / "dev")
    row = judge(configs)["CUDA"]
    assert (row.state, row.asked) == ("unavailable", True)
    assert f"there is a card ({tmp_path}/dev/nvidia0), and torch" in row.why


def test_the_cards_allocator_is_told_as_the_environment_sets_it(configs, monkeypatch):
    assert judge(configs)["CUDA allocator"].state == "unavailable"  # there is no card
    assert allocator_of_a_card(monkeypatch).state == "available"
    row = allocator_of_a_card(monkeypatch, PYTORCH_CUDA_ALLOC_CONF="max_split_size_mb:64")
    assert (row.state, row.choice) == ("active", "max_split_size_mb:64")
    assert "as asked" in row.why
    row = allocator_of_a_card(monkeypatch, PYTORCH_ALLOC_CONF=GROWING)
    assert (row.state, row.choice) == ("active", GROWING)


@pytest.mark.parametrize("name", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_the_program_settles_the_allocator_unless_the_user_has(monkeypatch, capsys, name):
    allocator_of_a_card(monkeypatch, **{name: "max_split_size_mb:64"})
    with pytest.raises(SystemExit):
        start(["--version"])
    assert allocator_settings() == (name, "max_split_size_mb:64")
    monkeypatch.delenv(name)
    with pytest.raises(SystemExit):
        start(["--version"])
    assert os.environ["PYTORCH_ALLOC_CONF"] == GROWING
    assert allocator_settings() == ("PYTORCH_ALLOC_CONF", GROWING)


def test_several_processes_are_active_and_counted(configs):
    row = judge(configs, world_size=3)["data parallel (DDP)"]
    assert (row.state, row.choice) == ("active", "3 processes")


def test_the_optimizers_state_is_shared_among_several_that_ask_for_it(configs):
    asked = "compute.zero1=true"
    alone, three = judge(configs, asked)["ZeRO-1"], judge(configs, asked, world_size=3)["ZeRO-1"]
    assert (alone.state, alone.asked) == ("unavailable", True)
    assert (three.state, three.choice) == ("active", "over 3")
    assert judge(configs, world_size=3)["ZeRO-1"].state == "available"


def test_deepspeed_is_active_when_asked_for_and_named_when_absent(configs, monkeypatch):
    asked = ("compute.engine=deepspeed", "optimizer={name: adamw}")
    monkeypatch.setattr("yxanul.hardware.rows.optional.find_spec", lambda name: None)
    absent = judge(configs, *asked)["DeepSpeed"]
    assert (absent.state, absent.asked) == ("unavailable", True)
    assert "pip install 'yxanul[deepspeed]'" in absent.reason
    monkeypatch.setattr("yxanul.hardware.rows.optional.find_spec", lambda name: name)
    assert judge(configs, *asked)["DeepSpeed"].state == "active"
    assert judge(configs, *asked, world_size=2)["ZeRO-1"].state == "active"


def test_a_compiler_is_found_by_the_name_that_torch_calls(configs, monkeypatch, tmp_path):
    compiler = with_compiler(monkeypatch, tmp_path)
    assert str(compiler) in judge(configs)["torch.compile"].reason
    assert compile_obstacle(CPU) is None
    # torch does not look further than the name: clang++ beside a missing g++ does not help.
    compiler.rename(tmp_path / "clang++")
    monkeypatch.delenv("CXX")
    if sys.platform == "linux":
        assert "g++ is not on PATH" in str(compile_obstacle(CPU))


@pytest.mark.slow
def test_without_a_compiler_a_bare_machine_says_so_and_strict_leaves_with_30(configs, tmp_path):
    """In a process of its own whose PATH is empty, as in a slim container."""
    environment = {k: v for k, v in os.environ.items() if k not in ("CXX", "CC")}
    environment |= {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    words = ["doctor", "--config_dir", str(configs), "--set", "compute.compile=block"]

    def run(*more: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "yxanul", *words, *more],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    done = run("--json")
    assert done.returncode == 0, done.stderr
    rows = {feature["name"]: feature for feature in json.loads(done.stdout)["features"]}
    assert rows["torch.compile"]["state"] == "unavailable"
    assert "needs a C++ compiler" in rows["torch.compile"]["reason"]
    done = run("--strict")
    assert done.returncode == 30
    assert len(done.stderr.strip().splitlines()) == 1
    assert "asked for and not active: torch.compile (needs a C++ compiler" in done.stderr


def test_strict_is_content_when_all_that_is_asked_for_is_active(
    call, configs, monkeypatch, tmp_path
):
    with_compiler(monkeypatch, tmp_path)
    words = ("doctor", "--config_dir", configs, "--set", "compute.keep_freed_memory=false")
    assert call(*words, "--strict")[0] == 0


@pytest.mark.parametrize(("cards", "expected"), [(0, 30), (1, 30), (8, 0)])
def test_strict_judges_what_processes_share_by_the_cards_of_the_machine(
    call, configs, monkeypatch, cards, expected
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    asked = ("--set", "compute.zero1=true", "--set", "compute.keep_freed_memory=false")
    code, out, err = call("doctor", "--config_dir", configs, *asked, "--strict")
    assert code == expected
    assert ("8 processes, one per card" in out) == (cards == 8)
    assert ("ZeRO-1 (one process" in err) == (cards != 8)


def test_strict_under_json_prints_one_object(call, configs):
    words = ("doctor", "--config_dir", configs, "--set", "compute.attention=cudnn", "--strict")
    code, out, _ = call(*words, "--json")
    told = json.loads(out)
    assert (code, told["exit_code"]) == (30, 30)
    assert "attention (cudnn: needs a CUDA card" in told["error"]


@pytest.mark.parametrize(
    "words",
    [
        ("--set", "compute.compile=block"),
        ("--config_dir", "nowhere"),
        ("--config_dir", str(ROOT / "configs"), "--set", "compute.fp8=head"),
    ],
)
def test_a_mistake_is_one_sentence(call, words):
    code, out, err = call("doctor", *words)
    assert (code, out) == (30, "")
    assert len(err.strip().splitlines()) == 1, err


def test_an_optional_package_is_known_by_its_metadata_and_never_imported(
    configs, monkeypatch, tmp_path
):
    states = {"Liger kernels": "unavailable", "DeepSpeed": "available"}
    names = {"liger-kernel": "Liger kernels", "deepspeed": "DeepSpeed"}
    for package in (*names, "torchao"):
        metadata = tmp_path / f"{package.replace('-', '_')}-9.8.7.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 9.8.7\n")
        (tmp_path / f"{package.replace('-', '_')}.py").write_text("raise RuntimeError('loaded')\n")
    (tmp_path / "flash_attn_interface.py").write_text("raise RuntimeError('loaded')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    loaded = set(sys.modules)  # transformers may have imported some, for another test
    after = judge(configs)
    for package, name in names.items():
        assert f"{package} 9.8.7 is installed" in after[name].reason
        assert after[name].state == states[name]
    assert "runs on Hopper cards only" in after["FlashAttention 3"].reason
    imported = sys.modules.keys() - loaded
    assert not {"liger_kernel", "torchao", "flash_attn_interface"} & imported


def test_an_absent_package_is_said_to_be_absent():
    with pytest.raises(PackageNotFoundError):
        version("no-such-package-of-ours")
    assert installed("no-such-package-of-ours") == "no-such-package-of-ours is not installed"
    assert installed("torch") == f"torch {version('torch')} is installed"


def test_the_head_of_a_run_names_every_feature_once(configs):
    features = tuple(judge(configs).values())
    lines = list(summarise(features))
    assert len(lines) == 3
    assert all(sum(line.count(feature.name) for line in lines) >= 1 for feature in features)
    assert "torch.compile" not in lines[0]
    assert list(summarise([])) == []


def test_the_table_heads_a_run_lies_in_its_folder_and_its_rates_are_kept(tmp_path):
    world = World.create(tmp_path)
    place = world.root / "run" / "environment.json"
    stderr = world.finish("run", "run", "--max_steps", "1").stderr
    written = json.loads(place.read_text())
    judged = judge(world.root / "configs", rates=written["gemm_flops"])
    assert written["features"] == [feature.as_json() for feature in judged.values()]
    active = next(line for line in stderr.splitlines() if line.startswith("active: "))
    assert "precision fp32" in active
    assert "threads 1" in active
    world.finish("run", "run", "--max_steps", "1")
    assert json.loads(place.read_text())["features"] == written["features"]
    assert json.loads(place.read_text())["gemm_flops"] == written["gemm_flops"]
    # On another machine they are measured again.
    place.write_text(json.dumps({**written, "device": "Pentium"}))
    peak.gemm_flops.cache_clear()  # tests/conftest.py
    stderr = world.finish("run", "run", "--max_steps", "1").stderr
    assert f"device: Pentium -> {written['device']}" in stderr
    assert json.loads(place.read_text())["gemm_flops"] != written["gemm_flops"]


@pytest.mark.parametrize(
    "rates", [None, {}, {"bf16": "fast", "fp32": 1.0}, {"bf16": -1.0, "fp32": 0.0}]
)
def test_damaged_rates_are_measured_again(tmp_path, rates):
    world = World.create(tmp_path)
    place = world.root / "run" / "environment.json"
    world.finish("run", "run", "--max_steps", "1")
    place.write_text(json.dumps({**json.loads(place.read_text()), "gemm_flops": rates}))
    world.finish("run", "run", "--max_steps", "1")
    assert all(rate > 1e6 for rate in json.loads(place.read_text())["gemm_flops"].values())


def test_known_rates_are_not_measured():
    assert measure_rates(CPU, known={"bf16": 1.0, "fp32": 2.0}) == {"bf16": 1.0, "fp32": 2.0}
    assert measure_rates(CPU, known={"bf16": 1.0})["fp32"] > 1e6


def test_a_cpu_that_emulates_bf16_is_measured_in_seconds_not_minutes():
    """oneDNN's own switch makes this CPU one of before AVX512; a whole product took 9 s."""
    program = (
        "import time, torch\n"
        "from yxanul.hardware.peak import gemm_flops\n"
        "begin = time.perf_counter()\n"
        "rate = gemm_flops(torch.bfloat16)\n"
        "print(rate, time.perf_counter() - begin)\n"
    )
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    rate, seconds = map(float, done.stdout.split())
    assert rate > 1e6
    assert seconds < 20  # three whole products took 27


def test_the_machine_has_memory_and_cores():
    assert 2**28 < memory_bytes(CPU) < 2**50
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


def test_doctor_has_help_with_an_example(call):
    code, out, _ = call("doctor", "--help")
    assert code == 0
    assert "Example: yxanul doctor" in out
