"""Disk and memory: what is there is compared with what the plan needs."""

import os
import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.train.world import write_configs
from yxanul.config.load import load_config
from yxanul.config.schema import RunConfig
from yxanul.curriculum.changes import StageChanges
from yxanul.curriculum.stages import longest_seq_len, plan_stages
from yxanul.errors import BrokenDiskError, DiskError
from yxanul.hardware.choices import freeze_compute
from yxanul.plan.memory import memory
from yxanul.plan.parameters import parameter_count
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
from yxanul.preflight.cost import Progress
from yxanul.preflight.space import look_at_disk, look_at_memory
from yxanul.runfolder.checkpoints import CheckpointInfo, checkpoint_name
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import AttemptStart, begin_attempt
from yxanul.runfolder.saving import save_checkpoint
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


def test_a_disk_with_room_passes_and_keeps_nothing(tiny, tmp_path):
    found = look_at_disk(tiny, RunFolder(tmp_path / "runs" / "one"), has_data=True)
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
    found = look_at_disk(plan, RunFolder(tmp_path), has_data=False)
    assert (found.state, found.code) == ("fail", DiskError.exit_code)
    assert f"the run needs {format_bytes(kept + shard_bytes(plan))}" in found.why
    assert "larger disk" in found.why
    # Shards that lie prepared elsewhere need no room here.
    assert look_at_disk(plan, RunFolder(tmp_path), has_data=True).state == "warn"


def test_a_disk_that_only_gates_may_fill_is_a_warning_that_says_so(disk_of, tmp_path):
    plan = load_config(ROOT / "configs")
    disk_of(disk_bytes(plan) - 1)
    found = look_at_disk(plan, RunFolder(tmp_path), has_data=False)
    assert (found.state, found.code) == ("warn", 0)
    assert "too small for stages that are all lengthened" in found.why
    assert f"up to {format_bytes(disk_bytes(plan))} as gates lengthen" in found.why
    assert f"{format_bytes(rollbacks_bytes(plan))} more as they begin them anew" in found.why
    assert found.value["needed_bytes"] + found.value["extensions_bytes"] == disk_bytes(plan)
    assert found.value["rollbacks_bytes"] == rollbacks_bytes(plan)
    disk_of(disk_bytes(plan))
    assert look_at_disk(plan, RunFolder(tmp_path), has_data=False).state == "pass"


def save(folder: RunFolder, step: int, attempt: int, *, permanent: bool) -> int:
    """Save a small checkpoint; return its bytes."""
    place = folder.checkpoints / checkpoint_name(step, attempt)
    info = CheckpointInfo(place, step, attempt, step, "one", permanent=permanent, parent=None)
    tensors = {"weight": np.zeros(step, np.float32)}
    save_checkpoint(folder.checkpoints, info, model=tensors, optimizer=tensors, state={})
    return sum(file.stat().st_size for file in place.iterdir())


def test_what_the_run_keeps_in_its_folder_is_not_needed_again(tiny, tmp_path):
    """Of an attempt that was left it keeps for good what lies before the place it went back to."""
    folder = RunFolder(tmp_path / "run")
    folder.create()
    save(folder, 6, 0, permanent=False)  # which no later one replaces
    kept_for_good = save(folder, 8, 0, permanent=True)
    save(folder, 12, 0, permanent=True)
    newest = save(folder, 12, 1, permanent=False)
    (folder.checkpoints / "latest").write_text("nothing that a run needs")
    begin_attempt(folder.lineage, AttemptStart(0, 0, None, "new"))
    begin_attempt(folder.lineage, AttemptStart(1, 8, checkpoint_name(8, 0), "a rollback"))
    found = look_at_disk(tiny, folder, has_data=True)
    kept = kept_checkpoint_bytes(tiny, is_lengthened=False)
    assert found.value["needed_bytes"] == kept - kept_for_good - newest


def test_what_extensions_keep_is_not_taken_for_what_later_stages_will(tmp_path):
    """Else a run whose stages were lengthened seems to need less, and at last nothing."""
    plan, folder = load_config(ROOT / "configs"), RunFolder(tmp_path / "run")
    folder.create()
    begin_attempt(folder.lineage, AttemptStart(0, 0, None, "new"))
    fresh = look_at_disk(plan, folder, has_data=True).value
    changes = StageChanges(extensions=2).as_row()
    name = plan.stages[1].name
    start = AttemptStart(1, 0, None, "an extension", stage=name, changes=changes)
    begin_attempt(folder.lineage, start)
    longer = look_at_disk(plan, folder, has_data=True).value
    # Two more ends, and a fifth more of tokens in the second and largest stage.
    kept = kept_checkpoint_bytes(plan, is_lengthened=False, extended={name: 2})
    assert longer["needed_bytes"] == kept
    assert kept >= fresh["needed_bytes"] + 2 * checkpoint_bytes(plan)
    assert longer["extensions_bytes"] < fresh["extensions_bytes"]


