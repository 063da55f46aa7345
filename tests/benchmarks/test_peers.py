"""Every contestant of the step benchmark trains the workload that it was given."""

import importlib.util
import json
import math
import sys
from functools import partial

import pytest
import torch

from benchmarks import step
from benchmarks.card import updates
from benchmarks.card.section import RECOMPILED
from benchmarks.step import all_ways, measure
from benchmarks.steps import nanochat as nanochat_room
from benchmarks.steps.nanochat import nanochat
from benchmarks.steps.nanochat_optimizers import ChatMuon, ChatSchedule, polar_express
from benchmarks.steps.nanogpt import nanogpt
from tests.model.tiny import shape
from yxanul.bench.updates import settled, time_updates
from yxanul.bench.workload import StepRun, Workload
from yxanul.config.schema import OptimizationConfig, OptimizerConfig
from yxanul.hardware.compiler import compile_obstacle
from yxanul.optim.muon import orthogonalise
from yxanul.plan.flops import flops_per_token
from yxanul.plan.parameters import parameter_count

CPU = torch.device("cpu")
TINY = shape(head_dim=8, intermediate_size=64, vocab_size=192)


class OneBatch(Workload):
    """A workload that has a single batch: what learns at all learns it."""

    def batches(self):
        batch = next(super().batches())
        while True:
            yield batch


def work(**changes):
    values = {"rows": 4, "micro_rows": 2, "dtype": torch.float32, "steps": 2, "warmup": 0}
    device = torch.device("cpu")
    return OneBatch(**{"model": TINY, "seq_len": 16, "device": device, **values, **changes})


@pytest.fixture(autouse=True)
def _uncompiled(monkeypatch):
    """nanochat without its compiler, which takes half a minute."""
    monkeypatch.setattr(nanochat_room, "compile_obstacle", lambda _: "not in this test")


def trainer(workload):
    for package in ("transformers", "accelerate"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    from benchmarks.steps.trainer import trainer

    return trainer(workload)


def our_way(workload, optimization=None):
    wish = optimization or OptimizationConfig()
    return time_updates("ours", workload, optimization=settled(wish, workload))


@pytest.mark.filterwarnings("ignore")  # what transformers and accelerate have to say
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("contestant", [our_way, trainer, nanogpt, nanochat])
def test_a_contestant_learns_and_is_timed(contestant, dtype):
    run = contestant(work(dtype=dtype, steps=6))
    assert len(run.losses) == 7
    assert len(run.step_s) == 6
    assert all(math.isfinite(loss) for loss in run.losses)
    assert run.losses[0] == pytest.approx(math.log(TINY.vocab_size), abs=0.2)
    assert run.losses[-1] < run.losses[0]
    assert min(run.first_s, *run.step_s) > 0
    assert run.peak_bytes is None


class Compiling(Workload):
    """A workload whose every batch makes a graph, as a row of another length would."""

    def batches(self):
        double = torch.compile(lambda x: 2 * x, backend="eager", dynamic=False)
        for number, batch in enumerate(super().batches(), 1):
            double(torch.ones(number))
            yield batch


@pytest.mark.filterwarnings("ignore")  # what transformers, accelerate and torch.compile have to say
@pytest.mark.parametrize("contestant", [our_way, trainer, nanogpt, nanochat])
def test_graphs_after_the_first_update_are_counted_of_every_contestant(contestant, monkeypatch):
    torch.compiler.reset()
    load = Compiling(TINY, 16, 4, 2, CPU, torch.float32, steps=4, warmup=0)
    run = contestant(load)
    assert run.recompiles in (3, 4)  # a loader may be one batch ahead
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "any")
    assert updates._peer(lambda _: run, load)[RECOMPILED] == run.recompiles


def test_the_trainer_has_our_loss_of_the_same_weights():
    # The trainer draws its weights from the workload's seed, we from the settings'.
    load = work(seed=OptimizationConfig().seed)
    assert trainer(load).losses == pytest.approx(our_way(load).losses, rel=1e-4)


