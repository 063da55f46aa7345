"""All checks of a machine that is about to be paid for, and what they come to.

The one idea: what costs seconds is looked at before what costs a minute, every check has its limit,
and all of them are made: who rents a machine wants to know everything that is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from yxanul.config.schema import BudgetConfig, RunConfig
from yxanul.config.sharing import refuse_unequal_shares, unequal_shares
from yxanul.curriculum.stages import plan_stages
from yxanul.errors import UsageError, YxanulError
from yxanul.hardware.choices import processes_here
from yxanul.preflight.cost import look_at_cost, settled_budget
from yxanul.preflight.finding import (
    Check,
    Finding,
    State,
    attempted,
    decisive,
    failure,
    made_in_turn,
)
from yxanul.preflight.machine import (
    look_at_compiling,
    look_at_features,
    look_at_links,
    look_at_step,
    measure_apart,
)
from yxanul.preflight.measuring import Measured
from yxanul.preflight.sources import (
    BENCHMARKS_LIMIT_S,
    DATA_LIMIT_S,
    benchmark_checks,
    data_checks,
    kept_benchmarks,
    look_at_mirror,
    needed_benchmarks,
)
from yxanul.preflight.space import look_at_disk, look_at_memory
from yxanul.preflight.standing import Progress, read_progress, refuse_settings
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import has_begun
from yxanul.train.processes.machine import lost_card
from yxanul.train.run import default_out
from yxanul.train.starting.corpus import prepared_root
from yxanul.train.starting.request import RunRequest
from yxanul.train.starting.settings import read_config

Say = Callable[[str], None]
_LIMIT_S = 15.0
_FEATURES_S = 25.0
"""Eight cards take their time to wake."""
_MEASURING_S = 90.0
"""torch is loaded, ranks meet, and two lengths are compiled and timed."""
_WHOLE_MODEL_S = 300.0
"""Where all blocks are compiled as one: a length took 54 s on an H200 (docs/performance.md)."""


@dataclass(frozen=True)
class Wishes:
    """What a run on this machine would be, and what it may cost; None = as configured."""

    run: RunRequest
    usd_per_hour: float | None = None
    """Price of the whole machine, all its cards."""
    budget_usd: float | None = None
    processes: int | None = None
    """As many as will train; None = one per card."""


@dataclass(frozen=True)
class Preflight:
    """Every finding, in the order in which they are told."""

    findings: tuple[Finding, ...]

    @property
    def code(self) -> int:
        """The exit code: 0, or that of the failure that decides."""
        failure = decisive(self.findings)
        return 0 if failure is None else failure.code

    @property
    def conclusion(self) -> str:
        """One sentence: begin, or not and why."""
        failure = decisive(self.findings)
        if failure is not None:
            return f"do not begin: {failure.name}: {failure.why}"
        warned = [finding.name for finding in self.findings if finding.state == "warn"]
        return "ready to begin" + (f"; look at {', '.join(warned)}" if warned else "")

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return {
            "verdict": "go" if self.code == 0 else "stop",
            "exit_code": self.code,
            "why": self.conclusion,
            "checks": [finding.as_json() for finding in self.findings],
        }


def preflight(wishes: Wishes, *, say: Say) -> Preflight:
    """Make every check; a configuration or flag that is wrong is a `UsageError` at once."""
    config = read_config(wishes.run)
    optimization = config.optimization
    budget = settled_budget(
        optimization.budget,
        usd_per_hour=wishes.usd_per_hour,
        usd=wishes.budget_usd,
        overrides=wishes.run.overrides,
    )
    folder = RunFolder(wishes.run.out or default_out(wishes.run, config))
    processes = _processes(wishes.processes, folder)
    root = attempted("data", partial(prepared_root, config, folder), limit_s=_LIMIT_S)
    has_data = isinstance(root, Path)
    mirror = optimization.checkpoint.mirror
    is_open = optimization.compute.compile == "auto"
    compiling = [Check("compile", look_at_compiling, _LIMIT_S)] if is_open else []
    sources = [] if isinstance(root, Finding) else data_checks(config, folder, root=root)
    if mirror is not None:
        say("preflight: mirror")
    # First, for it may be what tells how far the run has come, and which benchmarks it keeps.
    answer = Check("mirror", partial(look_at_mirror, mirror, folder), _LIMIT_S).made()
    reachable = answer.state == "pass"
    is_answered = mirror is None or reachable
    stand = partial(_stand, config, folder, mirror=mirror, is_answered=is_answered)
    stands = attempted("progress", stand, limit_s=_LIMIT_S)
    sharing = _sharing(config, processes, stands=stands)
    say("preflight: features, disk, memory")
    left = partial(_of_what_is_left, config=config, stands=stands)
    disk = partial(look_at_disk, config, folder, has_data=has_data)
    here = [
        Check("features", partial(look_at_features, config, processes=processes), _FEATURES_S),
        *compiling,
        Check("disk", partial(left, disk), _LIMIT_S),
        Check("memory", partial(look_at_memory, config, processes=processes), _LIMIT_S),
    ]
    findings = [stands] if isinstance(stands, Finding) else []
    findings += [*sharing, *(check.made() for check in here)]
    findings += _settings(partial(refuse_settings, config, folder, mirror=mirror), stands=stands)
    say(f"preflight: data, {DATA_LIMIT_S:.0f} s at most")
    # Where the manifest cannot be read, that is what there is to say of the data.
    findings += [root] if isinstance(root, Finding) else []
    findings += made_in_turn(sources, limit_s=DATA_LIMIT_S)
    say(f"preflight: benchmarks, {BENCHMARKS_LIMIT_S:.0f} s at most")
    look = partial(kept_benchmarks, folder, mirror=mirror, is_reachable=reachable)
    findings += [*_benchmarks(config, is_prepared=root is not None, kept=look), answer]
    limit_s = _measuring_s(config)
    say(f"preflight: step and links, {processes} x, {limit_s:.0f} s at most")
    apart = partial(measure_apart, config, processes=processes, limit_s=limit_s)
    measured = _measured(config, budget, measure=apart, left=left)
    return Preflight((*findings, *measured))


def _processes(asked: int | None, folder: RunFolder) -> int:
    """Return how many processes are judged; more than there are cards here are refused.

    Where the run's last start had as many on cards, one has failed, which another start may cure.
    """
    cards = torch.cuda.device_count()
    if asked is not None and 0 < cards < asked:
        raise lost_card(folder, cards=cards, here=asked, asked=asked) or UsageError(
            f"--nproc {asked}: there are {cards} CUDA card(s) here, and a process needs its own; "
            "name the processes of this machine: of a run of several machines each is judged alone"
        )
    return asked or processes_here()


def _stand(
    config: RunConfig, folder: RunFolder, *, mirror: str | None, is_answered: bool
) -> Progress | None:
    """Return how far the run has come; None: it has not begun here, and its mirror fails."""
    if not is_answered and not has_begun(folder.lineage):
        return None
    return read_progress(config, folder, mirror=mirror)


def _sharing(
    config: RunConfig, processes: int, *, stands: Progress | Finding | None
) -> list[Finding]:
    """Refuse a step that the processes cannot share, of a stage that is still trained.

    Where nobody knows which those are it is a finding: a failure if it is so in every stage.
    """
    context = config.model.max_position_embeddings
    if isinstance(stands, Progress):
        refuse_unequal_shares(stands.open_stages, processes, context=context)
        return []
    told = [unequal_shares([stage], processes, context=context) for stage in config.stages]
    whys = [why for why in told if why is not None]
    if len(whys) == len(told):
        return [failure("processes", UsageError(whys[0]))]
    unknown = "that ends the run unless the stage is closed, which could not be read"
    return [Finding("processes", "warn", None, f"{why}; {unknown}") for why in whys[:1]]


def _settings(refuse: Callable[[], None], *, stands: Progress | Finding | None) -> list[Finding]:
    """Return the failure that other settings than the run's are, where it could be read."""
    if not isinstance(stands, Progress):
        return []
    found = attempted("settings", refuse, limit_s=_FEATURES_S)
    return [found] if isinstance(found, Finding) else []


