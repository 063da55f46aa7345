"""Build a prepared folder from any sources, stage by stage: all files of it, then the manifest.

The one idea: a stage is prepared once. One that the manifest holds with the same settings is
reused, with other settings it is refused, and one that it lacks is added beside the others. Until
the new manifest is there the old one stays in force with all its files, so a kill loses only the
stages in progress, and of a source that can be read on from the middle only the last half minute.
There are no times in the files, and a stage's texts are compared with those of
all stages before it, so adding stages one by one gives the same bytes as preparing them at once.
What happens to a single source is in `yxanul.data.preparing.pipeline`.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import yxanul
from yxanul.data.bookmark import Bookmark
from yxanul.data.duplicates.known import KnownTexts
from yxanul.data.parts.files import is_of_parts
from yxanul.data.prepared.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    SPLITS,
    Manifest,
    SourceRecord,
    StageRecord,
    is_plain_name,
    load_manifest,
    write_manifest,
)
from yxanul.data.prepared.settings import changed_settings, kinds_of
from yxanul.data.prepared.unfinished import Unfinished, identity, load_unfinished
from yxanul.data.prepared.verify import check_files
from yxanul.data.prepared.workspace import sweep, workspace
from yxanul.data.preparing.pipeline import (
    Effort,
    Job,
    PlannedSource,
    Workbench,
    remember,
    write_source,
)
from yxanul.data.preparing.reading import DocumentSource
from yxanul.data.progress import Watcher
from yxanul.data.tokenizer import VOCABULARY_SHA256
from yxanul.data.treating.treatment import Treater
from yxanul.errors import UsageError

_KINDS = {"hub": "the hub", "embedded": "embedded sources", "folder": "a folder"}


def prepare_sources(
    plans: Sequence[PlannedSource],
    out: Path,
    *,
    settings: Mapping[str, str],
    progress: Callable[[str], None],
    effort: Effort | None = None,
    watcher: Watcher | None = None,
) -> Manifest:
    """Prepare the stages of `plans` that `out` lacks; return the manifest of all that it holds.

    `settings` is {stage: hash of everything that shapes its tokens}. The errors, and what
    `progress` and `watcher` hear, are those of `yxanul.data.preparing.prepare.prepare`.
    """
    if not plans:
        raise UsageError("There is nothing to prepare; name at least one stage.")
    held = _held(out, settings, plans=plans)
    missing = [plan for plan in plans if held is None or plan.stage not in held.stages]
    _check_plans(missing, held)
    if held is not None and not missing:
        sweep(out, held)
        progress(f"{out} is prepared already")
        return held
    if held is not None:
        progress(f"{out} holds {', '.join(held.stages)} already")
    # All are opened first: a package that is missing shows before an hour of work, not after it.
    opened = [(plan, plan.open()) for plan in missing]
    with KnownTexts(out) as known:
        bench = Workbench(out, progress, known, effort or Effort(), watcher)
        return _build(opened, settings, held=held, bench=bench)


def _build(
    opened: Sequence[tuple[PlannedSource, DocumentSource]],
    settings: Mapping[str, str],
    *,
    held: Manifest | None,
    bench: Workbench,
) -> Manifest:
    """Write the sources and the manifest of everything."""
    out = bench.out
    jobs = {job.plan.name: job for job in _jobs(opened, settings, held=held, bench=bench)}
    sources = {name: job.plan.stage for name, job in jobs.items()}
    with workspace(out, sources, held=held, keep=partial(_goes_on, jobs=jobs, bench=bench)):
        for name, record in held.sources.items() if held is not None else ():
            remember(name, bench, sizes=_sizes(record))
        added: dict[str, SourceRecord] = {}
        for name, job in jobs.items():
            # Not before: one that cannot be gone on with is written anew, and what was begun after
            # it must not be known then.
            begun = load_unfinished(out / name)
            if begun is not None:
                remember(name, bench, sizes=_begun_sizes(begun, job))
            added[name] = write_source(replace(job, begun=begun), bench=bench)
        manifest = _manifest(added, settings, held=held)
        check_files(manifest, out)
        write_manifest(manifest, out)
    return manifest


def _jobs(
    opened: Sequence[tuple[PlannedSource, DocumentSource]],
    settings: Mapping[str, str],
    *,
    held: Manifest | None,
    bench: Workbench,
) -> Iterator[Job]:
    """Yield a job per source; its identity covers all sources before it, as dedup does."""
    before = json.dumps(asdict(held)) if held else ""
    # Where the last number shapes a text too, it is in the source's version.
    python = platform.python_version().rpartition(".")[0]
    program = f"{yxanul.__version__}, {python}, {bench.effort.shard_tokens}"
    chain = identity(before, program)
    for plan, source in opened:
        bookmark: Bookmark | None = getattr(source, "bookmark", None)
        reader = bookmark.reader if bookmark else ""
        recipe = plan.recipe()
        if getattr(source, "parts", None) is None:
            # A library that is missing shows now; the items take a second, and cannot be missing.
            Treater(replace(recipe.treatment, wanted=()))
        made_with = json.dumps(recipe.as_json(), sort_keys=True)
        chain = identity(chain, plan.name, settings[plan.stage], source.version, reader, made_with)
        yield Job(plan, source, recipe, settings[plan.stage], chain)


def _goes_on(name: str, *, jobs: Mapping[str, Job], bench: Workbench) -> bool:
    """Return whether what an earlier start left of a source is the beginning of what we write."""
    state = load_unfinished(bench.out / name)
    if state is None:
        return False
    job = jobs.get(name)
    if job is not None and job.identity == state.identity:
        return True
    if job is None:
        why = "no stage of these asks for it now"
    elif job.settings != state.settings:
        why = "its stage has other settings now"
    elif job.source.version != state.version:
        why = f"it was {state.version} and is {job.source.version} now"
    else:
        why = "what comes before it, the items looked for, a tool or the program is another now"
    bench.progress(f"{name}: what was begun of it is removed, since {why}")
    return False


def _manifest(
    added: Mapping[str, SourceRecord], settings: Mapping[str, str], *, held: Manifest | None
) -> Manifest:
    stages = {
        record.stage: StageRecord(
            settings[record.stage], yxanul.__version__, platform.python_version()
        )
        for record in added.values()
    }
    return Manifest(
        format_version=FORMAT_VERSION,
        tokenizer_sha256=VOCABULARY_SHA256,
        stages={**held.stages, **stages} if held else stages,
        sources={**held.sources, **added} if held else dict(added),
    )


def _held(
    out: Path, settings: Mapping[str, str], *, plans: Sequence[PlannedSource]
) -> Manifest | None:
    """Return the manifest of what is there already; None = nothing is finished yet."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; choose a folder to prepare the data in.")
    if not (out / MANIFEST_NAME).exists():
        return None
    manifest = load_manifest(out)
    refuse_changed_stages(manifest, settings, plans=plans, out=out)
    check_files(manifest, out)
    return manifest


