"""What a run's repetition is worth, source by source, said before the first step is paid for.

The one idea: the prepared data says how many chunks a source has, and the course how many are read
of it, replay included; the law of arXiv 2305.16264 says what reading them so often is worth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from yxanul.config.schema import chunk_tokens
from yxanul.plan.budget import effective_epochs, marginal_value
from yxanul.train.running.session import Session
from yxanul.train.running.stage_data import stage_chunks, stage_ledger

# "Up to 4 epochs ... negligible changes to loss" (arXiv 2305.16264).
_HARMLESS_EPOCHS = 4.0


@dataclass(frozen=True)
class Repetition:
    """How often a run reads a source: `epochs` passes, worth `effective` passes over fresh data."""

    source: str
    epochs: float
    effective: float
    next_worth: float
    """Of one more token, where a fresh one has 1."""


def repetitions(session: Session) -> list[Repetition]:
    """Return every source that the stages of this command read, in the order of the data."""
    epochs: dict[str, float] = {}
    for plan in session.active:
        held = stage_chunks(session, plan)
        chunk = chunk_tokens(session.config, plan.config)
        for source, tokens in stage_ledger(session, plan).items():
            epochs[source] = epochs.get(source, 0.0) + tokens / (len(held[source]) * chunk)
    return [
        _repetition(source, epochs[source])
        for source in session.corpus.manifest.sources
        if epochs.get(source)
    ]


def _repetition(source: str, epochs: float) -> Repetition:
    return Repetition(source, epochs, effective_epochs(epochs), marginal_value(epochs))


def warnings(found: list[Repetition]) -> Iterator[str]:
    """Yield a sentence for each source that is read more often than costs nothing."""
    for one in found:
        if one.epochs > _HARMLESS_EPOCHS:
            yield (
                f"{one.source} is read {one.epochs:.1f} times, which is worth {one.effective:.1f} "
                f"times fresh text of that size; one more token brings {one.next_worth:.0%} of a "
                "fresh one (arXiv 2305.16264): take fewer tokens, or more sources"
            )
