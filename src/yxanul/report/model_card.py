"""A run as the model card of its export: what it was trained on, what it reached, what it cost.

The one idea: the card says what the page says, in Markdown, from the same values, of the weights
that it comes with: the run up to their step, and scores that were taken of them alone. What a run
did not record or measure is said to be so. (Model cards: arXiv 1810.03993.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from jinja2 import Environment

from yxanul.config.schema import ModelConfig
from yxanul.plan.parameters import parameter_count
from yxanul.report.reading.course import later_stages, own_scores
from yxanul.report.reading.gather import Run, gather, run_until
from yxanul.report.reading.records import Record
from yxanul.report.reading.skills import Skill, skills, with_evaluations
from yxanul.report.reading.traced import Story, Traced
from yxanul.report.reading.words import show
from yxanul.report.rendering import template_environment
from yxanul.report.sections import details
from yxanul.report.sections.contamination import contamination
from yxanul.report.sections.cost import cost
from yxanul.report.sections.summary import SEEN, Tile, seen_tile, summary
from yxanul.runfolder.checkpoints import CHECKPOINT_NAME, MANIFEST_NAME, CheckpointInfo
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import branch_of
from yxanul.units import HOUR_S

_ENGLISH = (
    "microsoft/rStar-Coder",
    "nvidia/AceReason-Math",
    "open-r1/Mixture-of-Thoughts",
    "openai/gsm8k",
)


@dataclass(frozen=True)
class Domain:
    """What the weights reached on the held-out documents of one domain."""

    name: Traced
    first: Traced | None
    """Bits per byte of the same documents at first; None: they were not scored before."""
    now: Traced
    documents: Traced | None


def write_card(root: Path, *, checkpoints: Sequence[CheckpointInfo]) -> str | None:
    """Return the card of a run's checkpoint, or of the average of several, oldest first.

    None: no row was logged up to there, so that there is nothing to tell. Raises what `gather`
    does for a folder that is no run, or is damaged; damaged data lists no sources.
    """
    newest = checkpoints[-1]
    whole = gather(root, is_data_needed=False)
    branch = branch_of(RunFolder(root).lineage, newest.attempt)
    run = run_until(whole, step=newest.step, attempt=newest.attempt, branch=branch)
    if not run.metrics:
        return None
    is_average = len(checkpoints) > 1
    begun_from = _begun_from(run)
    shape = run.config.table("model") if run.config is not None else {}
    return (
        _environment()
        .get_template("model_card.md.j2")
        .render(
            run=run,
            checkpoints=[checkpoint.name for checkpoint in checkpoints],
            shape=shape,
            summary=summary(run),
            ending=summary(whole).ending,
            tiles=_tiles(run, newest),
            reached=() if is_average else _reached(run, newest.step),
            skills=() if is_average else _skills(run, newest.step),
            contamination=contamination(run),
            sources=_sources(run),
            # What other weights were trained on is not known.
            is_english=begun_from is None and _is_english(run),
            begun_from=begun_from,
            licences=_licences(run),
            environment=_plain(run, "device", "torch", "yxanul", "commit"),
            cost=_cost(whole),
        )
    )


def plain_card(origin: Path, model: ModelConfig) -> str:
    """Return the card of a model of which no run is known: its shape, and where it was read."""
    template = _environment().get_template("plain_card.md.j2")
    count = parameter_count(model).total
    return template.render(origin=origin.resolve().name, model=model, parameters=count)


def _tiles(run: Run, checkpoint: CheckpointInfo) -> list[Tile]:
    """Return the figures of the summary; rows are not logged at every step, the weights know."""
    own = _seen(run, checkpoint)
    return [own if tile.label == SEEN else tile for tile in summary(run).tiles]


def _seen(run: Run, checkpoint: CheckpointInfo) -> Tile:
    """Return the tokens and steps of the weights."""
    where = f"checkpoints/{checkpoint.name}/{MANIFEST_NAME}#/"
    tokens = Traced(checkpoint.tokens_seen, (f"{where}tokens_seen",))
    steps = Traced(checkpoint.step, (f"{where}step",))
    return seen_tile(run, tokens=tokens, steps=steps)


def _begun_from(run: Run) -> str | None:
    """Return what a run was begun from, by the names alone: a card is for others to read.

    None: from new weights.
    """
    parent = run.attempts[0].text("parent") if run.attempts else None
    if parent is None:
        return None
    place = Path(str(parent.value))
    if CHECKPOINT_NAME.fullmatch(place.name):
        return f"{place.name} of {place.parent.parent.name}"
    if place.parent.name == "snapshots":  # of the hub's cache: models--OWNER--NAME/snapshots/COMMIT
        owner_and_name = place.parent.parent.name.removeprefix("models--").replace("--", "/", 1)
        return f"{owner_and_name} at commit {place.name}"
    return place.name


def _reached(run: Run, step: int) -> list[Domain]:
    """Return the domains that were scored at a step: as gates had them, else as `evaluate` did."""
    scored = {s.find("domain") for s in run.scores if s.find("step") == step and run.belongs(s)}
    found = {
        str(one.domain.value): Domain(one.domain, one.start, one.now, one.documents)
        for one in summary(run).reached
        if one.domain.value in scored
    }
    for text in run.evaluated_texts:
        if text.step == step and run.has(step, attempt=text.attempt):
            found = {**_evaluated(run, text.record), **found}
    return list(found.values())


def _evaluated(run: Run, record: Record) -> dict[str, Domain]:
    """Return {domain: what `evaluate` found of the run's own text}.

    What older versions wrote may be of any other text, and does not say of which data. Figures at
    first are told of the same documents alone.
    """
    found = {}
    for name in record.values:
        now, documents = record.number(name, "bpb"), record.items(name, "documents")
        if now is None:
            raise record.wrong("a number", name, "bpb")
        if record.text(name, "manifest_sha256") is None:
            continue
        sizes = [record.plain_number(name, "documents", n, "bytes") for n in range(len(documents))]
        first = next(iter(own_scores(run, name)), None)
        found[name] = Domain(
            Traced(name, (record.source(name),), "key"),
            first.number("bpb") if first is not None and first.items("bytes") == sizes else None,
            now,
            Traced(len(documents), (record.source(name, "documents"),), "length"),
        )
    return found


def _skills(run: Run, step: int) -> tuple[Skill, ...]:
    scored = with_evaluations(run)
    return skills(replace(scored, skills=tuple(one for one in scored.skills if one.step == step)))


def _sources(run: Run) -> list[details.Source]:
    """Return the sources of the stages that have begun; others were not trained on."""
    later = later_stages(run)
    return [
        source
        for source in details.sources(run)
        if (own := source.fields["stage"]) is None or own.value not in later
    ]


def _is_english(run: Run) -> bool:
    """Tell whether every source is one whose language we know: a user's own texts are not."""
    if run.manifest is None:
        return False
    records = [run.manifest.table("sources", str(one.name.value)) for one in _sources(run)]
    return all(
        record["kind"] == "embedded"
        or (record["kind"] == "hub" and _has_english_rows(record["settings"]))
        for record in records
    )


def _has_english_rows(settings: dict[str, object]) -> bool:
    name, part = settings.get("hub_id"), str(settings.get("hub_config"))
    return name in _ENGLISH or (name == "wikimedia/wikipedia" and part.endswith(".en"))


def _licences(run: Run) -> list[str]:
    """Return each licence of the training text once."""
    found = [source.fields["licence"] for source in _sources(run)]
    return sorted({str(licence.value) for licence in found if licence is not None})


def _plain(run: Run, *keys: str) -> dict[str, str]:
    told = {str(fact.name.value): show(fact.value) for fact in details.facts(run)}
    return {key: told[key] for key in keys if key in told}


def _cost(run: Run) -> str | None:
    """Return dollars by the prices that the run was given; None where a process was given none."""
    spent = cost(run)
    if spent is None or spent.usd is None:
        return None
    hours = f"{spent.wall.number / HOUR_S:,.2f} h of all processes, scores included"
    price = "the prices of then" if spent.price is None else f"{show(spent.price)} an hour"
    return f"{show(spent.usd)} ({hours}, at {price})"


def _told(story: Story) -> str:
    return "".join(show(part) if isinstance(part, Traced) else part for part in story)


def _cell(text: str) -> str:
    """Return text that cannot end a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")


@cache
def _environment() -> Environment:
    environment = template_environment(escape=False)
    environment.filters["told"] = _told
    environment.filters["cell"] = _cell
    return environment
