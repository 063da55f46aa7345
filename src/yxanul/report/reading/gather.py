"""A run folder as one frozen value: everything that the report tells, read once.

The one idea: what a run did not record is empty or None, and the page says so; what is damaged is a
`CorruptDataError`. Nothing is judged or computed here, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from yxanul.config.load import parse_config
from yxanul.config.problems import check
from yxanul.config.schema import ModelConfig, RunConfig
from yxanul.config.yamltext import Document, read_document
from yxanul.curriculum.stages import StagePlan, plan_stages
from yxanul.data.prepared.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    has_manifest,
    load_manifest,
)
from yxanul.errors import ConfigError, CorruptDataError, UsageError
from yxanul.report.reading.measures import (
    SkillScore,
    TextScore,
    read_evaluated_texts,
    read_evaluations,
    read_skills,
)
from yxanul.report.reading.records import Record, read_record, read_records, read_scores
from yxanul.runfolder.contamination import read_contamination
from yxanul.runfolder.exits import begun_run, read_exit
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import ATTEMPT, current_branch, is_on
from yxanul.runfolder.verdicts import CHECK, OVERRIDE, PLATEAU, VERDICT

Placed = TypeVar("Placed", SkillScore, TextScore)


@dataclass(frozen=True)
class Run:
    """The records of one run folder, each with its address."""

    name: str
    metrics: tuple[Record, ...]
    checks: tuple[Record, ...] = ()
    verdicts: tuple[Record, ...] = ()
    plateaus: tuple[Record, ...] = ()
    """Answers to whether a stage may begin its decay."""
    overrides: tuple[Record, ...] = ()
    """What a person decided after a verdict, in the order in which it was recorded."""
    events: tuple[Record, ...] = ()
    """All rows of lineage.jsonl; `attempts` are some of them."""
    attempts: tuple[Record, ...] = ()
    samples: tuple[Record, ...] = ()
    spending: tuple[Record, ...] = ()
    scores: tuple[Record, ...] = ()
    skills: tuple[SkillScore, ...] = ()
    evaluations: tuple[SkillScore, ...] = ()
    """Skills that were scored by `yxanul evaluate`, and no gate has seen."""
    evaluated_texts: tuple[TextScore, ...] = ()
    contamination: Record | None = None
    config: Record | None = None
    config_text: str = ""
    model: ModelConfig | None = None
    settings: RunConfig | None = None
    """The configuration as this version reads it; None: it is another version's."""
    course: tuple[StagePlan, ...] = ()
    """The stages by the settings, before any gate changed them."""
    environment: Record | None = None
    exit: Record | None = None
    manifest: Record | None = None
    branch: dict[int, float] = field(default_factory=dict)
    """{attempt: last step of it that belongs to the run}, as `current_branch` tells it."""
    is_running: bool = False
    """Another process is training in the folder."""

    def belongs(self, record: Record) -> bool:
        """Tell whether a row's step belongs to the run, or to an attempt left behind."""
        return self.has(record.need_count("step"), attempt=record.need_count("attempt"))

    def has(self, step: int, *, attempt: int) -> bool:
        """Tell whether a step of an attempt belongs to the run."""
        return is_on(self.branch, {"step": step, "attempt": attempt})


def gather(root: Path, *, is_data_needed: bool = True) -> Run:
    """Read the run folder `root`.

    Raises `UsageError` if it is no run folder or has no metric row yet, `CorruptDataError` for a
    damaged file, but for the data's manifest where the data is not needed: that is as none. A
    half-written last line is left out: the run may be going on.
    """
    folder = RunFolder(root)
    if not (folder.metrics.is_file() or folder.lineage.is_file()):  # they tell of it without more
        folder = begun_run(root)
    metrics = read_records(folder.metrics)
    if not metrics:
        raise UsageError(
            f"{root} has no metric row yet, so there is nothing to report; wait for the first "
            "logged step (logging.every_steps), or start the run again"
        )
    for row in metrics:
        row.need_text("stage")
        for key in ("step", "attempt", "tokens_seen"):
            row.need_count(key)
    gates = read_records(folder.gates)
    config, text = _read_config(folder.config)
    settings = _read_settings(text)
    spending = tuple(_payment(row) for row in read_records(folder.spending))
    events = tuple(_event(row) for row in read_records(folder.lineage))
    return Run(
        name=root.resolve().name,
        metrics=metrics,
        checks=tuple(_gate_row(row) for row in gates if row.find("row") == CHECK),
        # Rows of the first version have no kind: they are verdicts.
        verdicts=tuple(_gate_row(row) for row in gates if row.find("row") in (None, VERDICT)),
        plateaus=tuple(_gate_row(row) for row in gates if row.find("row") == PLATEAU),
        overrides=tuple(_override(row) for row in gates if row.find("row") == OVERRIDE),
        events=events,
        attempts=tuple(row for row in events if row.find("event") == ATTEMPT),
        samples=tuple(_sample(row) for row in read_records(root / "samples.jsonl")),
        spending=spending,
        scores=tuple(read_scores(folder.scores)),
        skills=tuple(read_skills(folder.scores)),
        evaluations=tuple(read_evaluations(folder.evaluation)),
        evaluated_texts=tuple(read_evaluated_texts(folder.evaluation)),
        contamination=_read_contamination(folder.contamination),
        config=config,
        config_text=text,
        model=_read_model(config),
        settings=settings,
        course=() if settings is None else plan_stages(settings),
        environment=read_record(folder.environment),
        exit=_read_exit(folder, spending),
        manifest=_read_manifest(folder, is_needed=is_data_needed),
        branch=current_branch(folder.lineage),
        is_running=folder.is_held_elsewhere(),
    )


