"""Disk and memory: what is there is compared with what the plan needs."""

import os
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.hardware.cards import NOT_UP, unused
from tests.train.world import write_configs
from yxanul.config.load import dump_config, load_config
from yxanul.config.schema import RunConfig
from yxanul.curriculum.changes import StageChanges
from yxanul.curriculum.stages import longest_seq_len, plan_stages
from yxanul.errors import BrokenDiskError, DiskError
from yxanul.hardware.choices import freeze_compute
from yxanul.plan.memory import memory
from yxanul.plan.storage import (
    checkpoint_bytes,
    disk_bytes,
    kept_checkpoint_bytes,
    ram_bytes,
    rollbacks_bytes,
    saving_bytes,
    shard_bytes,
)
from yxanul.preflight import flight, space
from yxanul.preflight.space import look_at_disk, look_at_memory
from yxanul.preflight.standing import Progress, read_progress
from yxanul.runfolder.checkpoints import CheckpointInfo, checkpoint_name
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import AttemptStart, begin_attempt
from yxanul.runfolder.rows import append_row
from yxanul.runfolder.saving import save_checkpoint
from yxanul.runfolder.verdicts import write_decision
from yxanul.train.probing.probes import with_compute
from yxanul.units import MiB, format_bytes

ROOT = Path(__file__).parents[2]
Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(space, "_TRIAL_BYTES", space._BLOCK_BYTES)


@pytest.fixture
def tiny(tmp_path) -> RunConfig:
    place = write_configs(tmp_path / "configs")
    return load_config(place, overrides=["data.source=texts"])


@pytest.fixture
def disk_of(monkeypatch):
    """Return a function that makes every disk have so many bytes free."""

    def set_free(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free, 0, free))

    return set_free


def new(config: RunConfig) -> Progress:
    return Progress(plan_stages(config))


def needs(config: RunConfig, folder: RunFolder, progress: Progress) -> dict[str, Any]:
    """Return the figures of a disk for a run whose data lies there."""
    found = look_at_disk(config, folder, has_data=True, progress=progress)
    assert found.value is not None
    return found.value


def test_a_disk_with_room_passes_and_keeps_nothing(tiny, tmp_path):
    found = look_at_disk(
        tiny, RunFolder(tmp_path / "runs" / "one"), has_data=True, progress=new(tiny)
    )
    assert found.state == "pass", found.why
    assert found.value["needed_bytes"] == kept_checkpoint_bytes(tiny, is_lengthened=False)
    assert found.value["write_bytes_per_s"] > 0
    seconds = checkpoint_bytes(tiny) / found.value["write_bytes_per_s"]
    assert found.value["checkpoint_s"] == pytest.approx(seconds)
    assert [path.name for path in tmp_path.iterdir()] == ["configs"]


def test_a_disk_that_is_too_small_fails_with_32_and_says_both_sizes(disk_of, tmp_path):
    plan = load_config(ROOT / "configs")
    kept = kept_checkpoint_bytes(plan, is_lengthened=False)
    disk_of(kept + shard_bytes(plan) - 1)
    found = look_at_disk(plan, RunFolder(tmp_path), has_data=False, progress=new(plan))
    assert (found.state, found.code) == ("fail", DiskError.exit_code)
    assert f"the run needs {format_bytes(kept + shard_bytes(plan))}" in found.why
    assert "larger disk" in found.why
    # Shards that lie prepared elsewhere need no room here.
    assert (
        look_at_disk(plan, RunFolder(tmp_path), has_data=True, progress=new(plan)).state == "warn"
    )


def test_a_disk_that_only_gates_may_fill_is_a_warning_that_says_so(disk_of, tmp_path):
    plan = load_config(ROOT / "configs")
    disk_of(disk_bytes(plan) - 1)
    found = look_at_disk(plan, RunFolder(tmp_path), has_data=False, progress=new(plan))
    assert (found.state, found.code) == ("warn", 0)
    assert "too small for stages that are all lengthened" in found.why
    assert f"up to {format_bytes(disk_bytes(plan))} as gates lengthen" in found.why
    assert f"{format_bytes(rollbacks_bytes(plan))} more as they begin them anew" in found.why
    assert found.value["needed_bytes"] + found.value["extensions_bytes"] == disk_bytes(plan)
    assert found.value["rollbacks_bytes"] == rollbacks_bytes(plan)
    disk_of(disk_bytes(plan))
    assert (
        look_at_disk(plan, RunFolder(tmp_path), has_data=False, progress=new(plan)).state == "pass"
    )


def begun(config: RunConfig, folder: RunFolder, stage: int, stage_step: int) -> Progress:
    """Let the newest row of a run's first attempt stand there, as its rows tell it then."""
    plan = plan_stages(config)[stage]
    folder.create()
    begin_attempt(folder.lineage, AttemptStart(0, 0, None, "new"))
    place = {"step": plan.first_step + stage_step, "attempt": 0, "stage": plan.name}
    append_row(folder.metrics, {**place, "stage_step": stage_step})
    return read_progress(config, folder, mirror=None)


