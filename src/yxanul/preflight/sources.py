"""Whether what the run reads and writes elsewhere can be reached: data, benchmarks, mirror.

The one idea: a source or a benchmark is opened the way a run opens it and gives one record; an
address takes a small object, gives it back and forgets it. Nothing is kept of any. Not looked at is
what is made of prepared data alone (cloze).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from yxanul.config.evaluation import TaskName
from yxanul.config.schema import RunConfig, SourceConfig, StageConfig
from yxanul.data.benchmarks.cloze import TASK as CLOZE
from yxanul.data.benchmarks.find import find_benchmark
from yxanul.data.benchmarks.read import HUB, try_hub_set
from yxanul.data.benchmarks.sets import SETS
from yxanul.data.places.folders import (
    check_folders,
    has_parts,
    prepared_folder,
    refuse_out_inside,
    shared_address,
    stage_folder,
    stage_parts,
)
from yxanul.data.places.origin import refuse_other_origin
from yxanul.data.places.remote import holds_prepared, remote_manifest
from yxanul.data.prepared.manifest import load_manifest, require_stages
from yxanul.data.prepared.settings import LISTS, own_sources, refuse_other_settings
from yxanul.data.prepared.verify import check_files
from yxanul.data.preparing.prepare import refuse_unlike
from yxanul.data.progress import unheard
from yxanul.data.sources.catalog import Opening, open_source
from yxanul.data.sources.folder import FolderReader
from yxanul.data.sources.hub.patience import Patience
from yxanul.errors import CorruptDataError, UsageError
from yxanul.preflight.finding import Check, Finding
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import has_begun, is_readable
from yxanul.runfolder.mirror import holds_run, refuse_own_folder
from yxanul.runfolder.storage import Place, reaching
from yxanul.train.starting.corpus import (
    keeps_data,
    kept_settings,
    refuse_several_sources,
)

DATA_LIMIT_S = 45.0
"""For all sources; the hub's libraries alone may take half of it to load."""
BENCHMARKS_LIMIT_S = 45.0
"""For all benchmarks, whatever the sources took."""
# A preflight asks whether the hub answers now; a run waits for it far longer.
_PATIENCE = Patience(tries=3, longest_wait_s=2.0, longest_asked_wait_s=5.0, total_s=20.0)


def data_checks(config: RunConfig, folder: RunFolder, *, root: Path | None) -> list[Check]:
    """Return a check for each source, or one for data prepared in `root` or at an address.

    Data that lies nowhere yet the run prepares in its `folder`. A place that is not there or holds
    that, and stages that cannot be read together, are a `UsageError` at once.
    """
    refuse_several_sources(config.stages)
    address = shared_address(config.stages)
    if root is not None:
        return [Check("data", partial(_look_at_prepared, config, folder, root=root), DATA_LIMIT_S)]
    if address is not None:
        return [Check("data", partial(_look_at_address, config, address), DATA_LIMIT_S)]
    # Before any source is opened, as a run does it; what cannot be read its own check tells.
    with suppress(CorruptDataError, OSError):
        check_folders(config.stages, held=())
        refuse_out_inside(config.stages, folder.data)
    return [Check(name, look, DATA_LIMIT_S) for name, look in _looks(config)]


def kept_benchmarks(
    folder: RunFolder, *, mirror: str | None, is_reachable: bool
) -> frozenset[str] | None:
    """Return the tasks whose items the run, here or at its mirror, has read when it began.

    None: it has not begun here, and its mirror cannot be asked.
    """
    if not is_readable(folder.lineage) or has_begun(folder.lineage):
        names = [path.name for path in folder.bench.glob("*.json")]
    elif mirror is None:
        names = []
    elif is_reachable:
        with reaching(mirror):
            bench = Place(f"{mirror.rstrip('/')}/run/bench")
            names = bench.top_names() if holds_run(Place(mirror)) else []
    else:
        return None
    return frozenset(name.removesuffix(".json") for name in names)


@dataclass(frozen=True)
class NeededBenchmark:
    """A task that a run needs the items of, and the place where they are read."""

    task: TaskName
    bench: str
    with_shots: bool
    is_left_out: bool
    """Whether texts are left out by it as data is prepared, which reads it anew."""


def needed_benchmarks(config: RunConfig, *, is_prepared: bool) -> list[NeededBenchmark]:
    """Return what a run is scored on, and what texts are left out by where it prepares data."""
    shots: dict[tuple[TaskName, str], bool] = {}
    for stage in config.stages:
        for skill in stage.evaluation.skills:
            place = skill.task, stage.evaluation.bench
            shots[place] = shots.get(place, False) or bool(skill.shots_used)
    is_read = not is_prepared and shared_address(config.stages) is None
    read = [place for stage in config.stages for place in _left_out_by(stage)] if is_read else []
    for place in read:
        shots.setdefault(place, False)
    return [
        NeededBenchmark(task, bench, some, (task, bench) in read)
        for (task, bench), some in shots.items()
        if task != CLOZE
    ]


def benchmark_checks(needed: Sequence[NeededBenchmark], *, kept: Collection[str]) -> list[Check]:
    """Return a check for each; the items of tasks that are `kept` the run has once it has begun."""
    return [
        Check(
            f"benchmark: {one.task}",
            partial(_tell_kept, one.task)
            if one.task in kept and not one.is_left_out
            else partial(_look_at_benchmark, one),
            BENCHMARKS_LIMIT_S,
        )
        for one in needed
    ]