def test_micro_batches_do_not_change_an_update():
    for contestant in (nanogpt, nanochat):
        whole, parts = contestant(work(micro_rows=4)), contestant(work(micro_rows=2))
        assert whole.losses == pytest.approx(parts.losses, rel=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings(  # of torch itself, where the compiler looks through its modules
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"
)
@pytest.mark.skipif(compile_obstacle(CPU) is not None, reason="there is no compiler")
def test_nanochat_compiled_trains_to_the_same_losses_and_compiles_once(monkeypatch):
    plain = nanochat(work(steps=4))
    monkeypatch.setattr(nanochat_room, "compile_obstacle", lambda _: None)
    run = nanochat(work(steps=4))
    assert run.name == "nanochat, compiled"
    assert run.losses == pytest.approx(plain.losses, rel=1e-4)
    assert run.recompiles == 0


def test_polar_express_is_nearer_to_orthogonal_than_the_quintic_of_muon():
    torch.manual_seed(0)
    stack = torch.randn(3, 40, 16)
    values, others = (torch.linalg.svdvals(way(stack)) for way in (polar_express, orthogonalise))
    assert (values - 1).abs().mean() < (others - 1).abs().mean() / 1.5
    left, _, right = torch.linalg.svd(stack, full_matrices=False)
    assert (
        torch.nn.functional.cosine_similarity(
            polar_express(stack).flatten(1), (left @ right).flatten(1)
        ).min()
        > 0.98
    )


def test_nanochats_muon_moves_a_tall_matrix_by_more():
    torch.manual_seed(0)
    tall, square = (torch.nn.Parameter(torch.zeros(rows, 4)) for rows in (16, 4))
    for each in (tall, square):
        each.grad = torch.randn_like(each)
    ChatMuon([tall, square], dtype=torch.float32, compiled=False).step()
    # Directions of one norm, sqrt(4), and a rate that is sqrt(rows / columns) times as high.
    assert square.detach().norm() == pytest.approx(0.02 * 2, rel=1e-4)
    assert tall.detach().norm() == pytest.approx(0.02 * 2 * 2, rel=1e-4)


def test_nanochats_settings_follow_its_schedule():
    matrix, other = torch.nn.Parameter(torch.zeros(4, 4)), torch.nn.Parameter(torch.zeros(4))
    muon = ChatMuon([matrix], dtype=torch.float32, compiled=False)
    schedule = ChatSchedule([muon, torch.optim.AdamW([other], lr=0.1, weight_decay=0.01)])
    group, (adamw,) = muon.param_groups[0], schedule._peaks[1:]

    def schedule_at(progress: float) -> tuple[float, float, float]:
        schedule.settle(progress)
        return group["lr"] / 0.02, group["momentum"], group["weight_decay"] / 0.28

    assert schedule_at(0.01) == pytest.approx((0.5, 0.856, 0.5 + 0.5 * math.cos(0.01 * math.pi)))
    assert schedule_at(0.1) == pytest.approx((1.0, 0.91, 0.5 + 0.5 * math.cos(0.1 * math.pi)))
    assert schedule_at(0.35) == pytest.approx((1.0, 0.97, 0.5 + 0.5 * math.cos(0.35 * math.pi)))
    assert schedule_at(1.0) == pytest.approx((0.05, 0.90, 0.0))
    assert adamw[0]["lr"] == pytest.approx(0.1 * 0.05)
    assert adamw[0]["weight_decay"] == 0.01


def test_without_transformers_the_other_ways_are_measured(monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.step.find_spec", lambda name: None)
    ways = all_ways(torch.float32)
    assert {"ours", "nanochat", "nanoGPT, fp32"} <= ways.keys()
    assert not any("Trainer" in name for name in ways)
    assert "transformers and accelerate not installed" in capsys.readouterr().err


def test_nanogpt_is_of_our_size_and_each_counts_its_own_work():
    load = work()
    own, palm = parameter_count(TINY).total, flops_per_token(TINY, load.seq_len)
    gpt, chat = nanogpt(load), nanochat(load)
    assert gpt.parameters == pytest.approx(own, rel=0.02)  # positions weigh more in a tiny model
    assert gpt.flops_per_token == palm
    matrices = TINY.num_hidden_layers * 12 * TINY.hidden_size**2
    head = TINY.vocab_size * TINY.hidden_size
    attention = 12 * TINY.num_hidden_layers * TINY.hidden_size * load.seq_len
    assert chat.parameters == matrices + 2 * head + 2 * TINY.num_hidden_layers
    assert chat.flops_per_token == 6 * (matrices + head) + attention


def test_every_way_is_compared_with_ours_of_a_like_optimizer_in_its_own_round():
    muon = OptimizationConfig(optimizer=OptimizerConfig(name="muon"))
    ways = {
        "ours": our_way,
        "ours, Muon": partial(our_way, optimization=muon),
        "nanogpt": nanogpt,
        "nanochat": nanochat,
    }
    tallies, rates = measure(work(steps=3), ways, rounds=2)
    assert len(rates) == 2
    assert tallies["ours"].to_ours == [1.0, 1.0]
    # nanochat trains with Muon, too.
    like = {"ours, Muon": "ours", "nanogpt": "ours", "nanochat": "ours, Muon"}
    for name, own in like.items():
        peer, ours = tallies[name], tallies[own]
        wanted = [o / p for o, p in zip(ours.tokens_per_s, peer.tokens_per_s, strict=True)]
        assert peer.to_ours == pytest.approx(wanted)
    # Not below 1 for sure: the products are measured in another moment of a busy machine.
    assert [tally.recompiles for tally in tallies.values()] == [0] * 4
    assert all(share > 0 for tally in tallies.values() for share in tally.share)


def test_a_way_that_compiled_anew_is_told_in_the_table_and_fails_the_benchmark(
    monkeypatch, capsys, tmp_path
):
    """Two rounds in each of two tables."""

    def ours(load):
        return StepRun("ours", 1, 1, step_s=[1.0], recompiles=3)

    monkeypatch.setattr(step, "all_ways", lambda dtype: {"ours": ours})
    words = ["--rounds", "2", "--threads", str(torch.get_num_threads()), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["step", *words])
    with pytest.raises(SystemExit) as left:
        step.main()
    assert (
        "graphs after the first update in ours (nano, 8 x 256, seq 256), ours (" in left.value.code
    )
    assert capsys.readouterr().out.count("| 1.00 | 6 |") == 2
    (path,) = tmp_path.glob("*.json")
    assert [one["ways"]["ours"]["recompiles"] for one in json.loads(path.read_text())] == [6, 6]