def run_until(run: Run, *, step: int, attempt: int, branch: dict[int, float]) -> Run:
    """Return a run as it was when an attempt, whose branch is given, had done `step` updates.

    How it ended is that of the whole run. What it had cost by then no row tells, and is left out
    where rows came after.
    """

    def is_until(at: int, of: int) -> bool:
        return of < attempt or (of == attempt and at <= step)

    def until(records: tuple[Record, ...]) -> tuple[Record, ...]:
        places = ((row, row.need_count("step"), row.need_count("attempt")) for row in records)
        return tuple(row for row, at, of in places if is_until(at, of))

    def taken(scores: tuple[Placed, ...]) -> tuple[Placed, ...]:
        return tuple(one for one in scores if is_until(one.step, one.attempt))

    metrics = until(run.metrics)
    return replace(
        run,
        metrics=metrics,
        checks=until(run.checks),
        verdicts=until(run.verdicts),
        plateaus=until(run.plateaus),
        overrides=until(run.overrides),
        attempts=tuple(row for row in run.attempts if row.need_count("attempt") <= attempt),
        samples=until(run.samples),
        spending=run.spending if len(metrics) == len(run.metrics) else (),
        scores=until(run.scores),
        skills=taken(run.skills),
        evaluations=taken(run.evaluations),
        evaluated_texts=taken(run.evaluated_texts),
        branch=branch,
    )


def _gate_row(row: Record) -> Record:
    row.need_text("stage")
    row.need_count("step"), row.need_count("attempt")
    row.need_text("result" if row.find("row") == CHECK else "verdict")
    return row


def _override(row: Record) -> Record:
    row.need_text("stage"), row.need_text("verdict")
    row.need_count("step"), row.need_count("attempt")
    return row


def _sample(row: Record) -> Record:
    row.need_text("prompt"), row.need_text("continuation"), row.need_text("stage")
    row.need_count("step"), row.need_count("attempt")
    return row


def _event(row: Record) -> Record:
    row.need_text("event")
    return row


def _payment(row: Record) -> Record:
    row.need_count("process")
    if row.number("seconds") is None:
        raise row.wrong("a number", "seconds")
    return row


def _read_exit(folder: RunFolder, spending: Sequence[Record]) -> Record | None:
    """Return how the last process ended; None where a later one has written rows since."""
    record, at = read_exit(folder), spending[-1].plain_number("at") if spending else None
    is_old = record is not None and record.is_of_an_earlier_process(at)
    return None if is_old else read_record(folder.exit_record)


def _read_config(path: Path) -> tuple[Record | None, str]:
    """Return the configuration as plain values: an older run may lack keys of today's schema."""
    if not path.exists():
        return None, ""
    try:
        values = read_document(path).data
    except ConfigError as error:
        raise CorruptDataError(f"{error}; bring a good copy of the run's file back") from error
    return Record(path, path.name, values), path.read_text(encoding="utf-8")


def _read_settings(text: str) -> RunConfig | None:
    """Return the configuration whole; None where keys of today's schema are missing or others."""
    try:
        return parse_config(text, "config.yaml") if text else None
    except ConfigError:
        return None


def _read_model(config: Record | None) -> ModelConfig | None:
    if config is None:
        return None
    label = f"{config.path}: model"
    model, problems = check(ModelConfig, Document(label, config.table("model")))
    if model is None:
        raise CorruptDataError(f"{problems[0]}; bring a good copy of the run's file back")
    return model


def _read_manifest(folder: RunFolder, *, is_needed: bool) -> Record | None:
    """Return the manifest of the prepared data; None where there is none for us."""
    prepared = folder.prepared_data()
    if not has_manifest(prepared):
        return None
    path = prepared / MANIFEST_NAME
    own = path.parent == folder.data
    try:
        record = read_record(path, f"{folder.data.name}/{path.name}" if own else str(path))
        if record is not None and record.find("format_version") not in (None, FORMAT_VERSION):
            return None  # another version's, with keys of its own
        load_manifest(path)  # strict: a damaged one is an error that names the key
    except CorruptDataError:
        if is_needed:
            raise
        return None
    return record


def _read_contamination(path: Path) -> Record | None:
    if path.is_file():
        read_contamination(path)  # strict, likewise
    return read_record(path)
