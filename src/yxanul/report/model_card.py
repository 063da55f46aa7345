"""A run as the model card of its export: what it was trained on, what it reached, what it cost.

The one idea: the card says what the page says, in Markdown, from the same values; what a run did
not record or measure is said to be so. (Model cards: arXiv 1810.03993.)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment

from yxanul.config.schema import ModelConfig
from yxanul.plan.parameters import parameter_count
from yxanul.report import details
from yxanul.report.contamination import contamination
from yxanul.report.cost import cost
from yxanul.report.gather import Run, gather
from yxanul.report.skills import skills
from yxanul.report.summary import summary
from yxanul.report.templates import template_environment
from yxanul.report.traced import Story, Traced
from yxanul.report.words import show
from yxanul.units import HOUR_S


def write_card(root: Path, *, checkpoints: Sequence[str]) -> str:
    """Return the card of a run's checkpoint, or of the average of several.

    Raises what `gather` does for a folder that is no run, or is damaged.
    """
    run = gather(root)
    shape = run.config.table("model") if run.config is not None else {}
    return (
        _environment()
        .get_template("model_card.md.j2")
        .render(
            run=run,
            checkpoints=checkpoints,
            shape=shape,
            summary=summary(run),
            skills=skills(run),
            contamination=contamination(run),
            sources=details.sources(run),
            licences=_licences(run),
            environment=_plain(run, "device", "torch", "yxanul", "commit"),
            cost=_cost(run),
        )
    )


def plain_card(origin: Path, model: ModelConfig) -> str:
    """Return the card of a model of which no run is known: its shape, and where it was read."""
    template = _environment().get_template("plain_card.md.j2")
    count = parameter_count(model).total
    return template.render(origin=origin.resolve().name, model=model, parameters=count)


def _licences(run: Run) -> list[str]:
    """Return each licence of the training text once."""
    found = [source.fields["licence"] for source in details.sources(run)]
    return sorted({str(licence.value) for licence in found if licence is not None})


def _plain(run: Run, *keys: str) -> dict[str, str]:
    told = {str(fact.name.value): show(fact.value) for fact in details.facts(run)}
    return {key: told[key] for key in keys if key in told}


def _cost(run: Run) -> str | None:
    """Return dollars by the prices that the run was given; None where it was given none."""
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
