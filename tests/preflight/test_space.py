"""Disk and memory: what is there is compared with what the plan needs."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from tests.train.world import write_configs
from yxanul.config.load import load_config
from yxanul.config.schema import RunConfig
from yxanul.errors import BrokenDiskError, DiskError
from yxanul.plan.storage import checkpoint_bytes, disk_bytes, kept_checkpoint_bytes, ram_bytes
from yxanul.preflight import space
from yxanul.preflight.space import look_at_disk, look_at_memory
from yxanul.runfolder.layout import RunFolder
from yxanul.units import format_bytes

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
    assert found.value["needed_bytes"] == kept_checkpoint_bytes(tiny)
    assert found.value["write_bytes_per_s"] > 0
    seconds = checkpoint_bytes(tiny) / found.value["write_bytes_per_s"]
    assert found.value["checkpoint_s"] == pytest.approx(seconds)
    assert [path.name for path in tmp_path.iterdir()] == ["configs"]


def test_a_disk_that_is_too_small_fails_with_32_and_says_both_sizes(disk_of, tmp_path):
    plan = load_config(ROOT / "configs")
    disk_of(disk_bytes(plan) - 1)
    found = look_at_disk(plan, RunFolder(tmp_path), has_data=False)
    assert (found.state, found.code) == ("fail", DiskError.exit_code)
    assert f"the run needs {format_bytes(disk_bytes(plan))}" in found.why
    assert "larger disk" in found.why
    # Shards that lie prepared elsewhere need no room here.
    assert look_at_disk(plan, RunFolder(tmp_path), has_data=True).state == "warn"


def test_what_lies_in_the_run_folder_is_not_needed_again(tiny, tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    (folder.checkpoints / "old").write_bytes(bytes(1000))
    found = look_at_disk(tiny, folder, has_data=True)
    assert found.value["needed_bytes"] == kept_checkpoint_bytes(tiny) - 1000


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


def test_memory_for_every_process_is_needed(tiny):
    found = look_at_memory(tiny, processes=1)
    assert found.state == "pass"
    assert found.value["needed_bytes"] == ram_bytes(tiny, processes=1)
    found = look_at_memory(load_config(ROOT / "configs"), processes=10_000)
    assert (found.state, found.code) == ("fail", 30)
    assert "fewer processes" in found.why
