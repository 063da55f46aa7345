"""A run that goes on: whether it does with these settings, and what of it is still trained."""

import shutil
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.hardware.cards import NOT_UP, unused
from tests.preflight.mirrors import run_at
from tests.train.world import STAGES, write_configs
from yxanul.config.load import dump_config, load_config
from yxanul.config.schema import RunConfig
from yxanul.curriculum.stages import longest_seq_len, plan_stages
from yxanul.errors import ConfigError, CorruptDataError, UsageError
from yxanul.hardware.choices import freeze_compute
from yxanul.parallel.processes import ALONE
from yxanul.preflight.standing import Progress, read_progress, refuse_settings
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import AttemptStart, begin_attempt
from yxanul.runfolder.rows import append_row
from yxanul.runfolder.verdicts import CLOSING, write_decision
from yxanul.signals import StopRequest
from yxanul.train.outward.progress import RunProgress
from yxanul.train.probing.frozen import freeze_config
from yxanul.train.probing.probes import with_compute
from yxanul.train.processes.machine import Machine

RATE = f"{STAGES[0]}.training.learning_rate=0.02"


def config_of(tmp_path: Path, *overrides: str) -> RunConfig:
    place = tmp_path / "configs"
    if not place.exists():
        write_configs(place)
    threads = f"compute.threads={torch.get_num_threads()}"  # a start takes as many
    return load_config(place, overrides=["data.source=texts", threads, *overrides])


def frozen(config: RunConfig) -> RunConfig:
    """Return what a start on a CPU writes down."""
    chosen = freeze_compute(
        config.optimization.compute,
        torch.device("cpu"),
        longest_seq_len=longest_seq_len(config.stages),
    )
    return with_compute(config, chosen)


class Run:
    """A run of the small world that has begun, in its folder or at its mirror."""

    def __init__(self, tmp_path: Path, *, is_at_the_mirror: bool) -> None:
        self.looked_at = RunFolder(tmp_path / "here")
        self.mirror = str(tmp_path / "mirror") if is_at_the_mirror else None
        self.folder = run_at(tmp_path / "mirror") if self.mirror else self.looked_at
        self.folder.root.mkdir(exist_ok=True)
        begin_attempt(self.folder.lineage, AttemptStart(0, 0, None, "a test"))
        self.folder.config.write_text(dump_config(frozen(config_of(tmp_path))))

    def close(self, stage: str, *, step: int, verdict: str = "pass") -> None:
        scores = {"why": "a test", "bpb_before": None, "bpb_after": None, "verdict": verdict}
        place = {"stage": stage, "attempt": 0, "step": step}
        write_decision(self.folder, {**place, **scores}, checks=[])

    def refuse(self, config: RunConfig) -> None:
        refuse_settings(config, self.looked_at, mirror=self.mirror)


@pytest.fixture(params=[False, True], ids=["here", "mirror"])
def run(request, tmp_path) -> Run:
    return Run(tmp_path, is_at_the_mirror=request.param)


def test_settings_that_a_run_does_not_go_on_with_are_told_of_where_it_lies(run, tmp_path):
    run.refuse(config_of(tmp_path, "checkpoint.keep=3", RATE))
    with pytest.raises(ConfigError, match=r"optimizer\.weight_decay: 0\.01 -> 0\.5") as told:
        run.refuse(config_of(tmp_path, "optimizer.weight_decay=0.5"))
    assert str(told.value).startswith(f"{run.folder.root} was begun with other settings (")
    assert str(told.value).endswith("another checkpoint.mirror" if run.mirror else "another --out")
    run.close(STAGES[0], step=8)
    with pytest.raises(ConfigError, match=f"{STAGES[0]}.training.learning_rate: 0.01 -> 0.02"):
        run.refuse(config_of(tmp_path, RATE))


def test_settings_are_not_judged_by_the_cpu_beside_a_card_that_is_not_up(
    run, tmp_path, monkeypatch
):
    """30 would decide, and end a job that a later start would cure."""
    flash = config_of(tmp_path, "compute.attention=flash")
    with pytest.raises(UsageError, match="needs a CUDA card"):
        run.refuse(flash)
    unused(monkeypatch, tmp_path / "dev", said=NOT_UP)
    run.refuse(flash)


