"""Tokens, steps, epochs, and what a repeated token is still worth.

Repetition: Muennighoff et al., arXiv 2305.16264, with the constants of the authors' repository
(huggingface/datablations, README). With U unique tokens seen for E epochs, the tokens count as
U x effective_epochs(E). It is a fitted law, not a measurement of this project.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from yxanul.config.schema import RunConfig, StageConfig, TrainingConfig

R_D_STAR = 15.387756  # fitted; R_D* in huggingface/datablations


@dataclass(frozen=True, slots=True)
class StageBudget:
    """What a stage spends; epochs are over its own sources, replay left out; None = not known."""

    name: str
    tokens: int
    own_tokens: int
    steps: int
    unique_tokens: int | None
    epochs: float | None
    effective_epochs: float | None


def tokens_for_epochs(epochs: float, unique_tokens: int, *, replay_share: float = 0.0) -> int:
    """Return the stage's total tokens that give `epochs` over its own sources.

    Own tokens are (1 - replay_share) of the total. Raises ValueError unless both are positive.
    """
    if epochs <= 0 or unique_tokens <= 0:
        raise ValueError(f"epochs ({epochs}) and unique_tokens ({unique_tokens}) must be positive")
    return round(epochs * unique_tokens / (1 - replay_share))


def effective_epochs(epochs: float) -> float:
    """Return how many fresh epochs `epochs` of the same data are worth; at most 16.39."""
    if epochs <= 1:
        return epochs
    return 1 + R_D_STAR * -math.expm1(-(epochs - 1) / R_D_STAR)


def marginal_value(epochs: float) -> float:
    """Return the worth of the next token after `epochs`, where a fresh token is 1."""
    return math.exp(-(max(epochs, 1.0) - 1) / R_D_STAR)


def extension_tokens(stage: StageConfig, *, times: int) -> float:
    """Return the tokens of so many extensions of a stage, at most.

    Under `wsd` each may go back to where the decay began, and does that again.
    """
    training = stage.training
    again = training.decay_fraction if training.schedule == "wsd" else 0.0
    return times * (stage.gate.extension.fraction + again) * training.total_tokens


def phase_tokens(training: TrainingConfig) -> tuple[tuple[int, int], ...]:
    """Return (seq_len, tokens) per phase of the sequence curriculum; tokens sum to the total."""
    phases = training.seq_len_curriculum
    starts = [round(phase.from_fraction * training.total_tokens) for phase in phases]
    ends = [*starts[1:], training.total_tokens]
    return tuple(
        (phase.seq_len, end - start) for phase, start, end in zip(phases, starts, ends, strict=True)
    )


def unique_tokens(stage: StageConfig) -> int | None:
    """Return the training tokens that the stage's hub sources are expected to hold, if known."""
    return stage.data.expected_unique_tokens if stage.data.source == "hub" else None


def stage_budget(config: RunConfig, stage: StageConfig) -> StageBudget:
    """Return a stage's budget; the first of several stages replays nothing.

    A stage that is loaded alone counts with its own replay_share: its sources are elsewhere.
    """
    training, data = stage.training, stage.data
    is_first = len(config.stages) > 1 and stage.name == config.stages[0].name
    replay = 0.0 if is_first else data.replay_share
    own = training.total_tokens - round(replay * training.total_tokens)
    unique = unique_tokens(stage)
    epochs = own / unique if unique else None
    return StageBudget(
        name=stage.name,
        tokens=training.total_tokens,
        own_tokens=own,
        steps=training.steps,
        unique_tokens=unique,
        epochs=epochs,
        effective_epochs=None if epochs is None else effective_epochs(epochs),
    )
