"""A plan for the machine that was measured: a CPU, or a card with its own MFU."""

import json
from pathlib import Path

import pytest

from yxanul.bench.step import StepFigures
from yxanul.config.load import load_config
from yxanul.errors import UsageError
from yxanul.plan.flops import flops_per_token, stage_flops
from yxanul.plan.hardware import Wishes
from yxanul.plan.measured import Meant, read_measured
from yxanul.plan.summary import plan_run

CONFIGS = Path(__file__).parents[2] / "configs"
EMBEDDED = load_config(CONFIGS / "embedded")


def step(**changed):
    usual = {
        "model": "embedded", "parameters": 8_532_224, "device": "AMD EPYC", "seq_len": 128,
        "micro_batch": 16, "precision": "fp32", "attention": "plain", "compiled": "off",
        "fp8": "off",
        "optimizer": "adamw", "first_s": 1.5, "optimizer_s": 0.01, "tokens_per_s": 1000.0,
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


def test_several_lengths_give_an_interval(write):
    steps = [step(seq_len=n, tokens_per_s=rate) for n, rate in ((64, 900.0), (128, 1000.0),
                                                                  (256, 1200.0))]  # fmt: skip
    plan = plan_run(EMBEDDED, Wishes(own=read_measured(write(*steps)), usd_per_gpu_hour=0.36))
    hours, usd = plan.bill.total.hours, plan.bill.total.usd
    assert hours.low / hours.value == pytest.approx(1000 / 1200)
    assert hours.high / hours.value == pytest.approx(1000 / 900)
    assert usd.value == pytest.approx(0.36 * hours.value)


def test_a_known_card_has_the_tables_peak_and_may_be_several(write):
    card = step(device="NVIDIA H200", gemm_flops=7e14, tokens_per_s=2e5, flops_per_token=2.3e9)
    own = read_measured(write(card))
    assert own.mfu.value == pytest.approx(2e5 * 2.3e9 / 989e12)
    config = load_config(CONFIGS)
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
    code, printed, _ = call("bench", "step", "--model", "nano", *("--seq_len", "16"),
                           *("--micro_batch", "1", "--steps", "1", "--json"))  # fmt: skip
    assert code == 0
    path = tmp_path / "step.json"
    path.write_text(printed)
    embedded = ("plan", "--config_dir", CONFIGS / "embedded", "--measured", path)
    code, out, err = call(*embedded)
    assert (code, out) == (30, "")  # bench's own default is another model than the plan's
    assert "is of nano in" in err
    assert "the plan is of embedded in auto" in err
    shape = CONFIGS / "models" / "nano.yaml"
    embedded += ("--model", shape)
    code, out, _ = call(*embedded, "--json")
    assert code == 0
    told, measured = json.loads(out), json.loads(printed)
    rate = measured["tokens_per_s"] * measured["flops_per_token"]
    assert told["total_hours"] == pytest.approx(told["total_flops"] / rate / 3600)
    assert told["hardware"]["name"] == f"1x{measured['device']}"
    code, out, _ = call(*embedded)
    assert code == 0
    assert "GFLOP/s each" in " ".join(out.split())


def test_a_measurement_of_another_model_or_precision_is_refused_with_the_command(write):
    flops = flops_per_token(EMBEDDED.model, 128)
    paths = write(step(flops_per_token=flops))
    meant = Meant(EMBEDDED, "--config_dir here --model there")
    assert read_measured(paths, meant=[meant]).mfu.value > 0
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
    with pytest.raises(UsageError, match="of one model, and the recipes"):
        read_measured(paths, meant=[meant, Meant(wide, "--model wide")])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "cannot be read"),
        ("[1]", "holds no measurement"),
        (json.dumps(step(tokens_per_s=0)), "tokens_per_s is not a number above 0"),
        (json.dumps(step(gemm_flops="fast")), "gemm_flops is not a number"),
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


def test_a_missing_file_and_two_devices_are_refused(tmp_path, write):
    with pytest.raises(UsageError, match="cannot be read"):
        read_measured([tmp_path / "none.json"])
    with pytest.raises(UsageError, match="several devices"):
        read_measured(write(step(), step(device="another")))
