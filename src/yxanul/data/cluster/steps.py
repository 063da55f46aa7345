"""The treatment of a source as a step of datatrove's pipelines: its local, Slurm and Ray executors.

The one idea: what is done to a text depends on that text alone, so any number of tasks may do it;
what depends on the others (duplicates, the side, the shards) is done by `yxanul prepare --data
PARTS` afterwards, in the order of the tasks, so the result does not depend on who was faster. Needs
the extra yxanul[data].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from datatrove.data import Document as TroveDocument
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger

from yxanul.config.load import load_config
from yxanul.config.schema import SourceConfig
from yxanul.config.yamltext import quoted
from yxanul.data.benchmarks.find import find_benchmark
from yxanul.data.document import Document
from yxanul.data.items import Benchmark
from yxanul.data.parts.files import PartWriter, Provenance
from yxanul.data.preparing.prepare import source_recipe
from yxanul.data.sources.catalog import HUB_LICENCE
from yxanul.data.sources.hub.template import Template, UnfitRow
from yxanul.data.treating.treatment import Recipe, Treater
from yxanul.errors import UsageError

_BATCH_DOCUMENTS = 256


class TreatStep(PipelineStep):  # type: ignore[misc]  # datatrove has no types
    """Treats the documents of a pipeline and writes them as one part per task.

    Put it last: `LocalPipelineExecutor(pipeline=[ParquetReader(...), step], tasks=100)`.
    """

    name = "yxanul treatment"
    type = "TREATMENT"

    def __init__(self, parts: str, recipe: Recipe, *, stage: str, source: SourceConfig) -> None:
        """`parts` is a folder or an address that fsspec knows, of this source alone.

        The text of a document is the source's text_template over the reader's metadata, with its
        `text` and `id`; a source without one takes the text. Raises UsageError if the source has
        max_documents: no task knows how many the others have. A task raises it where it finds its
        part of another source.
        """
        super().__init__()
        if source.max_documents is not None:
            raise UsageError(
                f"The source {source.name} has max_documents {source.max_documents:,}, which tasks "
                "cannot hold together; set it to null and give the reader a limit for each task."
            )
        self._parts = parts
        self._recipe = recipe
        self._stage = stage
        self._source = source
        self._template = None if source.text_template is None else Template(source)

    def run(self, data: Iterable[TroveDocument] | None, rank: int = 0, world_size: int = 1) -> None:
        """Treat this task's documents, as datatrove calls it."""
        treater = Treater(self._recipe.treatment)
        with PartWriter(self._parts, rank, provenance=self._provenance()) as writer:
            for batch in _batches(self._documents(data or (), left_out=writer.left_out)):
                texts = treater.treat([document.text for document in batch])
                for document, text in zip(batch, texts, strict=True):
                    writer.append(document, text)
                    self.stat_update("dropped" if text.drop else "kept")
            writer.finish(self._recipe, world_size=world_size)

    def _provenance(self) -> Provenance:
        source = self._source
        on_hub = HUB_LICENCE if source.hub_id is not None else None
        return Provenance(self._stage, source.name, source.licence or on_hub, source.attribution)

    def _documents(
        self, data: Iterable[TroveDocument], *, left_out: Counter[str]
    ) -> Iterator[Document]:
        name = self._source.name
        for found in data:
            url: Any = found.metadata.get("url")
            try:
                text = self._text(found)
            except UnfitRow as unfit:
                left_out[str(unfit)] += 1
                self.stat_update("left out")
                continue
            yield Document(text, name, f"{name}/{found.id}", url if isinstance(url, str) else None)

    def _text(self, found: TroveDocument) -> str:
        if self._template is None:
            return str(found.text)
        return self._template.fill({"text": found.text, "id": found.id, **found.metadata})


def treat_step(
    config_dir: Path, *, stage: str, source: str, parts: str, bench_dir: str | None = None
) -> TreatStep:
    """Return the step of a source as the stage's file configures it.

    The benchmarks that it looks for are read now, from `bench_dir` or where evaluation.bench says.
    Raises UsageError for an unknown source or one with max_documents, and what `load_config` and
    `read_benchmark` do.
    """
    overrides = [] if bench_dir is None else [f"evaluation.bench={quoted(bench_dir)}"]
    config = load_config(config_dir, stages=[stage], overrides=overrides).stages[0]
    sources = {one.name: one for one in (*config.data.hub_sources, *config.data.embedded_sources)}
    if source not in sources:
        raise UsageError(
            f"The stage {stage} has no source {source!r}, only {', '.join(sources)}; name one of "
            "them."
        )
    recipe = source_recipe(config, sources[source], find=_find)
    return TreatStep(parts, recipe, stage=stage, source=sources[source])


def _find(task: str, bench: str) -> Benchmark:
    return find_benchmark(task, bench=bench, prepared=None, with_shots=False, news=logger.info)


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    while batch := list(islice(documents, _BATCH_DOCUMENTS)):
        yield batch