def test_of_a_run_at_its_mirror_only_what_is_left_is_needed(disk_of, tmp_path):
    """One checkpoint is brought from there; what it has kept so far stays there."""
    plan = load_config(ROOT / "configs")
    course = plan_stages(plan)
    last = course[-1]
    half = last.total_steps // 2
    there = Progress(course, last.index, half)
    checkpoints = plan.optimization.checkpoint
    left = (last.total_steps - half) * last.config.training.batch_tokens
    # The newest and one in writing, the stage's end, and those by tokens.
    wanted = (checkpoints.keep + 2 + left // checkpoints.permanent_every_tokens) * checkpoint_bytes(
        plan
    )
    disk_of(2 * wanted)
    folder = RunFolder(tmp_path)
    found = look_at_disk(plan, folder, has_data=True, there=there)
    assert (found.state, found.value["needed_bytes"]) == ("pass", wanted)
    new = look_at_disk(plan, folder, has_data=True, there=Progress(course))
    assert new.value == {
        **look_at_disk(plan, folder, has_data=True).value,
        "write_bytes_per_s": new.value["write_bytes_per_s"],
        "checkpoint_s": new.value["checkpoint_s"],
    }
    assert new.state == "fail"


def test_what_a_running_run_deletes_meanwhile_is_not_held(tiny, tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    checkpoint = folder.checkpoints / checkpoint_name(8, 0)
    checkpoint.mkdir()
    old, new = checkpoint / "old", checkpoint / "new"
    old.write_bytes(bytes(1000))
    new.write_bytes(bytes(500))
    listed = os.walk

    def walk(place):
        for found in listed(place):
            old.unlink(missing_ok=True)
            yield found

    monkeypatch.setattr(os, "walk", walk)
    found = look_at_disk(tiny, folder, has_data=True)
    assert found.value["needed_bytes"] == kept_checkpoint_bytes(tiny, is_lengthened=False) - 500


def test_a_slow_disk_is_told_within_the_time_of_the_check(tiny, tmp_path, monkeypatch):
    """It takes 1 MB a second when it is synced, and until then everything at once."""
    rate, disk = 1e6, SimpleNamespace(now=0.0, synced=0)

    def sync(handle: int) -> None:
        size = os.fstat(handle).st_size
        disk.now += (size - disk.synced) / rate
        disk.synced = size

    monkeypatch.setattr(space, "_TRIAL_BYTES", 256 * MiB)
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(space, "time", SimpleNamespace(perf_counter=lambda: disk.now))
    found = look_at_disk(tiny, RunFolder(tmp_path), has_data=True)
    assert disk.synced > 0
    assert disk.now < flight._LIMIT_S
    assert found.value["write_bytes_per_s"] == pytest.approx(rate)


def test_shards_of_unknown_size_are_told(tiny, tmp_path):
    assert "the shards come on top" in look_at_disk(tiny, RunFolder(tmp_path), has_data=False).why


def test_a_disk_slower_than_the_checkpoints_come_is_worth_a_warning(tiny, tmp_path):
    often = tiny.optimization.checkpoint.model_copy(update={"every_s": 1e-9})
    changed = tiny.optimization.model_copy(update={"checkpoint": often})
    config = tiny.model_copy(update={"optimization": changed})
    found = look_at_disk(config, RunFolder(tmp_path), has_data=True)
    assert found.state == "warn"
    assert "checkpoint.every_s" in found.why


@pytest.mark.parametrize(("fault", "error"), [("full", DiskError), ("broken", BrokenDiskError)])
def test_a_disk_that_refuses_the_trial_is_named(tiny, tmp_path, monkeypatch, fault, error):
    monkeypatch.setenv("YXANUL_FAILPOINTS", f"preflight.writing={fault}")
    with pytest.raises(error, match="the disk"):
        look_at_disk(tiny, RunFolder(tmp_path / "run"), has_data=True)
    assert not list(tmp_path.glob(".preflight*"))


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
        plan.optimization.compute,
        plan.model,
        parameters=parameter_count(plan.model).total,
        device=cpu,
        longest_seq_len=longest_seq_len(plan.stages),
    )
    needed = 2 * memory(with_compute(plan, chosen), processes=2).total + saving_bytes(plan)
    assert needed > ram_bytes(plan, processes=2)
    monkeypatch.setattr(space, "pick_device", lambda: cpu)
    monkeypatch.setattr(space, "memory_bytes", lambda _: needed - short)
    found = look_at_memory(plan, processes=2)
    assert found.value["needed_bytes"] == needed
    assert found.state == ("fail" if short else "pass")
    assert f"need {format_bytes(needed)} to train and save" in found.why


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
