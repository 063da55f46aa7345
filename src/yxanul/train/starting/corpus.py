"""The run's data: prepared or found, verified, opened, and the held-out part of each domain."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from yxanul.config.schema import RunConfig, StageConfig, evaluation_seq_len
from yxanul.curriculum.stages import StagePlan
from yxanul.data.batches.validation import stage_documents
from yxanul.data.packing.chunks import ChunkTable
from yxanul.data.places.folders import prepared_folder, shared_address
from yxanul.data.places.remote import remote_manifest
from yxanul.data.prepared.manifest import (
    MANIFEST_NAME,
    Manifest,
    load_manifest,
    require_stages,
)
from yxanul.data.prepared.settings import refuse_other_settings, tell_other_licences
from yxanul.data.prepared.shards import TokenStream, open_stream
from yxanul.data.prepared.verify import verify
from yxanul.data.preparing.prepare import prepare, tell_other_items
from yxanul.errors import UsageError
from yxanul.runfolder.durable import write_json
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import has_begun
from yxanul.train.probing.begun import begun_with
from yxanul.train.processes.machine import Machine
from yxanul.train.scoring.held_out import HeldOut


@dataclass(frozen=True)
class Corpus:
    """The prepared data: what it holds and the training streams by source."""

    manifest: Manifest
    streams: dict[str, TokenStream]
    root: Path
    """The prepared folder."""
    tables: dict[tuple[str, int], ChunkTable] = field(default_factory=dict)
    """Chunks by data.packing and their tokens, kept since stages share them."""

    def chunks(self, packing: str, chunk_tokens: int) -> ChunkTable:
        """Return the chunks of every source."""
        key = packing, chunk_tokens
        if key not in self.tables:
            self.tables[key] = ChunkTable(
                self.manifest, self.root, packing=packing, chunk_tokens=chunk_tokens
            )
        return self.tables[key]

    def identity(self, stages: Sequence[str]) -> dict[str, str]:
        """Return {source: sha256 over its training shards' sha256} of these stages' sources."""
        sources = self.manifest.sources_of(*stages)
        return {name: source.train.sha256 for name, source in sources.items()}


def prepare_corpus(
    config: RunConfig,
    folder: RunFolder,
    *,
    machine: Machine,
    check: Callable[[Manifest], None],
) -> Corpus:
    """Prepare the run's data, or find it ready in RUN/data or in the folder of --data.

    Every byte of every shard is verified. `check` raises for other tokens than the run has read: of
    what is ready, or lies at an address, before anything is brought. Raises `UsageError` for a
    folder of --data that was prepared from other sources, or with other settings of them, than the
    configuration's, if the run was not begun with that folder.
    """
    shared = prepared_folder(config.stages[0].data.source, run=folder)
    refuse_several_sources(config.stages)
    if shared is not None:
        root, manifest, say = shared, load_manifest(shared), machine.progress.say
        if kept := kept_settings(manifest, config, folder=folder, place=shared):
            say(kept)
        tell_other_items(manifest, config.stages, place=shared, say=say)
        tell_other_licences(manifest, config.stages, place=shared, say=say)
    else:
        root = folder.data
        if machine.processes.is_main:
            if (ready := _ready(config.stages, root)) is not None:
                check(ready)
            is_in_use = keeps_data(config, folder)
            prepare(config.stages, root, progress=machine.heard, is_in_use=is_in_use)
        machine.processes.await_main("the data is prepared")
        manifest = load_manifest(root)
    require_stages(manifest, [stage.name for stage in config.stages])
    if machine.processes.is_main:
        verify(manifest, root, progress=machine.heard)
    sources = manifest.sources_of(*(stage.name for stage in config.stages))
    streams = {n: open_stream(manifest, root, source=n, split="train") for n in sources}
    return Corpus(manifest, streams, root)


def prepared_root(config: RunConfig, folder: RunFolder) -> Path | None:
    """Return where all of the run's data lies prepared on this machine; None: nowhere yet."""
    shared = prepared_folder(config.stages[0].data.source, run=folder)
    if shared is not None:
        return shared
    if not (folder.data / MANIFEST_NAME).is_file():
        return None
    held = load_manifest(folder.data).stages
    return folder.data if all(stage.name in held for stage in config.stages) else None


def kept_settings(manifest: Manifest, config: RunConfig, *, folder: RunFolder, place: Path) -> str:
    """Say what of --data, a prepared folder at `place`, is other than asked for; "" = nothing.

    Raises `UsageError` if the run was not begun with that folder.
    """
    try:
        refuse_other_settings(manifest, config.stages, place=place)
    except UsageError as error:
        is_begun = has_begun(folder.lineage)
        if not is_begun or folder.prepared_data().resolve() != place.resolve():
            raise  # of stages that are not trained yet nothing else tells
        return f"{error} The run goes on with what it was begun with."
    return ""


def keeps_data(config: RunConfig, folder: RunFolder) -> bool:
    """Tell whether the run was begun with data from where the stages say, so that it keeps that.

    What lies there may be other data by now. Another place must hold the same as the run has.
    """
    before = begun_with(folder)
    if before is None:
        return False
    asked = {stage.name: stage.data.source for stage in config.stages}
    return all(asked.get(s.name, s.data.source) == s.data.source for s in before.stages)


def _ready(stages: Sequence[StageConfig], root: Path) -> Manifest | None:
    """Return the manifest of what is prepared, in `root` or at an address; None = not all is."""
    names, address = {stage.name for stage in stages}, shared_address(stages)
    found = load_manifest(root) if (root / MANIFEST_NAME).is_file() else None
    if address is not None and (found is None or not names <= found.stages.keys()):
        found = remote_manifest(address)
    return found if found is not None and names <= found.stages.keys() else None


def lacks_a_stage(held: Manifest, folder: RunFolder) -> bool:
    """Tell whether prepared data lacks a stage that the run was begun with."""
    before = begun_with(folder)
    return before is not None and any(stage.name not in held.stages for stage in before.stages)


def keep_place(corpus: Corpus, folder: RunFolder, *, has_ended: bool) -> None:
    """Write down where the run's data lies, if that is elsewhere.

    But nothing of a part of it, where an earlier stage of a run was asked for that `has_ended`.
    """
    if has_ended and lacks_a_stage(corpus.manifest, folder):
        return
    if corpus.root.resolve() == folder.data.resolve():
        folder.data_pointer.unlink(missing_ok=True)
    else:
        write_json(folder.data_pointer, {"prepared": str(corpus.root.resolve())})


def refuse_several_sources(stages: Sequence[StageConfig]) -> None:
    """Raise `UsageError` where some of the stages, and not all, read a prepared folder."""
    chosen = {stage.data.source for stage in stages}
    if len(chosen) > 1 and any(map(prepared_folder, chosen)):
        raise UsageError(
            f"data.source names a prepared folder for some stages only ({', '.join(sorted(chosen))}"
            "); a run reads one prepared folder: give it with --data"
        )


def held_out_documents(
    config: RunConfig, corpus: Corpus, *, stages: Sequence[StagePlan]
) -> dict[str, HeldOut]:
    """Read each domain's held-out documents, its sources in equal parts."""
    budgets = {plan.name: plan.config.evaluation.tokens_per_domain for plan in stages}
    found = stage_documents(corpus.manifest, corpus.root, tokens_per_domain=budgets)
    return {
        domain: HeldOut(documents, evaluation_seq_len(config, plan.config))
        for plan in stages
        for domain, documents in found[plan.name].items()
    }
