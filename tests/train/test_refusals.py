"""Devices that a run is refused on before its data is prepared, and one that fails then."""

import json
import types
from typing import cast

import pytest
import torch

from tests.hardware.cards import dying, foreign
from tests.train.world import (
    BATCH_TOKENS,
    STAGES,
    STEPS,
    World,
    finished_world,
    write_configs,
)
from yxanul.config.load import load_config
from yxanul.config.schema import ComputeConfig, OptimizationConfig, OptimizerConfig
from yxanul.curriculum.stages import plan_stages
from yxanul.errors import CorruptDataError, InfrastructureError, UsageError
from yxanul.hardware import device as device_room
from yxanul.hardware.device import DeviceKind, device_kind
from yxanul.runfolder.layout import RunFolder
from yxanul.train.loop import TrainingLoop
from yxanul.train.outward.trackers import Trackers
from yxanul.train.processes.agreement import refuse_unlike_devices
from yxanul.train.processes.machine import refuse_missing_card
from yxanul.train.run import start_run
from yxanul.train.running.session import Session
from yxanul.train.starting.request import RunRequest
from yxanul.train.updates.state import Position

CPU, CARD = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("pretend", "error", "said"),
    [
        (dying, InfrastructureError, "a card failed, .*CUDA driver initialization failed"),
        (foreign, UsageError, "has no kernels for it.*CUDA_VISIBLE_DEVICES= "),
    ],
)
def test_a_run_names_a_card_that_does_not_start_or_is_not_for_this_torch(
    tmp_path, monkeypatch, pretend, error, said
):
    world = World.create(tmp_path)
    pretend(monkeypatch)
    data, out = str(tmp_path / "texts"), tmp_path / "run"
    with pytest.raises(error, match=said):
        start_run(RunRequest(world.root / "configs", data=data, out=out))
    assert not out.exists()


def test_a_run_whose_later_stage_is_gone_trains_others_alone(tmp_path_factory):
    world = finished_world(tmp_path_factory, "stages")
    (world.root / "configs" / f"{STAGES[1]}.yaml").unlink()
    told = world.finish("run", "run", code=30).stderr
    assert f"was begun with the stages {', '.join(STAGES)}, and now they are {STAGES[0]};" in told
    assert "nothing is trained again" in world.finish("train", "run", "--stage", STAGES[0]).stderr


def test_no_stage_trains_the_steps_of_another(tmp_path):
    configs = write_configs(tmp_path / "configs")
    *_, later = plan_stages(load_config(configs, overrides=["data.source=texts"]))
    # What only a settings file that a person has edited in the run folder leads to.
    stands = Position("stage1b_gone", 4, STEPS + 4, (STEPS + 4) * BATCH_TOKENS, 0, 0)
    other_rank = types.SimpleNamespace(is_main=False, world_size=1)
    engine = types.SimpleNamespace(processes=other_rank, device=CPU)
    session = types.SimpleNamespace(engine=engine)
    loop = TrainingLoop(cast("Session", session), stands, Trackers(print))
    with pytest.raises(CorruptDataError, match=f"{later.name} begins at step {STEPS} after"):
        loop._visit_stage(later)


def optimization(name: str, **compute) -> OptimizationConfig:
    return OptimizationConfig(
        optimizer=OptimizerConfig(name=name), compute=ComputeConfig(**compute)
    )


@pytest.mark.parametrize(
    ("name", "compute", "device", "sums"),
    [
        ("muon", {}, "cuda", "Muon's products"),
        ("muon", {}, "cpu", "Muon's products"),
        ("adamw", {}, "cpu", "the norm of the gradients"),
        ("adamw", {}, "cuda", None),
        ("muon", {"zero1": True}, "cpu", None),
        ("adamw", {"zero1": True}, "cpu", None),
        ("adamw", {"engine": "deepspeed"}, "cpu", None),
    ],
)
def test_unlike_devices_are_refused_where_weights_would_drift_apart(name, compute, device, sums):
    asked = optimization(name, **compute)
    kinds = [DeviceKind(f"a {order}", device, order) for order in ("one", "one", "other")]
    refuse_unlike_devices(asked, kinds[:2])
    if sums is None:
        refuse_unlike_devices(asked, kinds)
        return
    with pytest.raises(UsageError) as refused:
        refuse_unlike_devices(asked, kinds)
    assert "(a one (one) on rank 0, a other (other) on rank 2)" in str(refused.value)
    assert f"which round {sums} differently" in str(refused.value)


def card(monkeypatch: pytest.MonkeyPatch, name: str, *, processors: int, major: int = 9) -> str:
    """Return how a card adds."""
    found = types.SimpleNamespace(major=major, minor=0, multi_processor_count=processors)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: name)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: found)
    kind = device_kind(CARD)
    assert kind.name == name
    return kind.order


def test_cards_of_one_chip_and_size_are_of_one_kind_whatever_their_names(monkeypatch):
    first = card(monkeypatch, "NVIDIA H100 80GB HBM3", processors=132)
    assert first == card(monkeypatch, "NVIDIA H100 SXM5 96GB", processors=132)
    assert first != card(monkeypatch, "NVIDIA H100 80GB HBM3", processors=114)
    assert first != card(monkeypatch, "NVIDIA H100 80GB HBM3", processors=132, major=10)


def test_cpus_of_one_name_that_add_in_vectors_of_other_lengths_are_of_two_kinds(monkeypatch):
    here = device_kind(CPU)
    assert here == device_kind(CPU)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "another")
    other = device_kind(CPU)
    assert (other.name, other.order == here.order) == (here.name, False)


@pytest.mark.parametrize(("flag", "is_alike"), [("avx512_fp16", False), ("vmscape", True)])
def test_a_cpus_kind_is_made_of_the_flags_that_kernels_are_chosen_by(monkeypatch, flag, is_alike):
    more = frozenset({*device_room.cpu_flags(), flag})
    less = more - {flag}
    orders = []
    for flags in (less, more):
        monkeypatch.setattr(device_room, "cpu_flags", lambda flags=flags: flags)
        orders.append(device_kind(CPU).order)
    assert (orders[0] == orders[1]) == is_alike


@pytest.mark.parametrize(
    ("shown", "cards", "refused"),
    [
        ("0,1,2,3,4,5,6,7", 8, []),
        ("0,1,2,3,4,5,6,7", 7, [0, 3, 7]),
        ("0,1,2,3,4,5,6", 7, [0, 3, 7]),  # as somebody names them who saw one fail
        ("5", 1, [3, 7]),  # which may be the process's own
    ],
)
def test_all_ranks_tell_that_a_card_is_missing_unless_each_may_see_its_own_alone(
    tmp_path, monkeypatch, shown, cards, refused
):
    """The main one alone is heard, and would wait for the last, which has no card."""
    last = {"device_type": "cuda", "world_size": 8}
    (tmp_path / "environment.json").write_text(json.dumps(last))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    found = []
    for rank in (0, 3, 7):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        try:
            refuse_missing_card(RunFolder(tmp_path))
        except InfrastructureError:
            found.append(rank)
    assert found == refused