def refuse_changed_stages(
    manifest: Manifest,
    settings: Mapping[str, str],
    *,
    plans: Sequence[PlannedSource],
    out: Path,
) -> None:
    """Raise `UsageError` for a stage that `out` holds with other settings than these."""
    for stage, sha256 in settings.items():
        if stage in manifest.stages and manifest.stages[stage].settings_sha256 != sha256:
            asked = {plan.name: plan for plan in plans if plan.stage == stage}
            held = manifest.sources_of(stage)
            _refuse_other_kind(held, asked, stage=stage, out=out)
            told = "; ".join(_changes(held, asked))
            raise UsageError(
                f"{out} holds the stage {stage}, prepared with other settings ({told}); use those "
                f"again, choose another folder, or delete {out} to prepare all its stages anew."
            )


def _changes(held: Mapping[str, SourceRecord], plans: Mapping[str, PlannedSource]) -> Iterator[str]:
    """Yield in what a stage's sources are others than it was prepared from."""
    yield from (f"{name} is left out now" for name in held if name not in plans)
    yield from (f"{name} is new" for name in plans if name not in held)
    changes = [
        f"{name}: {key} {change}"
        for name, plan in plans.items()
        if name in held and not is_of_parts(held[name])
        for key, change in changed_settings(plan.settings, held[name].settings)
    ]
    yield from changes
    if changes or held.keys() != plans.keys():
        return
    if list(held) != list(plans):
        yield f"the sources were in the order {', '.join(held)}"
        return
    key = "data.seed"
    if "folder" in kinds_of(held):
        key = "the domain of the stage's first source"
    if any(map(is_of_parts, held.values())):  # its recipe is the cluster's
        key = f"data.folder_treatment, {key}"
    yield f"data.validation_fraction, {key} or the program's version was another"


def _refuse_other_kind(
    held: Mapping[str, SourceRecord],
    plans: Mapping[str, PlannedSource],
    *,
    stage: str,
    out: Path,
) -> None:
    """Refuse a stage that was read from the hub, say, and is to be read from a folder."""
    made = kinds_of(held)
    asked = {plan.kind for plan in plans.values()} - {"documentation"}
    if made and asked and made != asked:
        kind = made.pop()
        named = "FOLDER (which may be gone)" if kind == "folder" else kind
        raise UsageError(
            f"{out} holds the stage {stage}, prepared from {_KINDS[kind]}, and it is now to be "
            f"read from {_KINDS[asked.pop()]}: where stages differ in that, name it with --set and "
            f"not with --data, here --set {stage}.data.source={named}, or choose another folder "
            "for the data."
        )


def _check_plans(missing: Sequence[PlannedSource], held: Manifest | None) -> None:
    stages = {name: source.stage for name, source in held.sources.items()} if held else {}
    for plan in missing:
        if not is_plain_name(plan.name):
            raise UsageError(
                f"The source name {plan.name!r} of {plan.stage} cannot be a folder; use letters, "
                "digits, _ and -."
            )
        if plan.name in stages:
            raise UsageError(
                f"The source {plan.name} is in {stages[plan.name]} and in {plan.stage}; a source "
                "belongs to one stage. To read it again later, use data.replay_share."
            )
        stages[plan.name] = plan.stage


def _sizes(record: SourceRecord) -> dict[str, tuple[int, bool]]:
    """Return what `remember` needs of a source that is written to its end."""
    return {
        split: (record.split(split).index.bytes, record.split(split).signatures is not None)
        for split in SPLITS
    }


def _begun_sizes(state: Unfinished, job: Job) -> dict[str, tuple[int, bool]]:
    """Return what `remember` needs of a source that an earlier start began."""
    if state.finished is not None:
        return _sizes(state.finished)
    has_signatures = job.recipe.treatment.config.near_duplicates is not None
    return {split: (state.sides[split].index_bytes, has_signatures) for split in SPLITS}