def save(folder: RunFolder, step: int, attempt: int, *, permanent: bool) -> int:
    """Save a small checkpoint; return its bytes."""
    place = folder.checkpoints / checkpoint_name(step, attempt)
    info = CheckpointInfo(place, step, attempt, step, "one", permanent=permanent, parent=None)
    tensors = {"weight": np.zeros(step, np.float32)}
    save_checkpoint(folder.checkpoints, info, model=tensors, optimizer=tensors, state={})
    return sum(file.stat().st_size for file in place.iterdir())


def test_what_later_checkpoints_take_the_place_of_is_room_for_them(tiny, tmp_path):
    """What is kept for good stays, and so does what an attempt that was left had last."""
    folder = RunFolder(tmp_path / "run")
    progress = begun(tiny, folder, 0, 8)
    save(folder, 6, 0, permanent=False)
    save(folder, 8, 0, permanent=True)
    begin_attempt(folder.lineage, AttemptStart(1, 8, checkpoint_name(8, 0), "a rollback"))
    save(folder, 12, 1, permanent=True)
    (folder.checkpoints / "latest").write_text("nothing that a run needs")
    needed = needs(tiny, folder, progress)["needed_bytes"]
    newest = save(folder, 14, 1, permanent=False)
    assert needs(tiny, folder, progress)["needed_bytes"] == needed - newest


def test_what_extensions_have_kept_is_not_needed_again(tmp_path):
    plan, folder = load_config(ROOT / "configs"), RunFolder(tmp_path / "run")
    progress = begun(plan, folder, 1, 0)
    fresh = needs(plan, folder, progress)
    changes = StageChanges(extensions=2)
    longer = replace(progress, course=plan_stages(plan, {plan.stages[1].name: changes}))
    told = needs(plan, folder, longer)
    # A fifth more of tokens in the second and largest stage, one of them saved for good a billion.
    stage = plan.stages[1]
    more = 2 * stage.gate.extension.fraction * stage.training.total_tokens
    saved = more / plan.optimization.checkpoint.permanent_every_tokens
    added = told["needed_bytes"] - fresh["needed_bytes"]
    assert added / checkpoint_bytes(plan) == pytest.approx(saved, abs=1)
    assert told["extensions_bytes"] < fresh["extensions_bytes"]


def test_a_judged_stage_needs_the_room_of_the_budget_that_it_had(tmp_path):
    """Its last row is the run's newest, and the settings would have it train 60 times as long."""
    plan, folder = load_config(ROOT / "configs"), RunFolder(tmp_path / "run")
    first = plan.stages[0]
    done = 400 * first.training.batch_tokens
    begun(plan, folder, 0, 400)
    shorter = first.model_copy(
        update={"training": first.training.model_copy(update={"total_tokens": done})}
    )
    folder.config.write_text(dump_config(plan.model_copy(update={"stages": (shorter,)})))
    scores = {"why": "a test", "bpb_before": None, "bpb_after": None, "verdict": "pass"}
    write_decision(folder, {"stage": first.name, "attempt": 0, "step": 400, **scores}, checks=[])
    progress = read_progress(plan, folder, mirror=None)
    told = needs(plan, folder, progress)
    rest = plan.model_copy(update={"stages": (shorter, *plan.stages[1:])})
    kept = kept_checkpoint_bytes(rest, is_lengthened=False, done_tokens=done)
    assert told["needed_bytes"] == kept
    assert told["rollbacks_bytes"] == rollbacks_bytes(rest)
    assert kept < kept_checkpoint_bytes(plan, is_lengthened=False, done_tokens=done)


@pytest.mark.parametrize("is_here", [False, True])
def test_of_a_run_that_goes_on_only_what_is_left_is_needed(disk_of, tmp_path, is_here):
    """One checkpoint was brought from its mirror, or will be: the others stay there."""
    plan = load_config(ROOT / "configs")
    last = plan_stages(plan)[-1]
    half = last.total_steps // 2
    folder = RunFolder(tmp_path / "run")
    progress = begun(plan, folder if is_here else RunFolder(tmp_path / "there"), last.index, half)
    checkpoints = plan.optimization.checkpoint
    left = (last.total_steps - half) * last.config.training.batch_tokens
    # The newest and one in writing, the stage's end, and those by tokens.
    wanted = (checkpoints.keep + 2 + left // checkpoints.permanent_every_tokens) * checkpoint_bytes(
        plan
    )
    if is_here:
        wanted -= save(folder, last.first_step + half, 0, permanent=False)
    disk_of(3 * wanted)  # with room for what gates may add
    found = look_at_disk(plan, folder, has_data=True, progress=progress)
    assert (found.state, found.value["needed_bytes"]) == ("pass", wanted)
    fresh = look_at_disk(plan, RunFolder(tmp_path / "new"), has_data=True, progress=new(plan))
    assert fresh.state == "fail"


