"""What a run was begun with, it keeps: choices are made once and held to on every resume."""

import hashlib
import re
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from yxanul.config.contradictions import find_unused
from yxanul.config.load import diff_configs, dump_config
from yxanul.config.schema import ComputeConfig, RunConfig, StageConfig
from yxanul.curriculum.stages import longest_seq_len
from yxanul.errors import ConfigError, CorruptCheckpointError
from yxanul.hardware.choices import freeze_compute, impossible_choices, settle_compute
from yxanul.hardware.device import cores_per_process, memory_bytes
from yxanul.plan.memory import largest_micro_batch
from yxanul.runfolder.checkpoints import list_checkpoints, read_manifest
from yxanul.runfolder.durable import as_bytes, sha256_of, write_atomic
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import SETTINGS, branch_of, events, record_event
from yxanul.runfolder.verdicts import closed_stages, settled_stages
from yxanul.train.probing.begun import begun_with, other_budgets, with_kept_budgets
from yxanul.train.probing.probes import probe_card, with_compute
from yxanul.train.processes.machine import Machine, last_world_size

# What fits a machine's memory goes with what it can do.
_FITTED = frozenset(
    {"micro_batch_tokens", "loss_chunk_tokens", "gradient_checkpointing", "checkpointed_share"}
)
# Settings that may differ on resume: they change no weight and no verdict that was given.
_MAY_CHANGE = (
    # But for rounding: whoever goes on with less memory must be able to take less of it.
    "compute.micro_batch_tokens",
    "compute.loss_chunk_tokens",
    "compute.checkpointed_share",
    "budget.",
    "checkpoint.",
    "watch.",
    "logging.trackers",
    "logging.prompt",
    "compute.keep_freed_memory",
    # Who averages and who holds moments may change as the number of processes may.
    "compute.engine",
    "compute.deepspeed_config",
    "compute.zero1",
)
_MAY_BEGIN = ("compute.gradient_checkpointing", True)  # likewise; ending it needs more memory
# What is read there: the run keeps the items, and its tokens are compared whatever led to them.
_MAY_MOVE = re.compile(
    r".*\.(evaluation\.bench|data\.source|data\.(hub|embedded)_sources\.\d+\."
    r"(hub_revision|licence|attribution|private))"
)
_RATES = tuple(f".training.{name}learning_rate" for name in ("", "embedding_", "norm_"))
"""Of a stage that is not closed: a person may see that it learns too slowly, or too fast."""
_BUDGET = ".training.total_tokens"
_FROZEN = (
    "precision",
    "attention",
    "compile",
    "loss_chunk_tokens",
    "threads",
    "micro_batch_tokens",
    "fp8",
    "checkpointed_share",
)
# What `auto` looks like, so that a resume takes the choice that the run was begun with.
_OPEN = ("auto", None)


@dataclass(frozen=True)
class Frozen:
    """Settings without an `auto`, and what is to be kept of them."""

    config: RunConfig
    """This process's."""
    kept: RunConfig
    """The run's."""
    changes: Sequence[str] | None
    """What differs from RUN/config.yaml; None: the run has not begun."""


def freeze_config(
    config: RunConfig,
    folder: RunFolder,
    *,
    machine: Machine,
    named: Path | None = None,
    stage: str | None = None,
    has_ended: bool = False,
) -> Frozen:
    """Replace every `auto`, by the run's own earlier choices if it has any.

    The run goes on from the checkpoint `named`, None: where it stands, with this `stage` alone,
    None: with all. RUN/config.yaml is held against: other settings than the run's are a
    `ConfigError`; unless all `has_ended`, what this machine cannot do is a `UsageError`.
    `keep_config` is to write it, as the run begins or goes on. The process takes its threads.
    """
    before, changes = begun_with(folder), None
    frozen, anew = _ruled(
        config,
        before,
        device=machine.device,
        agree=lambda flag: machine.processes.anyone(flag, machine.device),
        choose=settle_compute if has_ended else freeze_compute,
    )
    takes_own = config.optimization.compute.threads is None and (
        # What is frozen are the main process' threads; another one's machine may have other cores.
        not machine.processes.is_main or _is_regrouped(folder, machine)
    )
    if takes_own:
        own = frozen.optimization.compute.model_copy(update={"threads": cores_per_process()})
        frozen = with_compute(frozen, own)
    # Before any backward pass: the threads of those keep the number that they begin with, and torch
    # compiles anew, or no more, what it meets under another one.
    torch.set_num_threads(frozen.optimization.compute.threads or 1)
    if before is None:
        wish, longest = config.optimization.compute, longest_seq_len(config.stages)
        found = probe_card(wish, frozen, seq_len=longest, machine=machine)
        frozen = kept = with_compute(frozen, found)
    else:
        closed = closed_stages(folder, _branch_to(named, folder))
        if "micro_batch_tokens" in anew and config.optimization.compute.micro_batch_tokens is None:
            frozen = _fitting(frozen, machine)
        asked = frozen
        if named is not None:
            held: Collection[str] = closed.keys() - {stage}
        elif stage is not None:  # whether it may begin is told where that is known
            held = {one.name for one in before.stages} - {stage}
        else:
            held = settled_stages(folder).keys()
        frozen = with_kept_budgets(asked, before, stages=held)
        for told in other_budgets(asked, frozen):
            machine.progress.say(told)
        free = anew | {"threads"} if takes_own else anew
        frozen, changes = _continue_config(before, frozen, anew=free, closed=closed, folder=folder)
        for told in changes:
            machine.progress.say(f"a setting that may change differs from the run's: {told}")
        # Back on a machine of the first one's kind, the run's own choices hold again.
        first = {name: getattr(before.optimization.compute, name) for name in anew}
        kept = with_compute(frozen, frozen.optimization.compute.model_copy(update=first))
    return Frozen(frozen, kept, changes)