def test_settings_without_a_stage_of_the_run_are_refused(run, tmp_path):
    first = load_config(tmp_path / "configs", stages=STAGES[:1], overrides=["data.source=texts"])
    with pytest.raises(ConfigError, match=f"was begun with the stages {', '.join(STAGES)}, and"):
        run.refuse(first)


def test_a_budget_may_be_another_once_its_stage_is_judged(run, tmp_path):
    """As `run` after `train --num_epochs`."""
    key = f"{STAGES[0]}.training.total_tokens"
    longer = config_of(tmp_path, f"{key}=4096")
    with pytest.raises(ConfigError, match="total_tokens: 1024 -> 4096") as told:
        run.refuse(longer)
    assert f"; use them again (--set {key}=1024, and no --num_epochs), or" in str(told.value)
    run.refuse(config_of(tmp_path, f"{key}=4096", f"{key}=1024"))
    for verdict in ("stop", "pass"):
        run.close(STAGES[0], step=8, verdict=verdict)
        run.refuse(longer)


@pytest.mark.parametrize("verdict", ["pass", "warn", "not run", "extend", "rollback", "stop"])
def test_another_budget_is_refused_after_a_verdict_where_a_start_refuses_it(tmp_path, verdict):
    """And where not, what is left is counted by the budget that the start takes."""
    run, first = Run(tmp_path, is_at_the_mirror=False), STAGES[0]
    run.close(first, step=8, verdict=verdict)
    longer = config_of(tmp_path, f"{first}.training.total_tokens=4096")
    here = Machine(ALONE, torch.device("cpu"), RunProgress(visible=False), StopRequest())
    stands = read_progress(longer, run.looked_at, mirror=None)
    assert (first in stands.closed) == (verdict in CLOSING)
    if verdict not in (*CLOSING, "stop"):
        for refuses in (run.refuse, partial(freeze_config, folder=run.folder, machine=here)):
            with pytest.raises(ConfigError, match="total_tokens: 1024 -> 4096"):
                refuses(longer)
        return
    run.refuse(longer)
    begun = freeze_config(longer, run.folder, machine=here)
    assert [plan.config for plan in stands.course] == list(begun.config.stages)


def test_damaged_settings_of_a_run_are_told(run, tmp_path):
    run.folder.config.write_text("stages: [")
    with pytest.raises(CorruptDataError, match=f"{run.folder.config} is not what was written"):
        run.refuse(config_of(tmp_path))


def test_a_run_that_has_not_begun_goes_on_with_any_settings(tmp_path):
    nothing, config = RunFolder(tmp_path / "nowhere"), config_of(tmp_path)
    for mirror in (None, str(tmp_path / "empty")):
        refuse_settings(config, nothing, mirror=mirror)


def test_rows_at_a_mirror_are_no_run_before_a_checkpoint_is_there(tmp_path):
    """As a machine that ended within its first copy leaves them: `run` begins anew."""
    there, config = Run(tmp_path, is_at_the_mirror=True), config_of(tmp_path)
    append_row(there.folder.metrics, {"step": 8, "attempt": 0, "stage": STAGES[0], "stage_step": 8})
    stands = partial(read_progress, config, there.looked_at, mirror=there.mirror)
    assert stands().stage_step == 8
    shutil.rmtree(tmp_path / "mirror" / "checkpoints")
    assert stands() == Progress(plan_stages(config))
    there.refuse(config_of(tmp_path, "optimizer.weight_decay=0.5"))


def test_closed_stages_are_not_trained_again(run, tmp_path):
    config = config_of(tmp_path)
    append_row(run.folder.metrics, {"step": 8, "attempt": 0, "stage": STAGES[0], "stage_step": 8})
    for is_closed in (False, True):
        if is_closed:
            run.close(STAGES[0], step=8)
        stands = read_progress(config, run.looked_at, mirror=run.mirror)
        left = [stage.name for stage in stands.open_stages]
        assert left == list(STAGES[1:] if is_closed else STAGES)
