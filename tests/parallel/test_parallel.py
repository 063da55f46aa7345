"""Two ranks compute what one does, and each knows who it is."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.model.tiny import model_with_norms, shape
from tests.parallel.ranks import CPU, answers, gradients_apart, one_update, scored, shared
from tests.train.world import World, free_port
from yxanul.config.schema import ComputeConfig
from yxanul.errors import InfrastructureError, MissingExtraError
from yxanul.parallel import processes
from yxanul.parallel.processes import (
    ALONE,
    Processes,
    joined_processes,
    local_rank,
    naming_lost_ranks,
)
from yxanul.parallel.wrapping import refuse_missing_engine, wrap_model
from yxanul.runfolder.supervised import VARIABLE, read_note

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory) -> list[dict]:
    """What two real processes found: the environment is the one that torchrun gives them."""
    out = tmp_path_factory.mktemp("ranks")
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.parallel.ranks", str(out)],
            cwd=ROOT,
            env={
                **os.environ,
                **told,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "PYTHONPATH": path,
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
    return [
        {
            **json.loads((out / f"{r}.json").read_text()),
            "moments": load_file(out / f"{r}.safetensors"),
        }
        for r in range(2)
    ]


def test_two_ranks_have_the_loss_and_gradients_of_one_with_all_rows(two_ranks):
    wanted, moments = one_update(ALONE, micro_batch=4)
    for rank in two_ranks:
        assert rank["loss"] == pytest.approx(wanted["loss"], rel=1e-6)
        assert rank["grad_norm"] == pytest.approx(wanted["grad_norm"], rel=1e-6)
        assert rank["moments"].keys() == moments.keys()
        for name, moment in moments.items():
            apart = np.abs(rank["moments"][name] - moment).max()
            assert apart < 1e-6 * np.abs(moment).max() + 1e-9, name


def test_all_ranks_hold_the_same_gradients_bitwise(two_ranks):
    first, second = (rank["moments"] for rank in two_ranks)
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_gradients_of_ranks_lie_in_the_buckets_of_their_exchange_and_nowhere_else(two_ranks):
    before, apart, dropped, again = gradients_apart(ALONE)
    assert before == dropped == 0
    assert apart == again > 2
    for rank in two_ranks:
        assert all(1 <= pieces <= 2 for pieces in rank["apart"]), rank["apart"]


def test_ranks_know_who_they_are_and_answer_alike(two_ranks):
    assert [rank["rank"] for rank in two_ranks] == [0, 1]
    assert [rank["is_main"] for rank in two_ranks] == [True, False]
    for rank in two_ranks:
        assert rank["world_size"] == 2
        assert rank["total"] == 3.0
        assert rank["last_says_yes"] is True
        assert rank["nobody"] is False
        assert rank["largest"] == 1.0
        assert rank["smallest"] == 2**16


def test_what_ranks_do_not_agree_on_is_named_by_all_of_them(two_ranks):
    for rank in two_ranks:
        assert "do not agree on two: rank 1 differs from rank 0 " in rank["disagreement"]
        assert (
            f"(long: {'0' * 40} on rank 0, {'1' * 40} on rank 1; "
            "of rank 0: None on rank 0, nothing on rank 1; last: 0 on rank 0, 1 on rank 1; 1 more)"
        ) in rank["disagreement"]


def test_what_one_rank_refuses_all_refuse_with_its_words_and_code(two_ranks):
    for rank in two_ranks:
        assert rank["refusals"] == {
            "none": None,
            "last": ["ConfigError", 30, "rank 1: é cannot be here"],
            "first": ["ConfigError", 30, "rank 0: é cannot be here"],
            "all": ["ConfigError", 30, "é cannot be here"],
        }


@pytest.mark.parametrize(
    ("what", "graphs"),
    # A graph of a block and one of the last norm; a whole model is cut where a bucket is full, so
    # that its exchange begins before its backward pass has ended.
    [("block", 2), ("model", 2), ("recomputing model", 2)],
)
def test_ranks_compile_blocks_whole_and_models_in_parts_and_train_alike(two_ranks, what, graphs):
    for rank in two_ranks:
        compiled = rank["compiled"][what]
        assert compiled["graphs"] == graphs
        assert compiled["loss"] == pytest.approx(rank["loss"], rel=1e-6)
        assert compiled["grad_norm"] == pytest.approx(rank["grad_norm"], rel=1e-6)


def test_a_norm_that_is_wrong_on_one_rank_skips_the_step_on_all(two_ranks):
    for rank in two_ranks:
        assert "the gradient norm (inf) is not finite" in rank["failing"]["skipped"]
        assert rank["failing"]["hardware"] is None
    assert two_ranks[0]["failing"] == two_ranks[1]["failing"]


def test_work_of_the_main_rank_is_done_by_all_and_comes_back_in_order(two_ranks):
    alone, (main, other) = shared(ALONE), (told["shared"] for told in two_ranks)
    for items in ("[]", "[5]", "[0, 1, 2, 3, 4, 5, 6, 7, 8]"):
        assert main[items] == alone[items]
    assert main["[0, 13]"] == main["[13, 0]"] == "NumericsError: 13 is not finite"
    # Of its own rank the error itself, of another one what it was.
    assert main["[17, 0]"] == "RuntimeError: 17 broke the machine"
    assert main["[0, 17]"] == (
        "InfrastructureError: process 2 of 2: RuntimeError: 17 broke the machine"
    )
    assert other == {}


def test_two_ranks_score_what_one_does(two_ranks):
    alone, main = scored(ALONE), two_ranks[0]["scored"]
    assert main["documents"] == pytest.approx(alone["documents"], rel=1e-5)
    for ours, theirs in zip(main["likelihoods"], alone["likelihoods"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    assert main["texts"] == alone["texts"]
    assert main["gave_up"]
    assert two_ranks[1]["scored"] == {}


def test_a_process_alone_joins_nothing_and_is_wrapped_in_nothing(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with joined_processes(CPU) as me:
        assert me == ALONE
        assert not torch.distributed.is_initialized()
        assert answers(me)["total"] == 1.0
        assert answers(me)["last_says_yes"] is True
        assert math.isnan(me.largest(torch.tensor(math.nan)))
        me.barrier()
        model = model_with_norms(shape())
        assert wrap_model(model, ComputeConfig(), processes=me, device=CPU).module is model
    assert local_rank() == 0


ALONE_OF_TWO = """
import torch
from yxanul.parallel import processes
processes._MEETING_S = 1.0
with processes.joined_processes(torch.device("cpu")):
    pass
