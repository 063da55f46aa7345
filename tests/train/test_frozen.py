"""What a run freezes at its start: threads before anything is tried, and for how many processes."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from tests.hardware.cards import pretend
from tests.train.world import write_configs
from yxanul.config.load import dump_config, load_config
from yxanul.config.schema import RunConfig, StageConfig
from yxanul.curriculum.course import read_frozen_config
from yxanul.errors import ConfigError
from yxanul.hardware import device as device_room
from yxanul.parallel.processes import ALONE, Processes
from yxanul.runfolder.durable import write_atomic, write_json
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import AttemptStart, begin_attempt
from yxanul.runfolder.verdicts import write_decision
from yxanul.train.probing import frozen
from yxanul.train.probing.frozen import freeze_config, keep_config, refuse_other_stages
from yxanul.train.probing.probes import with_compute
from yxanul.train.processes.machine import Machine

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(autouse=True)
def _threads_as_they_were():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def tiny(tmp_path: Path, *, threads: str = "null", precision: str = "fp32") -> RunConfig:
    place = tmp_path / "configs"
    if not place.exists():
        write_configs(place)
    compute = [f"compute.threads={threads}", f"compute.precision={precision}"]
    return load_config(place, overrides=["data.source=texts", *compute])


class Starts:
    """A run folder in which a run is begun, and gone on with, by some processes of 8 cores."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.said = RunFolder(root), []
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(device_room, "usable_cores", lambda: 8)
        self.folder.create()

    def start(self, config: RunConfig, *, processes: int, stage: str | None = None) -> int | None:
        """Freeze the settings as the main one of `processes`; return its threads."""
        self._monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        self.said.clear()
        voice = SimpleNamespace(say=self.said.append)
        place = Processes(rank=0, world_size=processes)
        # Where none exchanges anything one answers for all.
        self._monkeypatch.setattr(Processes, "anyone", lambda _self, flag, _device: flag)
        own = SimpleNamespace(processes=place, device=torch.device("cpu"), progress=voice)
        machine = cast("Machine", own)
        begun = freeze_config(config, self.folder, machine=machine, stage=stage)
        keep_config(begun, self.folder, machine=machine)
        found = begun.config
        if not self.folder.lineage.exists():
            begin_attempt(self.folder.lineage, AttemptStart(0, 0, None, "a test"))
        write_json(self.folder.environment, {"world_size": processes})
        assert torch.get_num_threads() == found.optimization.compute.threads
        return found.optimization.compute.threads

    @property
    def written(self) -> int | None:
        return read_frozen_config(self.folder).optimization.compute.threads


def test_another_number_of_processes_shares_the_cores_out_anew(tmp_path, monkeypatch):
    starts, config = Starts(tmp_path / "run", monkeypatch), tiny(tmp_path)
    assert starts.start(config, processes=2) == 4
    assert starts.start(config, processes=2) == 4
    assert starts.said == []
    assert starts.start(config, processes=1) == 8
    assert starts.said == [
        "a setting that may change differs from the run's: compute.threads: 4 -> 8"
    ]
    assert starts.start(config, processes=1) == starts.written == 8
    assert starts.said == []
    assert starts.start(config, processes=4) == starts.written == 2


def test_a_start_that_ends_before_it_tells_of_itself_leaves_no_wrong_threads(tmp_path, monkeypatch):
    starts, config = Starts(tmp_path / "run", monkeypatch), tiny(tmp_path)
    assert starts.start(config, processes=1) == 8
    assert starts.start(config, processes=2) == 4
    write_json(starts.folder.environment, {"world_size": 1})  # as it was before the second one
    assert starts.start(config, processes=1) == starts.written == 8
    assert starts.start(config, processes=2) == starts.written == 4


