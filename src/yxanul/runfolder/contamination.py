"""Which items of the benchmarks stand in the training text: RUN/contamination.json.

The one idea: findings are kept by source, so that what a stage can have learnt is known from the
sources that were read up to it; and with the hashes of all that was compared, so that nothing is
compared twice. Looking is the work of `yxanul.data.contamination`.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from yxanul.errors import CorruptDataError
from yxanul.runfolder.durable import write_json

_Record = TypeVar("_Record")
_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "float": (int, float),
}


@dataclass(frozen=True)
class Finding:
    """An item that stands in a source, and the first document that holds it."""

    task: str
    item: str
    source: str
    rule: str
    """What gave it away: 13 words in a `row`, `coverage` of its runs of eight words, or a short
    question that is `answered` (`yxanul.data.contamination.judge`)."""
    masked: bool
    """Whether it is the item but for its numbers."""
    coverage: float
    """Share of the item's runs of eight words that the document holds."""
    documents: int
    """How many documents of the source hold it; counting ends at 100 per 8M tokens."""
    shard: str
    """Path of the file in the prepared folder in which the document begins."""
    document: int
    """Its index in the source's training stream."""
    document_id: str
    span: str
    """The matching words in their normal form, 40 at most."""


@dataclass(frozen=True)
class ScannedSource:
    """Training text that was looked through; `sha256` is `SplitRecord.sha256`."""

    sha256: str
    tokens: int
    documents: int
    words: int


@dataclass(frozen=True)
class ScannedBenchmark:
    """A task whose items were looked for; `sha256` is `Benchmark.sha256`."""

    sha256: str
    items: int
    too_short: int
    """Items with too few words to tell: neither clean nor dirty."""


@dataclass(frozen=True)
class Contamination:
    """What was found of all benchmarks in all sources."""

    rules: str
    """Version of the rules."""
    benchmarks: dict[str, ScannedBenchmark]
    sources: dict[str, ScannedSource]
    findings: tuple[Finding, ...]
    """One per item and source, in the order of task, item and source."""

    @property
    def dirty(self) -> dict[str, list[str]]:
        """{task: ids of the items that stand in any source}, sorted; every task has its key."""
        return self.dirty_in(self.sources)

    def dirty_in(self, sources: Collection[str]) -> dict[str, list[str]]:
        """Return {task: ids of the items that stand in one of these sources}, sorted."""
        found: dict[str, set[str]] = {task: set() for task in self.benchmarks}
        for finding in self.findings:
            if finding.source in sources:
                found[finding.task].add(finding.item)
        return {task: sorted(items) for task, items in found.items()}


def write_contamination(path: Path, contamination: Contamination) -> None:
    """Write it whole or not at all; the same findings give the same bytes."""
    write_json(path, asdict(contamination))


def read_contamination(path: Path) -> Contamination:
    """Read what `write_contamination` wrote.

    Raises `CorruptDataError` for anything else, FileNotFoundError if there is none.
    """
    try:
        value = json.loads(path.read_bytes())
        _check_keys(Contamination, value)
        read = Contamination(
            rules=value["rules"],
            benchmarks={
                task: _record(ScannedBenchmark, of) for task, of in value["benchmarks"].items()
            },
            sources={name: _record(ScannedSource, of) for name, of in value["sources"].items()},
            findings=tuple(_record(Finding, of) for of in value["findings"]),
        )
        for finding in read.findings:
            if finding.task not in read.benchmarks or finding.source not in read.sources:
                raise ValueError("a finding names what was not looked at")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptDataError(
            f"{path} is not what was written ({str(error)[:80]}); delete it, and the training text "
            "is looked through again"
        ) from error
    return read


def _record(kind: type[_Record], value: Any) -> _Record:
    """Return a record of plain fields from its JSON; raise ValueError or TypeError."""
    _check_keys(kind, value)
    for field in fields(kind):  # type: ignore[arg-type]
        wanted = _KINDS[str(field.type)]
        given = value[field.name]
        if not isinstance(given, wanted) or isinstance(given, bool) != (wanted == (bool,)):
            raise ValueError(f"{field.name} is {given!r:.40}")
    return kind(**value)


def _check_keys(kind: type, value: Any) -> None:
    names = {field.name for field in fields(kind)}
    if not isinstance(value, dict) or set(value) != names:
        raise ValueError(f"an object with the keys {', '.join(sorted(names))} is expected")