def look_at_mirror(address: str | None, folder: RunFolder) -> Finding:
    """Write a small object to the mirror of the run in a folder, read it back and delete it.

    One that lies in that folder is a `UsageError`. Raises what `reaching` says of an address that
    refuses or does not answer.
    """
    if address is None:
        why = (
            "no checkpoint.mirror: what this machine trains is lost with it; name one with "
            "--set checkpoint.mirror=s3://bucket/run"
        )
        return Finding("mirror", "warn", None, why)
    with reaching(address):
        refuse_own_folder(address, folder)
        begin = time.perf_counter()
        Place(address).try_out()
        seconds = time.perf_counter() - begin
    why = f"{address} took an object, gave it back and deleted it in {seconds:.1f} s"
    return Finding("mirror", "pass", {"seconds": seconds}, why)


def _looks(config: RunConfig) -> Iterator[tuple[str, partial[Finding]]]:
    for stage in config.stages:
        kind = stage.data.source
        if kind not in LISTS:
            yield f"data: {stage.name}", partial(_look_at_folder, stage)
        for source in own_sources(stage):
            look = _look_at_hub if kind == "hub" else _look_at_embedded
            yield f"data: {source.name}", partial(look, stage, source)


def _look_at_prepared(config: RunConfig, folder: RunFolder, *, root: Path) -> Finding:
    manifest = load_manifest(root)
    require_stages(manifest, [stage.name for stage in config.stages])
    address = shared_address(config.stages)
    is_known = is_readable(folder.lineage)  # if not, `progress` tells it
    is_made_here = address is None
    if address is not None and is_known and not keeps_data(config, folder):
        refuse_other_origin(address, config.stages, held=manifest, out=root)
        is_made_here = not holds_prepared(address)
    kept = ""
    if is_known and root == prepared_folder(config.stages[0].data.source, run=folder):
        kept = kept_settings(manifest, config, folder=folder, place=root)
    else:
        refuse_other_settings(manifest, config.stages, place=root)
        if is_known and is_made_here:
            refuse_unlike(config.stages, manifest, out=root)
    check_files(manifest, root)
    files = len(list(manifest.files()))
    if kept:
        return Finding("data", "warn", {"files": files}, kept)
    why = f"{root} is prepared: {files} files of the right size (the run compares every byte)"
    return Finding("data", "pass", {"files": files}, why)


def _look_at_address(config: RunConfig, address: str) -> Finding:
    manifest = remote_manifest(address)
    if manifest is not None:
        require_stages(manifest, [stage.name for stage in config.stages])
        refuse_other_settings(manifest, config.stages, place=address)
        why = f"{address} answers and holds a prepared folder with all stages"
        return Finding("data", "pass", None, why)
    for stage in config.stages:
        stage_parts(stage)
    why = f"{address} answers and holds texts that the tasks of a cluster treated, for all stages"
    return Finding("data", "pass", None, why)


def _left_out_by(stage: StageConfig) -> Iterator[tuple[TaskName, str]]:
    """Yield each task, and the place of its items, by which texts of the stage are left out."""
    treatments = [source.treatment for source in own_sources(stage)]
    if stage.data.source not in LISTS:
        own = stage.data.folder_treatment
        treatments = [own] if own.decontaminate and not has_parts(stage) else []
    for treatment in treatments:
        for task in treatment.decontaminate:
            yield task, stage.evaluation.bench


def _tell_kept(task: str) -> Finding:
    why = "the run keeps the items that it was begun with"
    return Finding(f"benchmark: {task}", "pass", None, why)


def _look_at_benchmark(needed: NeededBenchmark) -> Finding:
    task, bench, with_shots = needed.task, needed.bench, needed.with_shots
    name = f"benchmark: {task}"
    if bench == HUB and task in SETS:
        origin = try_hub_set(task, with_shots=with_shots, patience=_PATIENCE)
        return Finding(name, "pass", {"origin": origin}, f"{origin} gives its first item")
    found = find_benchmark(task, bench=bench, prepared=None, with_shots=with_shots, news=unheard)
    why = f"{len(found.items):,} items from {found.origin}"
    return Finding(name, "pass", {"origin": found.origin}, why)


def _look_at_hub(stage: StageConfig, config: SourceConfig) -> Finding:
    opening = Opening(patience=_PATIENCE)
    source = open_source(config, "hub", seed=stage.data.seed, opening=opening)
    document = next(iter(source.documents()), None)
    if document is None:
        raise UsageError(f"{source.version} gives no record; is hub_split right?")
    value = {"version": source.version, "first": document.id}
    why = f"{source.version} gives its first record, {len(document.text):,} characters"
    return Finding(f"data: {config.name}", "pass", value, why)


def _look_at_embedded(stage: StageConfig, config: SourceConfig) -> Finding:
    source = open_source(config, "embedded", seed=stage.data.seed)
    why = f"installed: {source.version}"
    return Finding(f"data: {config.name}", "pass", {"version": source.version}, why)


def _look_at_folder(stage: StageConfig) -> Finding:
    folder = stage_folder(stage)
    if stage_parts(stage) is not None:
        why = f"{folder} holds texts that the tasks of a cluster treated"
        return Finding(f"data: {stage.name}", "pass", None, why)
    reader = FolderReader(folder, name=stage.name, dropped=Counter())
    document = next(iter(reader.documents()), None)
    if document is None:
        raise UsageError(f"{folder} holds no text that is not empty")
    why = f"{folder} gives its first text, {len(document.text):,} characters"
    return Finding(f"data: {stage.name}", "pass", {"first": document.id}, why)
