"""A plan for the machine that was measured: a CPU, or a card with its own MFU."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from yxanul.bench.step import StepFigures
from yxanul.config.load import load_config
from yxanul.errors import UsageError
from yxanul.hardware.choices import freeze_compute
from yxanul.plan.flops import flops_per_token, stage_flops
from yxanul.plan.hardware import Wishes
from yxanul.plan.measured import Meant, read_measured
from yxanul.plan.memory import memory
from yxanul.plan.summary import plan_run

CONFIGS = Path(__file__).parents[2] / "configs"
EMBEDDED = load_config(CONFIGS / "embedded")


def step(**changed):
    usual = {
        "model": "embedded", "parameters": 8_532_224, "device": "AMD EPYC", "seq_len": 128,
        "micro_batch": 16, "precision": "fp32", "attention": "plain", "compiled": "off",
        "fp8": "off", "optimizer": "muon", "threads": 2, "checkpointed_blocks": 0,
        "first_s": 1.5, "optimizer_s": 0.01, "tokens_per_s": 1000.0,
        "flops_per_token": 40_000_000,
        "gemm_flops": 80e9, "mfu": 0.5, "peak_bytes": None, "recompiles": None,
    }  # fmt: skip
    return StepFigures(**{**usual, **changed}).as_json()


@pytest.fixture
def write(tmp_path):
    def written(*steps):
        paths = [tmp_path / f"{number}.json" for number in range(len(steps))]
        for path, one in zip(paths, steps, strict=True):
            path.write_text(json.dumps(one))
        return paths

    return written


def test_a_cpu_is_planned_at_the_rate_that_was_measured(write):
    own = read_measured(write(step()))
    plan = plan_run(EMBEDDED, Wishes(own=own))
    flops = sum(stage_flops(EMBEDDED.model, stage) for stage in EMBEDDED.stages)
    hours = plan.bill.total.hours
    assert hours.value == pytest.approx(flops / (1000.0 * 40_000_000) / 3600)
    assert hours.low == pytest.approx(hours.value) == pytest.approx(hours.high)
    assert plan.chosen
    assert plan.bill.total.usd is None
    assert "give --usd_per_gpu_hour" in plan.bill.machine.why_unknown
    assert "embedded in fp32 at 128 tokens" in plan.bill.machine.mfu.source


def test_the_optimizers_step_is_paid_once_however_many_passes_an_update_has(write):
    own = read_measured(write(step(optimizer_s=1.0)))  # of an update of 2,048 tokens and 2.048 s

    def share(batch: int, count: int = 1) -> float:
        asked = ["training.total_tokens=1048576", f"training.batch_tokens={batch}"]
        config = load_config(CONFIGS / "embedded", overrides=asked)
        return own.mfu(config, count=count).value

    assert share(2048) == pytest.approx(1000.0 * 40_000_000 / 80e9)
    assert share(16 * 2048) / share(2048) == pytest.approx(2.048 / (1.048 + 1 / 16))
    # Cards that share an update out do each of its steps.
    assert share(16 * 2048, count=16) == pytest.approx(share(2048))


def test_a_cpus_memory_is_planned_by_the_choices_that_a_run_makes_there(write):
    config = load_config(CONFIGS)
    own = read_measured(write(step(attention="by_length")))
    planned = plan_run(config, Wishes(own=own)).memory
    settings = ["precision=fp32", "attention=by_length", "compile=off"]
    settings += ["loss_chunk_tokens=2048", "micro_batch_tokens=2048"]
    overrides = [f"compute.{setting}" for setting in settings]
    assert planned == memory(load_config(CONFIGS, overrides=overrides))
    assert planned != memory(config)
    # What was asked for by name stays.
    asked = load_config(CONFIGS, overrides=["compute.micro_batch_tokens=4096"])
    assert plan_run(asked, Wishes(own=own)).memory.micro_batch_tokens == 4096


def test_a_cpus_settled_choices_are_those_of_a_run_there(write):
    compute = load_config(CONFIGS).optimization.compute
    own = read_measured(write(step()))
    cpu = torch.device("cpu")
    fp32 = compute.model_copy(update={"precision": "fp32"})
    run = freeze_compute(fp32, cpu, longest_seq_len=4096).model_dump()
    planned = own.settled(load_config(CONFIGS)).optimization.compute.model_dump()
    for name in ("precision", "attention", "compile", "loss_chunk_tokens", "micro_batch_tokens"):
        assert planned[name] == run[name], name


def test_several_lengths_give_an_interval(write):
    timed = ((64, 900.0), (128, 1000.0), (256, 1200.0))
    steps = [step(seq_len=n, tokens_per_s=rate, optimizer_s=1e-9) for n, rate in timed]
    plan = plan_run(EMBEDDED, Wishes(own=read_measured(write(*steps)), usd_per_gpu_hour=0.36))
    hours, usd = plan.bill.total.hours, plan.bill.total.usd
    assert hours.low / hours.value == pytest.approx(1000 / 1200)
    assert hours.high / hours.value == pytest.approx(1000 / 900)
    assert usd.value == pytest.approx(0.36 * hours.value)


def test_a_known_card_has_the_tables_peak_and_may_be_several(write):
    card = step(
        device="NVIDIA H200",
        gemm_flops=7e14,
        tokens_per_s=2e5,
        flops_per_token=2.3e9,
        optimizer_s=1e-9,
        peak_bytes=10**9,
    )
    own = read_measured(write(card))
    config = load_config(CONFIGS)
    assert own.mfu(config, count=1).value == pytest.approx(2e5 * 2.3e9 / 989e12)
    one = plan_run(config, Wishes(own=own))
    eight = plan_run(config, Wishes(own=own, gpus="8xH200"))
    assert one.bill.machine.name == "1xH200"
    assert one.bill.total.hours.value == pytest.approx(8 * eight.bill.total.hours.value)
    with pytest.raises(UsageError, match="is of H200, and --gpus names H100"):
        plan_run(config, Wishes(own=own, gpus="8xH100"))
    with pytest.raises(UsageError, match="both say the MFU"):
        Wishes(own=own, mfu=0.4)


def test_the_verb_plans_with_what_bench_printed(call, tmp_path):
    """The whole way, on this machine."""
    path, settings = tmp_path / "step.json", ("--config_dir", CONFIGS / "embedded")
    shape = CONFIGS / "models" / "nano.yaml"

    def measure(*words) -> str:
        size = ("--seq_len", "16", "--micro_batch", "1", "--steps", "1", "--json")
        code, printed, _ = call("bench", "step", "--model", shape, *words, *size)
        assert code == 0
        path.write_text(printed)
        return printed

    embedded = ("plan", *settings, "--measured", path)
    measure()
    code, out, err = call(*embedded, "--model", shape)
    assert (code, out) == (30, "")  # bench's own default is another optimizer, and all cores
    assert "optimizer muon (there adamw)" in err
    printed = measure(*settings)
    code, out, err = call(*embedded)
    assert (code, out) == (30, "")
    assert "is of nano in" in err
    assert "the plan is of embedded in auto" in err
    embedded += ("--model", shape)
    code, out, _ = call(*embedded, "--json")
    assert code == 0
    told, measured = json.loads(out), json.loads(printed)
    # An update of 16 tokens; the run's are larger, and one step of the optimizer comes to each.
    batch = EMBEDDED.stages[0].training.batch_tokens
    token_s = 1 / measured["tokens_per_s"] + measured["optimizer_s"] * (1 / batch - 1 / 16)
    hours = told["total_flops"] / measured["flops_per_token"] * token_s / 3600
    assert told["total_hours"] == pytest.approx(hours)
    assert told["hardware"]["name"] == f"1x{measured['device']}"
    code, out, _ = call(*embedded)
    assert code == 0
    assert "GFLOP/s each" in " ".join(out.split())


def test_a_measurement_of_another_model_or_precision_is_refused_with_the_command(write):
    flops = flops_per_token(EMBEDDED.model, 128)
    paths = write(step(flops_per_token=flops))
    meant = Meant(EMBEDDED, "--config_dir here --model there")
    assert read_measured(paths, meant=[meant]).precision == "fp32"
    other = write(step(model="nano", flops_per_token=flops - 6))
    with pytest.raises(UsageError, match="is of nano in fp32") as refused:
        read_measured(other, meant=[meant])
    length = EMBEDDED.stages[0].training.seq_len_curriculum[0].seq_len
    command = f"yxanul bench step --config_dir here --model there --seq_len {length} --json > FILE"
    assert str(refused.value).endswith(command)
    half = load_config(CONFIGS / "embedded", overrides=["compute.precision=bf16"])
    with pytest.raises(UsageError, match=r"in bf16.*--set compute.precision=bf16 --seq_len"):
        read_measured(write(step(flops_per_token=flops)), meant=[Meant(half, "--model there")])
    told = Meant(half, "--model there --set compute.precision=bf16")
    with pytest.raises(UsageError, match=r"bench step --model there --set \S+ --seq_len"):
        read_measured(write(step(flops_per_token=flops)), meant=[told])
    wide = load_config(CONFIGS / "embedded", overrides=["model.num_hidden_layers=9"])
    with pytest.raises(UsageError, match=r"the recipes of --compare have several \(models\)"):
        read_measured(paths, meant=[meant, Meant(wide, "--model wide")])


@pytest.mark.parametrize(
    ("asked", "measured", "told"),
    [
        ("compute.threads=4", {"threads": 16}, "threads 4 (there 16)"),
        ("compute.threads=4", {"threads": 4}, None),
        ("compute.threads=", {"threads": 16}, None),  # all that the machine has
        ("compute.threads=4", {"threads": 16, "peak_bytes": 10**9}, None),  # of a card
        ("compute.gradient_checkpointing=true", {}, "checkpointed_blocks 8 (there 0)"),
        ("compute.fp8=ffn", {}, "fp8 ffn (there off)"),
        ("compute.fp8=ffn", {"fp8": []}, "fp8 ffn (there [])"),
        ("compute.threads=4", {"threads": {}}, "threads 4 (there {})"),
        ("compute.attention=flash", {}, "attention flash (there plain)"),
        ("compute.compile=block", {}, "compiled block (there off)"),
        ("compute.compile=auto", {"compiled": "block"}, None),
    ],
)
def test_a_step_in_other_settings_is_another_runs(write, asked, measured, told):
    config = load_config(CONFIGS / "embedded", overrides=[asked])
    flops = flops_per_token(config.model, 128)
    path = write(step(flops_per_token=flops, **measured))
    meant = [Meant(config, "--config_dir here")]
    if told is None:
        assert read_measured(path, meant=meant)
        return
    with pytest.raises(UsageError) as refused:
        read_measured(path, meant=meant)
    assert f", {told}: its MFU" in str(refused.value)


@pytest.mark.parametrize(
    ("one", "another", "told"),
    [
        ("compute.threads=2", "compute.threads=4", "threads"),
        ("compute.precision=fp32", "compute.precision=bf16", "precision"),
        ("compute.fp8=off", "compute.fp8=ffn", "fp8"),
        ("compute.compile=off", "compute.compile=auto", None),  # one step may be of both
    ],
)
def test_recipes_that_no_one_step_is_of_are_planned_alone(write, one, another, told):
    """The command for one would measure what the other refuses."""
    configs = [load_config(CONFIGS / "embedded", overrides=[word]) for word in (one, another)]
    path = write(step(flops_per_token=flops_per_token(EMBEDDED.model, 128), threads=2))
    meant = [Meant(config, "--config_dir here") for config in configs]
    if told is None:
        assert read_measured(path, meant=meant)
        return
    with pytest.raises(UsageError, match=rf"have several \({told}\); plan each alone"):
        read_measured(path, meant=meant)


def test_a_file_of_a_version_that_did_not_say_how_it_measured_is_refused(write):
    old = step(flops_per_token=flops_per_token(EMBEDDED.model, 128))
    del old["threads"], old["checkpointed_blocks"]
    with pytest.raises(UsageError, match=r"checkpointed_blocks 0 \(there not told\), threads 2"):
        read_measured(write(old), meant=[Meant(EMBEDDED, "--config_dir here")])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "cannot be read"),
        ("[1]", "holds no measurement"),
        (json.dumps(step(tokens_per_s=0)), "tokens_per_s is not a number above 0"),
        (json.dumps(step(gemm_flops="fast")), "gemm_flops is not a number"),
        (json.dumps(step(optimizer_s=None)), "optimizer_s is not a number above 0"),
        (json.dumps(step(device="")), "device is not a text"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_what_is_no_measurement_is_said_in_one_sentence(tmp_path, call, content, words):
    path = tmp_path / "step.json"
    path.write_text(content)
    code, out, err = call("plan", "--config_dir", CONFIGS, "--measured", path)
    assert (code, out) == (30, "")
    assert words in err
    assert "bench step" in err
    assert "Traceback" not in err


def test_a_missing_file_an_impossible_one_and_two_devices_are_refused(tmp_path, write):
    with pytest.raises(UsageError, match="cannot be read"):
        read_measured([tmp_path / "none.json"])
    with pytest.raises(UsageError, match="optimizer_s is not below what a whole update of 2,048"):
        read_measured(write(step(optimizer_s=2.1)))
    with pytest.raises(UsageError, match="several devices"):
        read_measured(write(step(), step(device="another")))


def test_the_command_that_would_measure_it_can_be_typed(write, call, tmp_path):
    place = Path(shutil.copytree(CONFIGS / "embedded", tmp_path / "my own"))
    path = write(step(model="nano"))[0]
    code, _, err = call("plan", "--config_dir", place, "--measured", path)
    assert code == 30
    words = shlex.split(err.partition("measure that: ")[2])
    assert words[:2] == ["yxanul", "bench"]
    assert words[words.index("--config_dir") + 1] == str(place)
    assert words[words.index("--model") + 1] == str(place / "model_config.yaml")
