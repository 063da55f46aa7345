"""The lists below the charts: tokens by source, samples, sources, environment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from yxanul.report.reading.course import stage_names
from yxanul.report.reading.gather import Run
from yxanul.report.reading.records import Record
from yxanul.report.reading.traced import Traced, source_of, total


@dataclass(frozen=True)
class LedgerRow:
    """The tokens that one source gave, stage by stage."""

    source: Traced
    tokens: tuple[Traced | None, ...]
    total: Traced

    @property
    def shares(self) -> tuple[float, ...]:
        """Each stage's tokens against the row's largest, in percent, for a bar."""
        largest = max((t.number for t in self.tokens if t is not None), default=0.0) or 1.0
        return tuple(round(100 * t.number / largest, 1) if t else 0.0 for t in self.tokens)


@dataclass(frozen=True)
class Ledger:
    """Which source gave how many tokens, on the run's branch."""

    stages: tuple[Traced, ...]
    rows: tuple[LedgerRow, ...]


@dataclass(frozen=True)
class Sample:
    """A continuation: when it was written, with what settings, and by which attempt."""

    step: Traced | None
    tokens: Traced | None
    stage: Traced | None
    attempt: Traced | None
    continuation: Traced | None
    belongs: bool


@dataclass(frozen=True)
class PromptSamples:
    """One prompt and its continuations over time."""

    prompt: Traced | None
    temperature: Traced | None
    seed: Traced | None
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Source:
    """A source of text with what its licence asks for."""

    name: Traced
    fields: dict[str, Traced | None]
    """stage, domain, licence, attribution, version, kind."""
    train: dict[str, Traced | None]
    """documents, tokens."""
    validation: dict[str, Traced | None]


@dataclass(frozen=True)
class Fact:
    """A line of a table of facts; a list of words is one value."""

    name: Traced
    value: Traced


@dataclass(frozen=True)
class Feature:
    """An optimisation as the newest start of the run found it."""

    name: Traced | None
    state: Traced | None
    reason: Traced | None
    tone: str


_FEATURE_TONES = {"active": "good", "available": "warn", "unavailable": "quiet"}
_ELSEWHERE = ("features", "cpu_flags", "command")


def ledger(run: Run) -> Ledger | None:
    """Return the tokens of each source on the run's branch; None when no verdict counted them."""
    told = [v for v in run.verdicts if v.table("ledger") and run.belongs(v)]
    last = {v.need_text("stage"): v for v in told}
    verdicts = [last[name] for n in stage_names(run) if (name := str(n.value)) in last]
    if not verdicts:
        return None
    rows = []
    for name in dict.fromkeys(source for v in verdicts for source in v.table("ledger")):
        tokens = tuple(v.number("ledger", name) for v in verdicts)
        given = [t for t in tokens if t is not None]
        if given:
            key = Traced(name, (given[0].sources[0],), "key")
            rows.append(LedgerRow(key, tokens, total(given)))
    stages = tuple(stage for v in verdicts if (stage := v.text("stage")) is not None)
    return Ledger(stages, tuple(rows))


def samples(run: Run) -> tuple[PromptSamples, ...]:
    """Return the continuations grouped by prompt, each in the order of its steps."""
    groups: dict[str, list[Record]] = {}
    for row in run.samples:
        groups.setdefault(row.need_text("prompt"), []).append(row)
    return tuple(
        PromptSamples(
            prompt=rows[0].text("prompt"),
            temperature=rows[0].number("temperature"),
            seed=rows[0].number("seed"),
            samples=tuple(_sample(run, row) for row in rows),
        )
        for rows in groups.values()
    )


def sources(run: Run) -> tuple[Source, ...]:
    """Return the sources of the prepared data; empty when it is not there."""
    if run.manifest is None:
        return ()
    return tuple(_source(run.manifest, name) for name in run.manifest.table("sources"))


def facts(run: Run) -> tuple[Fact, ...]:
    """Return what the environment file says in single values, as written."""
    if run.environment is None:
        return ()
    found = []
    for key, value in run.environment.table().items():
        if key in _ELSEWHERE or isinstance(value, dict | list) or value is None:
            continue
        where = run.environment.source(key)
        text = Traced(str(value) if isinstance(value, bool) else value, (where,))
        found.append(Fact(Traced(key, (where,), "key"), text))
    return (*found, *_end_time(run))


def features(run: Run) -> tuple[Feature, ...]:
    """Return the optimisations of the newest start; empty when the run did not record them."""
    if run.environment is None:
        return ()
    found = []
    for index in range(len(run.environment.items("features"))):
        name, state, reason = (
            run.environment.text("features", index, key) for key in ("name", "state", "reason")
        )
        look = _FEATURE_TONES.get(str(state.value), "quiet") if state is not None else "quiet"
        found.append(Feature(name, state, reason, look))
    return tuple(found)


def configuration(run: Run) -> Traced | None:
    """Return the whole text of the resolved configuration."""
    if not run.config_text:
        return None
    return Traced(run.config_text, (source_of("config.yaml"),), "file")


def _end_time(run: Run) -> tuple[Fact, ...]:
    ended = run.exit.number("ended_at") if run.exit is not None else None
    if ended is None:
        return ()
    moment = datetime.fromtimestamp(ended.number, tz=timezone.utc)
    text = Traced(f"{moment:%Y-%m-%d %H:%M} UTC", ended.sources, "date")
    return (Fact(Traced("ended_at", ended.sources, "key"), text),)


def _sample(run: Run, row: Record) -> Sample:
    return Sample(
        step=row.number("step"),
        tokens=row.number("tokens_seen"),
        stage=row.text("stage"),
        attempt=row.number("attempt"),
        continuation=row.text("continuation"),
        belongs=run.belongs(row),
    )


def _source(manifest: Record, name: str) -> Source:
    keys = ("stage", "domain", "licence", "attribution", "version", "kind")
    place = ("sources", name)
    counts = [
        {key: manifest.number(*place, split, key) for key in ("documents", "tokens")}
        for split in ("train", "validation")
    ]
    return Source(
        name=Traced(name, (manifest.source(*place),), "key"),
        fields={key: manifest.text(*place, key) for key in keys},
        train=counts[0],
        validation=counts[1],
    )