def test_threads_stay_where_their_number_is_asked_for_or_the_processes_are_as_many(
    tmp_path, monkeypatch
):
    asked = Starts(tmp_path / "asked", monkeypatch)
    for processes in (2, 1):
        assert asked.start(tiny(tmp_path, threads="3"), processes=processes) == 3
    open_ = Starts(tmp_path / "open", monkeypatch)
    assert open_.start(tiny(tmp_path), processes=2) == 4
    monkeypatch.setattr(device_room, "usable_cores", lambda: 16)  # another machine
    assert open_.start(tiny(tmp_path), processes=2) == 4


def test_what_nothing_read_may_be_left_out_of_a_run_that_was_begun_with_it(tmp_path, monkeypatch):
    """Its files are refused where they have it; an earlier version had taken them."""
    starts, config = Starts(tmp_path / "run", monkeypatch), tiny(tmp_path)
    first, *others = config.stages
    training = first.training.model_copy(update={"decay_fraction": 0.2})
    begun = (first.model_copy(update={"training": training}), *others)
    starts.start(config.model_copy(update={"stages": begun}), processes=1)
    starts.start(config, processes=1)
    key = f"{first.name}.training.decay_fraction"
    assert starts.said == [f"a setting that may change differs from the run's: {key}: 0.2 -> 0.3"]


@pytest.mark.fault(22)
def test_a_budget_stays_where_its_stage_is_settled_which_is_told_and_is_refused_elsewhere(
    tmp_path, monkeypatch
):
    """As with --num_epochs, which plans the one stage that it is given for."""
    starts, config = Starts(tmp_path / "run", monkeypatch), tiny(tmp_path)
    starts.start(config, processes=1)
    first = config.stages[0]
    had, name = first.training.total_tokens, first.name
    training = first.training.model_copy(update={"total_tokens": 2 * had})
    longer = (first.model_copy(update={"training": training}), *config.stages[1:])
    asked = config.model_copy(update={"stages": longer})
    verdict = {"stage": name, "attempt": 0, "step": 8, "why": "a test"}
    verdict |= dict.fromkeys(("bpb_before", "bpb_after"))
    difference = f"{name}.training.total_tokens: {had} -> {2 * had}"
    for decided, stage in (("extend", None), ("pass", name)):
        write_decision(starts.folder, {**verdict, "verdict": decided}, checks=[])
        with pytest.raises(ConfigError, match=difference):
            starts.start(asked, processes=1, stage=stage)
    for decided, stage in (("pass", None), ("stop", None), ("extend", config.stages[1].name)):
        write_decision(starts.folder, {**verdict, "verdict": decided}, checks=[])
        starts.start(asked, processes=1, stage=stage)
        assert read_frozen_config(starts.folder).stages == config.stages
        (told,) = starts.said
        assert f"{name} was begun with {had:,} tokens and keeps that budget" in told
    starts.start(config, processes=1, stage=name)
    assert not starts.said


def test_a_card_is_tried_with_the_threads_that_will_train(tmp_path, monkeypatch):
    """Those of backward passes keep the number that they begin with."""
    seen = []

    def probe_card(_wish, config: RunConfig, **_place):
        seen.append(torch.get_num_threads())
        return config.optimization.compute

    monkeypatch.setattr(frozen, "probe_card", probe_card)
    torch.set_num_threads(1)
    voice = SimpleNamespace(say=lambda _text: None)
    machine = SimpleNamespace(processes=ALONE, device=torch.device("cpu"), progress=voice)
    folder = RunFolder(tmp_path / "run")
    folder.create()
    freeze_config(tiny(tmp_path, threads="3"), folder, machine=cast("Machine", machine))
    assert seen == [3]


