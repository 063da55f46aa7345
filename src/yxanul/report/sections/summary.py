"""The ten seconds at the top: what was trained, what it reached, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass

from yxanul.plan.parameters import parameter_count
from yxanul.report.reading.course import (
    is_over,
    last_row,
    override_of,
    own_scores,
    own_seen,
    planned_stages,
    score_domains,
    stage_indices,
    stage_names,
    stage_verdict,
    tokens_spent,
    trained_seconds,
)
from yxanul.report.reading.gather import Run
from yxanul.report.reading.records import Record
from yxanul.report.reading.traced import Story, Traced, change, count, median
from yxanul.report.reading.words import tone
from yxanul.report.sections.cost import cost
from yxanul.runfolder.exits import ENDED, FAILED

SEEN = "tokens seen"
# Every other code looks bad.
_TONES = {0: "quiet", 10: "warn", 130: "warn", 143: "warn"}


@dataclass(frozen=True)
class Ending:
    """How the run stands: a word, how it looks, and a sentence."""

    word: str
    tone: str
    story: Story


@dataclass(frozen=True)
class Tile:
    """A figure of the summary, with a few words below it."""

    label: str
    value: Traced
    note: Story = ()


@dataclass(frozen=True)
class Reached:
    """What became of one domain, from the first score of today's documents to the last."""

    domain: Traced
    start: Traced
    now: Traced
    moved: Traced | None
    documents: Traced | None

    @property
    def share(self) -> float:
        """What is left of the first value, in percent, for a bar."""
        return round(min(100.0, 100.0 * self.now.number / (self.start.number or 1.0)), 1)


@dataclass(frozen=True)
class GateMark:
    """A stage and what its gate said, for the row of marks."""

    stage: Traced
    verdict: Traced | None
    attempt: Traced | None
    """None for the first attempt, of which nothing needs to be said."""
    tone: str
    is_over: bool = False
    """Whether the stage is closed, by its gate or by a person."""
    overridden: Traced | None = None
    """What a person decided instead of the verdict."""


@dataclass(frozen=True)
class Summary:
    """Everything of the first screen."""

    lead: Story
    ending: Ending
    tiles: tuple[Tile, ...]
    gates: tuple[GateMark, ...]
    reached: tuple[Reached, ...]


def summary(run: Run) -> Summary:
    """Return the first screen of a run."""
    gates = tuple(_mark(run, name) for name in stage_names(run))
    return Summary(_lead(run), _ending(run, gates), _tiles(run), gates, _reached(run))


def parameters(run: Run) -> Traced | None:
    """Return the model's learned numbers, counted from its shape; None without a config."""
    if run.config is None or run.model is None:
        return None
    total = parameter_count(run.model).total
    return Traced(total, (run.config.source("model"),), "parameters")


def median_speed(run: Run, column: str) -> Traced | None:
    """Return the median of a metric column over all rows; None when no row has it."""
    values = [v for row in run.metrics if (v := row.plain_number(column)) is not None]
    return median(values, f"metrics.jsonl:*#/{column}") if values else None


def seen_tile(run: Run, *, tokens: Traced, steps: Traced) -> Tile:
    """Return the tokens and steps of the run itself, of those that its clock has counted."""
    own, own_steps = own_seen(run, tokens=tokens, steps=steps)
    is_later = bool(run.attempts and run.attempts[0].find("step"))
    more = ", those of the stages before it counted in" if is_later and own is tokens else ""
    return Tile(SEEN, own.shown_as("count"), ("in ", own_steps, f" steps{more}"))


def _mark(run: Run, name: Traced) -> GateMark:
    row = stage_verdict(run, str(name.value))
    if row is None:
        return GateMark(name, None, None, tone(None))
    verdict, attempt = row.text("verdict"), row.number("attempt")
    is_first = attempt is None or attempt.value == 0
    decided = override_of(run, row)
    overridden = decided.text("verdict") if decided is not None else None
    holds = overridden if overridden is not None else verdict
    return GateMark(
        name,
        verdict,
        None if is_first else attempt,
        tone(holds),
        is_over=is_over(run, str(name.value)),
        overridden=overridden,
    )


def _lead(run: Run) -> Story:
    """Say what was trained on what: the model's name and the domains of its text."""
    name = run.config.text("model", "name") if run.config is not None else None
    model: Story = ("Model “", name, "”") if name is not None else ("A model",)
    told: list[str | Traced] = [*model, ", trained on text of these domains: "]
    domains = _domains(run)
    for index, domain in enumerate(domains):
        told += ["" if index == 0 else " and " if index + 1 == len(domains) else ", ", domain]
    return (*told, ".") if domains else (*model, ".")


def _domains(run: Run) -> list[Traced]:
    """Return the domains of the stages that have begun, each once, in the order of the stages."""
    if run.manifest is None:
        return []
    begun = {row.text("stage") for row in run.metrics}
    names = {stage.value for stage in begun if stage is not None}
    found: dict[str, Traced] = {}
    for name in run.manifest.table("sources"):
        stage = run.manifest.text("sources", name, "stage")
        if stage is None or stage.value not in names:
            continue
        domain = run.manifest.text("sources", name, "domain")
        if domain is not None:
            found.setdefault(str(domain.value), domain)
    return list(found.values())