def keep_config(frozen: Frozen, folder: RunFolder, *, machine: Machine) -> str:
    """Write RUN/config.yaml, and first what changes of it in a run that has begun.

    Returns its sha256.
    """
    text = dump_config(frozen.kept)
    now = hashlib.sha256(as_bytes(text)).hexdigest()
    if frozen.changes is not None and (was := sha256_of(folder.config)) != now:
        record_event(
            folder.lineage,
            SETTINGS,
            what="; ".join(frozen.changes) or None,
            was_sha256=was,
            config_sha256=now,
            world_size=machine.processes.world_size,
        )
    write_atomic(folder.config, text)
    return now


def refuse_other_stages(config: RunConfig, folder: RunFolder, *, is_whole: bool) -> None:
    """Raise a `ConfigError` unless the run's stages stand in the configuration as they were.

    Later ones may be new. A configuration that is not `is_whole` ends with the stage that is
    trained alone, before later ones of the run.
    """
    before = begun_with(folder)
    if before is None:
        return
    had, has = ([stage.name for stage in one.stages] for one in (before, config))
    shared = min(len(had), len(has))
    if had[:shared] != has[:shared] or (is_whole and shared < len(had)):
        raise ConfigError(
            f"{folder.root} was begun with the stages {', '.join(had)}, and now they are "
            f"{', '.join(has)}; give it its own again, in their order (new ones may follow them, "
            "and yxanul train --stage trains one alone), or choose another --out"
        )


def refuse_changed_settings(config: RunConfig, folder: RunFolder, *, device: torch.device) -> None:
    """Raise a `ConfigError` for settings that the run, if it has begun, does not go on with.

    They are those of all its stages. Nothing is written or tried; what the device cannot do is a
    `UsageError`.
    """
    before = begun_with(folder)
    if before is None:
        return
    refuse_other_stages(config, folder, is_whole=True)
    ruled, anew = _ruled(config, before, device=device, agree=bool)
    closed = closed_stages(folder)
    now = with_kept_budgets(ruled, before, stages=settled_stages(folder))
    _continue_config(before, now, anew=anew, closed=closed, folder=folder)


def edited_config(folder: RunFolder) -> str | None:
    """Say so if RUN/config.yaml is nothing that this run wrote; None = it is, or nothing tells.

    What a start has written stands in the lineage if it was not what was there, and in the manifest
    of every checkpoint that was saved by it.
    """
    if not folder.config.exists():
        return None
    known = {
        row.get(key)
        for row in events(folder.lineage, SETTINGS)
        for key in ("was_sha256", "config_sha256")
    }
    for path in list_checkpoints(folder.checkpoints):
        with suppress(CorruptCheckpointError):  # found, and told, where it is to be loaded
            known.add(read_manifest(path)[0].config_sha256)
    known.discard(None)
    if not known or sha256_of(folder.config) in known:
        return None
    return (
        f"{folder.config} is not what the run wrote: by its lineage and its checkpoints' manifests "
        "it was trained by other settings"
    )


def ruled_config(config: RunConfig, folder: RunFolder, *, machine: Machine) -> RunConfig:
    """Replace every `auto` by the run's earlier choices or by rule, and write and try nothing.

    What this machine cannot do is a `UsageError`. Each process judges for itself: one that cannot
    read what others can is no reason for them to wait.
    """
    alone = _ruled(config, begun_with(folder), device=machine.device, agree=lambda flag: flag)
    return alone[0]