def _of_what_is_left(
    find: Callable[..., Finding], *, config: RunConfig, stands: Progress | Finding | None
) -> Finding:
    """Return what a check finds of the rest of the run; of all of it, and no failure, if need be.

    Where nobody knows how far it has come, what is left may be little.
    """
    if isinstance(stands, Progress):
        return find(progress=stands)
    found = find(progress=Progress(plan_stages(config)))
    why = f"{found.why}; that is of the whole run: how far it has come could not be read"
    state: State = "warn" if found.state == "fail" else found.state
    return replace(found, state=state, why=why, code=0)


def _benchmarks(
    config: RunConfig, *, is_prepared: bool, kept: Callable[[], frozenset[str] | None]
) -> list[Finding]:
    """Return what is found of the benchmarks, or why it is not known which are needed."""
    look = partial(needed_benchmarks, config, is_prepared=is_prepared)
    needed = attempted("benchmark", look, limit_s=_LIMIT_S)
    if isinstance(needed, Finding):
        return [needed]
    if not needed:
        return []
    tasks = attempted("benchmark", kept, limit_s=_LIMIT_S)
    if isinstance(tasks, Finding):
        return [tasks]
    if tasks is None:
        why = "not looked for: the mirror may keep those of the run, and could not be asked"
        return [Finding("benchmark", "warn", None, why)]
    return made_in_turn(benchmark_checks(needed, kept=tasks), limit_s=BENCHMARKS_LIMIT_S)


def _measuring_s(config: RunConfig) -> float:
    is_whole = config.optimization.compute.compile == "model"
    return _WHOLE_MODEL_S if is_whole else _MEASURING_S


def _measured(
    config: RunConfig,
    budget: BudgetConfig,
    *,
    measure: Callable[[], Measured],
    left: Callable[[Callable[..., Finding]], Finding],
) -> list[Finding]:
    """Return the findings that need a measured step; without one they say so."""
    try:
        measured = measure()
    except (YxanulError, OSError) as error:
        return [
            failure("step", error),
            Finding("links", "warn", None, "not measured, since no step was"),
            Finding("cost", "warn", None, "no forecast, since no step was measured"),
        ]
    cost = partial(look_at_cost, config, measured, budget=budget)
    judge = Check("cost", partial(left, cost), _LIMIT_S)
    return [look_at_step(measured, config), look_at_links(measured, config), judge.made()]