@pytest.mark.parametrize("is_whole", [True, False])
def test_the_runs_stages_stay_and_new_ones_may_follow(tmp_path, is_whole):
    config, folder = tiny(tmp_path), RunFolder(tmp_path / "run")
    one, two = config.stages
    three = two.model_copy(update={"name": "stage3_more"})

    def refuse(*stages: StageConfig) -> None:
        now = config.model_copy(update={"stages": stages})
        refuse_other_stages(now, folder, is_whole=is_whole)

    refuse(two)  # nothing has begun
    folder.create()
    write_atomic(folder.config, dump_config(config))
    begin_attempt(folder.lineage, AttemptStart(0, 0, None, "a test"))
    refuse(one, two)
    refuse(one, two, three)
    for stages in ((two,), (two, one), (one, three, two), (three, two)):
        with pytest.raises(ConfigError, match=f"begun with the stages {one.name}, {two.name}, and"):
            refuse(*stages)
    if is_whole:
        with pytest.raises(ConfigError, match="trains one alone"):
            refuse(one)
    else:
        refuse(one)


def test_a_run_that_chose_bf16_goes_on_without_on_a_card_that_has_none(tmp_path, monkeypatch):
    """As an A100 has it and a T4 has not; on the first machine the run's own choices hold again."""
    capability = (8, 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: capability >= (8, 0))
    monkeypatch.setattr(
        frozen, "probe_card", lambda _wish, config, **_place: config.optimization.compute
    )
    said: list[str] = []
    voice, card = SimpleNamespace(say=said.append), torch.device("cuda", 0)
    machine = cast("Machine", SimpleNamespace(processes=ALONE, device=card, progress=voice))
    folder, wish = RunFolder(tmp_path / "run"), tiny(tmp_path, precision="auto")
    folder.create()

    def start() -> tuple[str, str]:
        begun = freeze_config(wish, folder, machine=machine)
        keep_config(begun, folder, machine=machine)
        found = begun.config.optimization.compute
        return found.precision, found.attention

    assert start() == ("bf16", "flash")
    begin_attempt(folder.lineage, AttemptStart(0, 0, None, "a test"))
    capability = (7, 5)
    assert start() == ("fp32", "efficient")
    told = "a setting that may change differs from the run's: compute"
    assert f"{told}.precision: bf16 -> fp32" in said
    assert f"{told}.attention: flash -> efficient" in said
    assert read_frozen_config(folder).optimization.compute.precision == "bf16"
    capability = (8, 0)
    assert start() == ("bf16", "flash")


@pytest.mark.parametrize(("gib", "tokens"), [(48, 16_384), (80, 32_768), (1, 4096)])
def test_a_run_that_goes_on_uncompiled_on_another_card_takes_a_pass_that_fits_it_so(
    tmp_path, monkeypatch, gib, tokens
):
    """As on a machine without a compiler: 32,768 tokens, eager, were 47.9 GiB on an H200."""
    pretend(monkeypatch, (8, 9), package=False)
    held = SimpleNamespace(total_memory=gib * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: held)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    wish = load_config(CONFIGS, overrides=["compute.precision=bf16", "compute.attention=flash"])
    chosen = {"compile": "block", "micro_batch_tokens": 65_536, "loss_chunk_tokens": 8192}
    chosen |= {"flash_attention_3": False, "threads": 1}
    begun = wish.optimization.compute.model_copy(update=chosen)
    folder, said = RunFolder(tmp_path / "run"), []
    folder.create()
    write_atomic(folder.config, dump_config(with_compute(wish, begun)))
    begin_attempt(folder.lineage, AttemptStart(0, 0, None, "a test"))
    voice, card = SimpleNamespace(say=said.append), torch.device("cuda", 0)
    machine = cast("Machine", SimpleNamespace(processes=ALONE, device=card, progress=voice))
    found = freeze_config(wish, folder, machine=machine)
    now, kept = (one.optimization.compute for one in (found.config, found.kept))
    assert (now.compile, now.micro_batch_tokens) == ("off", tokens)
    assert (kept.compile, kept.micro_batch_tokens) == ("block", 65_536)
    told = "a setting that may change differs from the run's: compute.micro_batch_tokens"
    assert f"{told}: 65536 -> {tokens}" in said