def _ruled(
    config: RunConfig,
    before: RunConfig | None,
    *,
    device: torch.device,
    agree: Callable[[bool], bool],
    choose: Callable[..., ComputeConfig] = freeze_compute,
) -> tuple[RunConfig, frozenset[str]]:
    """Return the settings by the run's choices or by rule, and those that may be other than its.

    Such are what it chose by itself and some process cannot do, by `agree`, and what memory then
    asks for.
    """
    wish = config.optimization.compute
    anew: frozenset[str] = frozenset()
    if before is not None:
        chosen = before.optimization.compute
        opened = {k: getattr(chosen, k) for k in _FROZEN if getattr(wish, k) in _OPEN}
        mine = set(impossible_choices(chosen, device))
        anew = frozenset(
            name
            for name in ("precision", "attention", "fp8", "compile")
            if agree(name in mine) and name in opened
        )
        wish = wish.model_copy(update={k: v for k, v in opened.items() if k not in anew})
        if "attention" in anew:
            anew |= {"flash_attention_3"}  # the same choice
        if anew:
            anew |= _FITTED
    ruled = choose(wish, device, longest_seq_len=longest_seq_len(config.stages))
    return with_compute(config, ruled), anew


def _fitting(config: RunConfig, machine: Machine) -> RunConfig:
    """Return the settings with the tokens of a pass that fit this card in them, by arithmetic."""
    if machine.device.type != "cuda":
        return config
    card_bytes, ranks = memory_bytes(machine.device), machine.processes
    tokens = largest_micro_batch(config, card_bytes, processes=ranks.world_size)
    # Where not even one sequence fits, torch is to say so. The smallest card decides for all.
    tokens = ranks.smallest(tokens or longest_seq_len(config.stages), machine.device)
    compute = config.optimization.compute.model_copy(update={"micro_batch_tokens": tokens})
    return with_compute(config, compute)


def _is_regrouped(folder: RunFolder, machine: Machine) -> bool:
    """Tell whether the threads of RUN/config.yaml are for another number of processes."""
    # The start that wrote them may have ended before it told of itself in environment.json.
    written = [row["world_size"] for row in events(folder.lineage, SETTINGS) if "world_size" in row]
    before = written[-1] if written else last_world_size(folder)
    return before is not None and before != machine.processes.world_size


def _branch_to(named: Path | None, folder: RunFolder) -> dict[int, float] | None:
    if named is None:
        return None
    info = read_manifest(named)[0]
    return branch_of(folder.lineage, info.attempt, step=info.step)


def _continue_config(
    before: RunConfig,
    now: RunConfig,
    *,
    anew: Collection[str],
    closed: Collection[str],
    folder: RunFolder,
) -> tuple[RunConfig, list[str]]:
    """Return `now` with the stages that only `before` knows, and the differences that may be.

    Others are refused. What the run had chosen by itself and had to choose `anew` may be another:
    a machine that takes another's place is of another kind. The rates of `closed` stages, which
    have been trained, stay. What nothing read may be left out, but for a gate's, which is fixed.
    That of a source shaped the hash of its data, so preparing has refused it before, and other data
    than the run's, where data.source leads to some.
    """
    known = {stage.name for stage in now.stages}
    later = tuple(stage for stage in before.stages if stage.name not in known)
    shared = {stage.name for stage in before.stages} & known
    common = [c.model_copy(update={"stages": _only(c.stages, shared)}) for c in (before, now)]
    changed = list(diff_configs(*common))
    differences = {path: f"{path}: {old} -> {new}" for path, old, new in changed}
    chosen = {f"compute.{name}" for name in anew}
    unread = {one.key for one in find_unused(before) if one.path[0] != "gate"}
    allowed = [
        path
        for path, _, new in changed
        if path.startswith(_MAY_CHANGE)
        or _MAY_MOVE.fullmatch(path)
        or path in chosen | unread
        or (path, new) == _MAY_BEGIN
        or (path.endswith(_RATES) and path.partition(".")[0] not in closed)
    ]
    changes = [told for path, told in differences.items() if path not in allowed]
    if changes:
        # What --num_epochs came to stands in no file of a person's.
        budgets = [f"--set {p}={old}, " for p, old, _ in changed if p.endswith(_BUDGET)]
        again = f" ({''.join(budgets)}and no --num_epochs)" if budgets else ""
        raise ConfigError(
            f"{folder.root} was begun with other settings ({'; '.join(changes)}); "
            f"use them again{again}, or choose another --out"
        )
    whole = now.model_copy(update={"stages": (*now.stages, *later)})
    return whole, [differences[path] for path in allowed]


def _only(stages: Sequence[StageConfig], names: set[str]) -> tuple[StageConfig, ...]:
    return tuple(stage for stage in stages if stage.name in names)
