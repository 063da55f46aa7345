"""Disk and main memory: what is there, what the plan needs, and how fast the disk takes it."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch

from yxanul.config.schema import RunConfig
from yxanul.curriculum.stages import longest_seq_len
from yxanul.errors import DiskError, UsageError
from yxanul.failpoints import failpoint
from yxanul.hardware.choices import pick_device, settle_compute, unused_card
from yxanul.hardware.device import memory_bytes
from yxanul.plan.memory import memory
from yxanul.plan.storage import (
    checkpoint_bytes,
    kept_checkpoint_bytes,
    ram_bytes,
    rollbacks_bytes,
    saving_bytes,
    shard_bytes,
)
from yxanul.preflight.finding import Finding, State
from yxanul.preflight.standing import Progress
from yxanul.runfolder.checkpoints import list_checkpoints
from yxanul.runfolder.durable import writing
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import current_attempt, is_readable
from yxanul.runfolder.saving import is_replaceable
from yxanul.train.probing.probes import with_compute
from yxanul.units import MiB, format_bytes

_BLOCK_BYTES = 8 * MiB
_TRIAL_BYTES, _TRIAL_S = 256 * MiB, 5.0
_ROOM = 1.1
"""Free space below this multiple of the need is worth a warning: rows and scores come on top."""


def look_at_disk(
    config: RunConfig, folder: RunFolder, *, has_data: bool, progress: Progress
) -> Finding:
    """Compare the free bytes with the plan's, and time a write that is synced.

    Of a run that goes on, here or from its mirror, it is what the rest of it will write: what it
    has kept so far may lie in either place. Shards that are prepared somewhere (`has_data`) are not
    needed. A disk that gates may fill is a warning: nobody knows their verdicts.

    Raises a `DiskError` where nothing can be written.
    """
    place = _nearest(folder.root)
    rate = _write_rate(place)
    free = shutil.disk_usage(place).free
    whole, replaced = shard_bytes(config), _replaced(folder)
    # Their budgets may be others than the configuration's: what is judged keeps its own.
    stages = tuple(plan.config for plan in progress.course[progress.stage :])
    left = config.model_copy(update={"stages": stages})
    shards = 0 if has_data or whole is None else max(0, whole - _held(folder.data))
    made, done = progress.extensions, progress.done_tokens
    kept = partial(kept_checkpoint_bytes, left, extended=made, done_tokens=done)
    plain, lengthened = (
        shards + max(0, kept(is_lengthened=longer) - replaced) for longer in (False, True)
    )
    save_s = checkpoint_bytes(config) / rate
    value = {
        "free_bytes": free,
        "needed_bytes": plain,
        "extensions_bytes": lengthened - plain,
        "rollbacks_bytes": rollbacks_bytes(left),
        "write_bytes_per_s": rate,
        "checkpoint_s": save_s,
    }
    told = (
        f"{format_bytes(free)} free at {place}, the run needs {format_bytes(plain)}, up to "
        f"{format_bytes(lengthened)} as gates lengthen its stages and "
        f"{format_bytes(rollbacks_bytes(left))} more as they begin them anew; "
        f"{rate / 1e6:,.0f} MB/s written and synced, {save_s:,.0f} s a checkpoint"
    )
    if whole is None and not has_data:
        told += "; the shards come on top, and their size is known once the data is read"
    if free < plain:
        told += ": take a larger disk, or keep fewer (checkpoint.permanent_every_tokens)"
        return Finding("disk", "fail", value, told, DiskError.exit_code)
    every_s = config.optimization.checkpoint.every_s
    state: State = "pass"
    if free < _ROOM * plain:
        state, told = "warn", f"{told}; rows and scores come on top of that"
    elif free < lengthened:
        state, told = "warn", f"{told}; it is too small for stages that are all lengthened"
    if every_s is not None and save_s > every_s:
        state = "warn"
        told += f"; that is longer than the {every_s:g} s between two (checkpoint.every_s)"
    return Finding("disk", state, value, told)


def look_at_memory(config: RunConfig, *, processes: int) -> Finding:
    """Compare the main memory that this process may use with the plan's, at its peak.

    On a CPU it is also what an update is computed in, unless `features` tells of a card that torch
    does not use.
    """
    usable = memory_bytes(torch.device("cpu"))
    loading, training = ram_bytes(config, processes=processes), 0
    if pick_device().type == "cpu" and unused_card() is None:
        # The next updates are computed while the last checkpoint is written.
        training = processes * _update_bytes(config, processes=processes) + saving_bytes(config)
    needed = max(loading, training)
    value = {"usable_bytes": usable, "needed_bytes": needed}
    told = (
        f"{format_bytes(usable)} of main memory, and {processes} process"
        f"{'es need' if processes > 1 else ' needs'} {format_bytes(needed)} to "
        f"{'train and save' if training > loading else 'load a checkpoint'}"
    )
    if usable < needed:
        told += ": rent a machine with more memory, or start fewer processes"
        return Finding("memory", "fail", value, told, UsageError.exit_code)
    return Finding("memory", "pass", value, told)


def _update_bytes(config: RunConfig, *, processes: int) -> int:
    """Return the bytes of one process' update on a CPU, by the choices that a run makes there."""
    cpu, compute = torch.device("cpu"), config.optimization.compute
    chosen = settle_compute(compute, cpu, longest_seq_len=longest_seq_len(config.stages))
    return memory(with_compute(config, chosen), processes=processes).total


def _nearest(out: Path) -> Path:
    """Return the folder itself or the first one above it that exists: they share a disk."""
    place = out.absolute()
    while not place.is_dir():
        place = place.parent
    return place


def _replaced(folder: RunFolder) -> int:
    """Return the bytes of the checkpoints that later ones of the run take the place of.

    0 where its lineage is damaged, which `progress` tells.
    """
    if not is_readable(folder.lineage):
        return 0
    newest = list_checkpoints(folder.checkpoints, attempt=current_attempt(folder.lineage))
    return sum(_held(path) for path in newest if is_replaceable(path))


def _held(folder: Path) -> int:
    """Return the bytes of a folder's files; a run may be deleting some of them."""
    held = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                held += Path(place, name).stat().st_size
    return held


def _write_rate(place: Path) -> float:
    """Return the bytes per second of a file that is written and synced, and has no name.

    So it goes however this process ends. Each block by itself: a slow disk would be synced for
    longer than the check may take.
    """
    block = os.urandom(_BLOCK_BYTES)  # nothing that a file system could compress
    with writing(place), tempfile.TemporaryFile(dir=place) as file:
        begin, size = time.perf_counter(), 0
        while size < _TRIAL_BYTES and time.perf_counter() - begin < _TRIAL_S:
            failpoint("preflight.writing")
            size += file.write(block)
            file.flush()
            os.fsync(file.fileno())
        return size / (time.perf_counter() - begin)
