"""Prepare the data of a run: from the stages' configuration to a folder of token shards.

The one idea: a stage is the unit. The hash of what shapes a stage's tokens is written into the
manifest, so a stage is prepared once, reused by every run that asks for the same, and never used
for settings that it was not made for. Making the folder is in `yxanul.data.preparing.build`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Literal

from yxanul.config.schema import SourceConfig, StageConfig
from yxanul.config.treatment import TreatmentConfig
from yxanul.data.benchmarks.find import find_benchmark
from yxanul.data.benchmarks.read import HUB
from yxanul.data.contamination.wanted import wanted_items
from yxanul.data.inspection.card import write_cards
from yxanul.data.items import Benchmark
from yxanul.data.parts.files import holds_parts, is_of_parts
from yxanul.data.parts.joined import JoinedSource
from yxanul.data.places.folders import (
    check_folders,
    folders_behind,
    refuse_out_inside,
    shared_address,
    stage_folder,
    stage_parts,
    tell_unjoined,
)
from yxanul.data.places.hashed import hashed_at, keep_hashed
from yxanul.data.places.origin import bring, refuse_other_origin, whole
from yxanul.data.places.remote import holds_prepared
from yxanul.data.prepared.manifest import (
    MANIFEST_NAME,
    Manifest,
    SourceRecord,
    load_manifest,
)
from yxanul.data.prepared.settings import (
    LISTS,
    asked_commit,
    check_revisions,
    folder_domain,
    own_sources,
    refuse_other_settings,
    settings_sha256,
    source_settings,
    tell_other_licences,
)
from yxanul.data.prepared.unfinished import load_unfinished
from yxanul.data.preparing.build import prepare_sources, refuse_changed_stages
from yxanul.data.preparing.pipeline import PlannedSource
from yxanul.data.progress import Watcher, unheard
from yxanul.data.sources.catalog import Opening, open_folder, open_source
from yxanul.data.sources.folder import unchanged_since
from yxanul.data.sources.snippets.origin import version_since
from yxanul.data.treating.treatment import Recipe, Treatment
from yxanul.data.walk import LOST_AND_FOUND, unreadable
from yxanul.errors import BrokenDiskError, CorruptDataError, UsageError, YxanulError
from yxanul.runfolder.durable import reading

FindBenchmark = Callable[[str, str], Benchmark]
"""Returns the items of a task, from the hub or a folder as its second argument says."""


@reading()
def prepare(
    stages: Sequence[StageConfig],
    out: Path,
    *,
    progress: Callable[[str], None],
    is_in_use: bool = False,
    watcher: Watcher | None = None,
) -> Manifest:
    """Prepare those of `stages` that `out` does not hold yet; return the manifest of all it holds.

    Each stage reads what its `data.source` says: the hub, embedded sources, a folder (its
    subfolder of the stage's name, if there is one), or the address of a prepared folder. `progress`
    gets a line of text about every two seconds; it may raise to stop the work, and then the folder
    is left as it was, apart from sources of the hub, which the next call goes on with. A `watcher`
    is told how many documents are done, and then no line tells it. Of a folder that `is_in_use`, by
    a run that was begun with what it reads, it is told, and not refused, that its texts, or the
    items looked for, have changed, and no address is asked for what it holds already. Raises
    `UsageError` (a stage in `out` with other settings, other tokens at an address, a source without
    usable documents), `CorruptShardError` (a prepared file is missing), `DiskError`,
    `BrokenDiskError`, and what the sources raise.
    """
    shared = shared_address(stages)
    held = load_manifest(out) if (out / MANIFEST_NAME).is_file() else None
    if shared is not None and held is not None and not is_in_use:
        refuse_other_origin(shared, stages, held=held, out=out)
    if shared is not None and not _has_all(held, stages):
        held = bring(shared, stages, out=out, say=progress) or held
    if held is not None:
        tell_other_licences(held, stages, place=out, say=progress)
    if (
        shared is not None
        and held is not None
        and _has_all(held, stages)
        and (is_in_use or holds_prepared(shared))  # else parts, compared as texts of a folder are
    ):
        refuse_other_settings(held, stages, place=out)
        tell_other_items(held, stages, place=out, say=progress)
        held = whole(held, out, address=shared, say=progress)
        write_cards(held, out, progress=progress)
        return held
    done = held.stages if held else {}
    check_folders(stages, held=done)
    refuse_out_inside([stage for stage in stages if stage.name not in done], out)
    opening = _Opening.of(out, progress, held=held)
    if held is not None:
        check_revisions(stages, held, place=out)
        with _told_of(is_in_use, progress):
            _refuse_changed_texts(stages, held, opening=opening)
        if is_in_use:
            tell_other_items(held, stages, place=out, say=progress)
        else:
            _refuse_other_items(held, stages, opening=opening)
    plans, settings = _planned(stages, opening)
    began = int(time.time())  # before anything is hashed
    manifest = prepare_sources(plans, out, settings=settings, progress=progress, watcher=watcher)
    for folder, record in folders_behind([s for s in stages if s.name not in done], manifest):
        keep_hashed(out, record.version, folder=folder, second=began)
    write_cards(manifest, out, progress=progress)
    return manifest


def refuse_unlike(stages: Sequence[StageConfig], held: Manifest, *, out: Path) -> None:
    """Raise `UsageError` where `prepare` would, of what `out` holds and no address has prepared.

    That is for other settings of `stages` than they were prepared with; no source is opened.
    """
    plans, settings = _planned(stages, _Opening.of(out, unheard, held=held))
    refuse_changed_stages(held, settings, plans=plans, out=out)


def _planned(
    stages: Sequence[StageConfig], opening: _Opening
) -> tuple[list[PlannedSource], dict[str, str]]:
    """Return the sources of all stages, and {stage: hash of everything that shapes its tokens}."""
    held = opening.held.sources if opening.held else None
    plans = [plan for stage in stages for plan in _plans(stage, opening)]
    return plans, {stage.name: settings_sha256(stage, held) for stage in stages}


@contextmanager
def _told_of(is_in_use: bool, progress: Callable[[str], None]) -> Iterator[None]:
    """Tell `progress` what is refused, or cannot be compared, where the data is in use already."""
    try:
        yield
    except (UsageError, CorruptDataError, BrokenDiskError) as error:
        if not is_in_use:
            raise
        progress(f"{error} What is prepared is in use, and stays as it is.")


def _has_all(held: Manifest | None, stages: Sequence[StageConfig]) -> bool:
    return held is not None and all(stage.name in held.stages for stage in stages)


@dataclass(frozen=True)
class _Opening:
    """What the plans of all stages share; `find` reads each benchmark once.

    `held` is what `out` holds already.
    """

    out: Path
    progress: Callable[[str], None]
    find: FindBenchmark
    held: Manifest | None

    @classmethod
    def of(
        cls, out: Path, progress: Callable[[str], None], *, held: Manifest | None = None
    ) -> _Opening:
        """Return what reads benchmarks with the news of `progress`."""
        return cls(out, progress, cache(partial(_find, progress=progress)), held)


def _plans(stage: StageConfig, opening: _Opening) -> list[PlannedSource]:
    if stage.data.source not in LISTS:
        return [_folder_plan(stage, opening)]
    kind: Literal["hub", "embedded"] = "hub" if stage.data.source == "hub" else "embedded"
    sources, known = own_sources(stage), opening.held.sources if opening.held else {}
    if not sources:
        raise UsageError(
            f"The stage {stage.name} has data.source {kind} but no {kind}_sources; name some in "
            "its file or choose another source."
        )
    return [
        PlannedSource(
            name=source.name,
            stage=stage.name,
            kind=kind if source.documentation is None else "documentation",
            validation_fraction=stage.data.validation_fraction,
            open=partial(
                open_source,
                source,
                kind,
                seed=stage.data.seed,
                opening=Opening(opening.progress, begun=_begun(opening.out / source.name, stage)),
            ),
            recipe=partial(source_recipe, stage, source, find=opening.find),
            settings=source_settings(source, known.get(source.name)),
        )
        for source in sources
    ]


def source_recipe(stage: StageConfig, source: SourceConfig, *, find: FindBenchmark) -> Recipe:
    """Return what is done to the texts of a source; raises what `find` does."""
    return _recipe(stage, source.treatment, min_tokens=source.min_tokens, find=find)


def _find(task: str, bench: str, *, progress: Callable[[str], None]) -> Benchmark:
    return find_benchmark(task, bench=bench, prepared=None, with_shots=False, news=progress)


def _recipe(
    stage: StageConfig,
    config: TreatmentConfig,
    *,
    min_tokens: int | None = None,
    find: FindBenchmark,
) -> Recipe:
    benchmarks = [find(task, stage.evaluation.bench) for task in config.decontaminate]
    treatment = Treatment(
        config,
        min_tokens=min_tokens,
        encoder=stage.data.encoder,
        wanted=tuple(wanted_items(benchmarks)),
    )
    found = {benchmark.task: benchmark.sha256 for benchmark in benchmarks}
    return Recipe(treatment, found, treatment.tools)


def _begun(folder: Path, stage: StageConfig) -> str | None:
    """Return the version of a source of which an earlier start has read a part."""
    state = load_unfinished(folder)
    if state is None or state.settings != settings_sha256(stage):
        return None
    asked = {asked_commit(source) for source in own_sources(stage) if source.name == folder.name}
    return state.version if asked <= {None, state.version.rpartition("@")[2]} else None


def _folder_plan(stage: StageConfig, opening: _Opening) -> PlannedSource:
    # What is done is not read again: its folder may be closed, its parts gone, or run again.
    parts = None if _has_all(opening.held, [stage]) else stage_parts(stage)
    if parts is not None:
        tell_unjoined(stage, parts, say=opening.progress)
    domain = folder_domain(stage, parts.provenance.source if parts is not None else None)
    treatment = stage.data.folder_treatment if parts is None else parts.recipe.treatment.config
    return PlannedSource(
        name=stage.name,
        stage=stage.name,
        kind="folder",
        validation_fraction=stage.data.validation_fraction,
        open=lambda: (
            open_folder(
                stage_folder(stage),
                name=stage.name,
                domain=domain,
                progress=opening.progress,
                begun=_begun(opening.out / stage.name, stage),
            )
            if parts is None
            else JoinedSource(parts, domain)
        ),
        recipe=partial(_recipe, stage, treatment, find=opening.find)
        if parts is None
        else lambda: parts.recipe,
        settings={"treatment": treatment.model_dump(mode="json")},
    )


def _refuse_changed_texts(
    stages: Sequence[StageConfig], held: Manifest, *, opening: _Opening
) -> None:
    """Refuse a folder that is not as it was when `out` was made of it; one that is gone is not."""
    out = opening.out
    for folder, record in folders_behind(stages, held):
        if not _is_empty(folder) and not _is_unchanged(folder, record, opening=opening):
            raise UsageError(
                f"{folder} is not as it was when {out} was prepared from it ({record.version}): to "
                "read it as it is now choose another folder for the data, to use what is prepared "
                "put the texts back or move them away."
            )


def tell_other_items(
    held: Manifest, stages: Sequence[StageConfig], *, place: Path, say: Callable[[str], None]
) -> None:
    """Say where data that is used all the same was cleared of other items than lie there now.

    Of somebody else's it is not refused: the hub's items of a set and those of a folder may differ
    for good.
    """
    opening, told = _Opening.of(place, say), (UsageError, CorruptDataError, BrokenDiskError)
    for difference in _other_items(held, stages, opening=opening, bears=told):
        say(f"{difference}; the data is used as it is")


def _refuse_other_items(
    held: Manifest, stages: Sequence[StageConfig], *, opening: _Opening
) -> None:
    """Raise `UsageError` for the first difference; a damaged file is a `CorruptDataError`."""
    for difference in _other_items(held, stages, opening=opening):
        raise UsageError(
            f"{difference}: give --bench_dir the items of then, or choose another folder for the "
            "data."
        )


def _other_items(
    held: Manifest,
    stages: Sequence[StageConfig],
    *,
    opening: _Opening,
    bears: tuple[type[YxanulError], ...] = (UsageError,),
) -> Iterator[str]:
    """Yield where other items of benchmarks were looked for than lie in the folder of now.

    Those of the hub are not compared: they would be streamed at every start of a run. Nor are those
    that the tasks of a cluster looked for, which had a folder of their own. What `bears` names is
    told where items cannot be read; `CorruptDataError` is a damaged file.
    """
    for stage in stages:
        bench = stage.evaluation.bench
        if bench == HUB:
            continue
        looked_for = {
            cleared
            for record in held.sources_of(stage.name).values()
            if not is_of_parts(record)
            for cleared in record.decontaminated.items()
        }
        for task, sha256 in sorted(looked_for):
            try:
                found = opening.find(task, bench)
            except bears as error:
                opening.progress(f"what {stage.name} was cleared of is not compared: {error}")
                continue
            if found.sha256 != sha256:
                yield (
                    f"{opening.out} holds {stage.name}, cleared of other items of {task} "
                    f"({sha256[:12]}...) than {bench} has ({found.sha256[:12]}...)"
                )


def _is_empty(folder: Path) -> bool:
    """Tell whether nothing of ours lies in a folder, which may be gone itself."""
    try:
        return not folder.is_dir() or all(own.name == LOST_AND_FOUND for own in folder.iterdir())
    except OSError as error:
        raise unreadable(folder, error) from error


def _is_unchanged(folder: Path, record: SourceRecord, *, opening: _Opening) -> bool:
    is_documentation = record.kind == "documentation"
    is_joined = None if is_documentation else holds_parts(folder, record.version)
    if is_joined is not None:
        return is_joined
    known = hashed_at(opening.out, record.version, folder=folder)
    since = version_since if is_documentation else unchanged_since
    second = since(folder, record.version, since=known, progress=opening.progress)
    if second is not None and second != known:
        keep_hashed(opening.out, record.version, folder=folder, second=second)
    return second is not None
