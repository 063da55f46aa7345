"""Build a prepared folder from any sources, stage by stage: all files of it, then the manifest.

The one idea: a stage is prepared once. One that the manifest holds with the same settings is
reused, with other settings it is refused, and one that it lacks is added beside the others. Until
the new manifest is there the old one stays in force with all its files, so a kill loses only the
stages in progress. There are no times in the folder, and a stage's texts are compared with those of
all stages before it, so adding stages one by one gives the same bytes as preparing them at once.
What happens to a single source is in `yxanul.data.pipeline`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yxanul
from yxanul.data.dedup import SeenTexts
from yxanul.data.documents import read_documents
from yxanul.data.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    SPLITS,
    Manifest,
    StageRecord,
    is_source_name,
    load_manifest,
    write_manifest,
)
from yxanul.data.pipeline import DocumentSource, Pace, PlannedSource, Workbench, write_source
from yxanul.data.shards import SHARD_TOKENS
from yxanul.data.tokenizer import load_tokenizer
from yxanul.data.verify import check_files
from yxanul.data.workspace import workspace
from yxanul.errors import UsageError


def prepare_sources(
    plans: Sequence[PlannedSource],
    out: Path,
    *,
    settings: Mapping[str, str],
    progress: Callable[[str], None],
    shard_tokens: int = SHARD_TOKENS,
) -> Manifest:
    """Prepare the stages of `plans` that `out` lacks; return the manifest of all that it holds.

    `settings` is {stage: hash of everything that shapes its tokens}. The errors are those of
    `yxanul.data.prepare.prepare`.
    """
    if not plans:
        raise UsageError("There is nothing to prepare; name at least one stage.")
    held = _held(out, settings)
    missing = [plan for plan in plans if held is None or plan.stage not in held.stages]
    _check_plans(missing, held)
    if held is not None and not missing:
        progress(f"{out} is prepared already")
        return held
    if held is not None:
        progress(f"{out} holds {', '.join(held.stages)} already")
    # All are opened first: a package that is missing shows before an hour of work, not after it.
    opened: list[tuple[PlannedSource, DocumentSource]] = [(plan, plan.open()) for plan in missing]
    tokenizer = load_tokenizer()
    with workspace(out, [plan.name for plan in missing], held=held):
        bench = Workbench(out, tokenizer, shard_tokens, progress, SeenTexts())
        if held is not None:
            _remember(held, bench)
        added = {plan.name: write_source(plan, source, bench=bench) for plan, source in opened}
        record = {
            plan.stage: StageRecord(
                settings[plan.stage], yxanul.__version__, platform.python_version()
            )
            for plan in missing
        }
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            tokenizer_sha256=tokenizer.sha256,
            stages={**held.stages, **record} if held else record,
            sources={**held.sources, **added} if held else added,
        )
        write_manifest(manifest, out)
    return manifest


def _held(out: Path, settings: Mapping[str, str]) -> Manifest | None:
    """Return the manifest of what is there already; None = nothing is finished yet."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; choose a folder to prepare the data in.")
    if not (out / MANIFEST_NAME).exists():
        return None
    manifest = load_manifest(out)
    for stage, sha256 in settings.items():
        if stage in manifest.stages and manifest.stages[stage].settings_sha256 != sha256:
            raise UsageError(
                f"{out} holds the stage {stage}, prepared with other settings (sources, seed or "
                f"split); use those again, choose another folder, or delete {out} to prepare all "
                "its stages anew."
            )
    check_files(manifest, out)
    return manifest


def _check_plans(missing: Sequence[PlannedSource], held: Manifest | None) -> None:
    stages = {name: source.stage for name, source in held.sources.items()} if held else {}
    for plan in missing:
        if not is_source_name(plan.name):
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


def _remember(held: Manifest, bench: Workbench) -> None:
    """Put the texts of the stages that are there into the dedup table."""
    pace = Pace(bench.progress)
    for name in held.sources:
        for split in SPLITS:
            for _, document in read_documents(held, bench.out, source=name, split=split):
                bench.seen.add(bytes.fromhex(document.sha256))
                pace.tell(lambda: f"{len(bench.seen):,} texts are prepared already")