def _own_gates(run: Run, gates: tuple[GateMark, ...]) -> tuple[GateMark, ...]:
    """Return the gates of the stages that are the run's to train.

    Without settings that tell them they are those from its first row's on.
    """
    own = {plan.name for plan in planned_stages(run)}
    if own:
        return tuple(gate for gate in gates if gate.stage.value in own)
    return gates[stage_indices(run)[run.metrics[0].need_text("stage")] :]


def _all_done(gates: tuple[GateMark, ...], *, of_all: bool) -> Story:
    """Say that every stage is done, and which gates did more, or less, than let it pass."""
    who: Story = ("Every stage",) if of_all else ("Every stage from ", gates[0].stage, " on")
    told: list[str | Traced] = []
    for start, found in (
        ("; a warning came from the gate of ", _said(gates, "warn")),
        ("; nothing could be judged by the gate of ", _said(gates, "not run")),
        ("; a person decided against the gate of ", [g for g in gates if g.overridden is not None]),
    ):
        for index, gate in enumerate(found):
            told += [start if index == 0 else " and of ", gate.stage]
    return (*who, " is done", *told, ".") if told else (*who, " has passed its gate.")


def _said(gates: tuple[GateMark, ...], word: str) -> list[GateMark]:
    """Return the gates whose own verdict is a word and holds."""
    stand = [gate for gate in gates if gate.overridden is None]
    return [gate for gate in stand if gate.verdict is not None and gate.verdict.value == word]


def _ending(run: Run, gates: tuple[GateMark, ...]) -> Ending:
    row = last_row(run)
    at: Story = ("The newest row is step ", _need(row, "step"), " of ", _text(row, "stage"), ".")
    if run.is_running:
        return Ending(
            "still running",
            "busy",
            ("This run is still going: the page shows it as far as its rows go. ", *at),
        )
    code = run.exit.number("code") if run.exit is not None else None
    reason = run.exit.text("reason") if run.exit is not None else None
    own = _own_gates(run, gates)
    if all(gate.is_over for gate in own) and (code is None or code.value == 0):
        return Ending("complete", "good", _all_done(own, of_all=len(own) == len(gates)))
    if code is None:
        return Ending(
            "no end recorded",
            "warn",
            ("The process left no record of its end (it was killed, or has just begun). ", *at),
        )
    number = int(code.number)
    word, look = ENDED.get(number, FAILED), _TONES.get(number, "bad")
    told: Story = ("It ended with exit code ", code, ": ", reason, ". ") if reason else ()
    if code.value == 0:
        told = ("The command ended before every stage had passed its gate. ",)
    return Ending(word, look, (*told, *at))


def _tiles(run: Run) -> tuple[Tile, ...]:
    row = last_row(run)
    learned, seconds = parameters(run), trained_seconds(run)
    speed, mfu = median_speed(run, "tokens_per_s"), median_speed(run, "mfu")
    tiles = []
    if learned is not None and run.config is not None:
        layers, width = run.config.number("model", "num_hidden_layers"), _width(run)
        note: Story = (layers, " layers × ", width) if layers and width else ()
        tiles.append(Tile("parameters", learned.shown_as("count"), note))
    tiles.append(seen_tile(run, tokens=_need(row, "tokens_seen"), steps=_need(row, "step")))
    if seconds is not None:
        tiles.append(Tile("training time", seconds.shown_as("duration"), _scoring_note(run)))
    if speed is not None:
        note = ("median; MFU ", mfu.shown_as("share")) if mfu is not None else ("median",)
        tiles.append(Tile("tokens per second", speed.shown_as("whole"), note))
    if len(run.attempts) > 1:
        spent = tokens_spent(run)
        note = (spent, " tokens spent in all") if spent is not None else ()
        tiles.append(Tile("attempts", count([_need(a, "attempt") for a in run.attempts]), note))
    return tuple(tiles)


def _width(run: Run) -> Traced | None:
    return run.config.number("model", "hidden_size") if run.config is not None else None


def _scoring_note(run: Run) -> Story:
    spent = cost(run)
    return ("and ", spent.scoring, " of scoring") if spent and spent.scoring is not None else ()


def _reached(run: Run) -> tuple[Reached, ...]:
    found = []
    for domain in score_domains(run):
        own = own_scores(run, domain)
        if not own:
            continue
        first, last = own[0], own[-1]
        start, now = _need(first, "bpb"), _need(last, "bpb")
        documents = None
        if last.items("nats"):
            documents = Traced(len(last.items("nats")), (last.source("nats"),), "length")
        moved = change(now, start) if first is not last else None
        found.append(Reached(_text(last, "domain"), start, now, moved, documents))
    return tuple(found)


def _need(record: Record, key: str) -> Traced:
    value = record.number(key)
    if value is None:
        raise record.wrong("a number", key)
    return value


def _text(record: Record, key: str) -> Traced:
    value = record.text(key)
    if value is None:
        raise record.wrong("a text", key)
    return value