"""


def test_a_rank_that_never_meets_another_leaves_and_says_so(tmp_path):
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    ranks = {**told, "RANK": "0", "LOCAL_RANK": "0", "PYTHONPATH": "src"}
    note = tmp_path / "note"
    done = subprocess.run(
        [sys.executable, "-c", ALONE_OF_TWO],
        cwd=ROOT,
        env={**os.environ, **ranks, VARIABLE: str(note)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 11, done.stderr
    assert "process 1 of 2 reached no other one within 1 s" in done.stderr
    assert read_note(note)["code"] == 11


def test_others_wait_for_the_main_rank_however_long_and_hear_that_it_stops(two_ranks):
    assert two_ranks[0]["awaited"] == [None, None]
    came, stopped = two_ranks[1]["awaited"]
    assert came is None
    assert stopped == "the main process stopped before it is never said; it says why"


def test_a_main_rank_that_stops_as_soon_as_it_has_come_was_there(monkeypatch):
    class Store:
        """The main rank says its word and stops between one look and the next."""

        said: frozenset[str] = frozenset()

        def check(self, names):
            found = names[0] in self.said
            self.said = frozenset({"yxanul/it is said", processes._STOPS})
            return found

    store = Store()
    monkeypatch.setattr(processes, "_store", lambda: store)
    Processes(rank=1, world_size=2).await_main("it is said")


KEEPER = """
import sys
import torch.distributed as dist

store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
print(store.port, flush=True)
sys.stdin.read()
"""


def test_who_waits_for_the_main_rank_says_so_when_the_store_of_words_dies(monkeypatch):
    """It lies with the main rank, or with the first machine's torchrun."""
    keeper = subprocess.Popen(
        [sys.executable, "-c", KEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with keeper:
        port = int(keeper.stdout.readline())
        store = torch.distributed.TCPStore("127.0.0.1", port, wait_for_workers=False)

        def die(_seconds: float) -> None:
            keeper.kill()
            keeper.wait()

        monkeypatch.setattr(processes, "_store", lambda: store)
        monkeypatch.setattr(processes.time, "sleep", die)
        me = Processes(rank=1, world_size=2)
        with (
            pytest.raises(InfrastructureError, match="process 2 of 2 lost another one"),
            naming_lost_ranks(me),
        ):
            me.await_main("it is never said")


def test_an_engine_that_is_not_there_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("yxanul.parallel.wrapping.find_spec", lambda name: None)
    refuse_missing_engine(ComputeConfig())
    with pytest.raises(MissingExtraError, match=r"yxanul\[deepspeed\]"):
        refuse_missing_engine(ComputeConfig(engine="deepspeed"))


@pytest.mark.slow
def test_a_rank_whose_main_one_refuses_says_so_in_one_sentence(tmp_path):
    """The main rank alone reads the sets of skills, and one is not there."""
    world = World.create(tmp_path)
    skills = 'evaluation.skills=[{"task": "triviaqa", "margin": 0.5}]'
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    ranks = [
        world.start("run", "run", *words, **told, RANK=str(rank), LOCAL_RANK=str(rank))
        for rank, words in enumerate(2 * [("--bench_dir", str(tmp_path), "--set", skills)])
    ]
    try:
        ends = [process.communicate(timeout=120)[1].strip().splitlines() for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    assert [process.returncode for process in ranks] == [30, 11]
    assert "triviaqa" in ends[0][-1]
    assert "process 2 of 2 lost another one of this run" in ends[1][-1]
    assert not any("Traceback" in line for line in ends[1])