def test_what_a_running_run_deletes_meanwhile_is_not_held(tiny, tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    held = save(folder, 8, 0, permanent=False)
    old = folder.checkpoints / checkpoint_name(8, 0) / "old"
    old.write_bytes(bytes(1000))
    listed = os.walk

    def walk(place):
        for found in listed(place):
            old.unlink(missing_ok=True)
            yield found

    monkeypatch.setattr(os, "walk", walk)
    kept = kept_checkpoint_bytes(tiny, is_lengthened=False)
    assert needs(tiny, folder, new(tiny))["needed_bytes"] == kept - held


def test_a_slow_disk_is_told_within_the_time_of_the_check(tiny, tmp_path, monkeypatch):
    """It takes 1 MB a second when it is synced, and until then everything at once."""
    rate, disk = 1e6, SimpleNamespace(now=0.0, synced=0)

    def sync(handle: int) -> None:
        assert not list((tmp_path / "runs").iterdir())  # nothing to leave behind, however it ends
        size = os.fstat(handle).st_size
        disk.now += (size - disk.synced) / rate
        disk.synced = size

    monkeypatch.setattr(space, "_TRIAL_BYTES", 256 * MiB)
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(space, "time", SimpleNamespace(perf_counter=lambda: disk.now))
    (tmp_path / "runs").mkdir()
    folder = RunFolder(tmp_path / "runs" / "one")
    found = look_at_disk(tiny, folder, has_data=True, progress=new(tiny))
    assert disk.synced > 0
    assert disk.now < flight._LIMIT_S
    assert found.value["write_bytes_per_s"] == pytest.approx(rate)


def test_shards_of_unknown_size_are_told(tiny, tmp_path):
    assert (
        "the shards come on top"
        in look_at_disk(tiny, RunFolder(tmp_path), has_data=False, progress=new(tiny)).why
    )


def test_a_disk_slower_than_the_checkpoints_come_is_worth_a_warning(tiny, tmp_path):
    often = tiny.optimization.checkpoint.model_copy(update={"every_s": 1e-9})
    changed = tiny.optimization.model_copy(update={"checkpoint": often})
    config = tiny.model_copy(update={"optimization": changed})
    found = look_at_disk(config, RunFolder(tmp_path), has_data=True, progress=new(config))
    assert found.state == "warn"
    assert "checkpoint.every_s" in found.why


@pytest.mark.parametrize(("fault", "error"), [("full", DiskError), ("broken", BrokenDiskError)])
def test_a_disk_that_refuses_the_trial_is_named(tiny, tmp_path, monkeypatch, fault, error):
    monkeypatch.setenv("YXANUL_FAILPOINTS", f"preflight.writing={fault}")
    with pytest.raises(error, match="the disk"):
        look_at_disk(tiny, RunFolder(tmp_path / "run"), has_data=True, progress=new(tiny))
    assert [path.name for path in tmp_path.iterdir()] == ["configs"]


def test_memory_for_every_process_is_needed(tiny, monkeypatch):
    monkeypatch.setattr(space, "pick_device", lambda: torch.device("cuda", 0))
    found = look_at_memory(tiny, processes=1)
    assert found.state == "pass"
    assert found.value["needed_bytes"] == ram_bytes(tiny, processes=1)
    assert found.why.endswith("to load a checkpoint")
    found = look_at_memory(load_config(ROOT / "configs"), processes=10_000)
    assert (found.state, found.code) == ("fail", 30)
    assert "fewer processes" in found.why


@pytest.mark.parametrize("short", [0, 1])
def test_on_a_cpu_an_update_needs_main_memory_too(monkeypatch, short):
    """Of both processes, in the choices that a run makes there, while a checkpoint is saved."""
    plan, cpu = load_config(ROOT / "configs"), torch.device("cpu")
    chosen = freeze_compute(
        plan.optimization.compute, cpu, longest_seq_len=longest_seq_len(plan.stages)
    )
    needed = 2 * memory(with_compute(plan, chosen), processes=2).total + saving_bytes(plan)
    assert needed > ram_bytes(plan, processes=2)
    monkeypatch.setattr(space, "pick_device", lambda: cpu)
    monkeypatch.setattr(space, "memory_bytes", lambda _: needed - short)
    found = look_at_memory(plan, processes=2)
    assert found.value["needed_bytes"] == needed
    assert found.state == ("fail" if short else "pass")
    assert f"need {format_bytes(needed)} to train and save" in found.why


def test_no_main_memory_is_asked_for_an_update_beside_a_card_that_is_not_up(
    tiny, tmp_path, monkeypatch
):
    unused(monkeypatch, tmp_path / "dev", said=NOT_UP)
    found = look_at_memory(tiny, processes=1)
    assert found.value["needed_bytes"] == ram_bytes(tiny, processes=1)


@pytest.mark.parametrize(
    "asked",
    ["attention=cudnn", "flash_attention_3=true", "fp8=ffn", "compile=block"],
)
def test_a_setting_that_a_cpu_cannot_do_hides_no_lack_of_memory(monkeypatch, asked):
    """`features` tells it."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(space, "pick_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(space, "memory_bytes", lambda _: 1)
    config = load_config(ROOT / "configs", overrides=[f"compute.{asked}"])
    found = look_at_memory(config, processes=1)
    assert (found.state, found.value["usable_bytes"]) == ("fail", 1)
    assert found.value["needed_bytes"] > ram_bytes(config, processes=1)
    assert "rent a machine with more memory" in found.why
