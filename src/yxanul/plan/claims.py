"""The promised plan beside the computed truth, claim by claim.

The promises are those of the predecessor's public README of 21 August 2025. `holds` is true, false,
or None where this configuration cannot say. Nothing here changes a plan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from yxanul.config.schema import RunConfig, StageConfig
from yxanul.plan.budget import effective_epochs
from yxanul.plan.parameters import parameter_count
from yxanul.units import format_count

TOLERANCE = 0.02  # a promise with "~" holds within 2 %
PROMISED_PARAMETERS = 497e6
PROMISED_LIMIT = 600e6
PROMISED_TOKENS = 57.4e9  # 14.4 + 30 + 10 + 3
PROMISED_MATH_EPOCHS = 100.0
PROMISED_UNIQUE_TOKENS = 4e9


@dataclass(frozen=True, slots=True)
class Claim:
    """One promise: what was said, its number, the computed number, whether it holds, and why."""

    claim: str
    promised: float
    computed: float | None
    holds: bool | None
    why: str


def claims(config: RunConfig) -> tuple[Claim, ...]:
    """Return every promise that arithmetic can judge for this configuration."""
    judges: tuple[Callable[[RunConfig], Claim], ...] = (
        _parameters,
        _under_limit,
        _total_tokens,
        _math_epochs,
        _unique_tokens,
    )
    return tuple(judge(config) for judge in judges)


def _parameters(config: RunConfig) -> Claim:
    model, count = config.model, parameter_count(config.model)
    why = (
        f"{model.num_hidden_layers} layers x {model.hidden_size} with FFN "
        f"{model.intermediate_size:,} and {model.vocab_size:,} tied embedding rows give "
        f"{count.total:,}"
    )
    holds = abs(count.total / PROMISED_PARAMETERS - 1) <= TOLERANCE
    return Claim("about 497M parameters", PROMISED_PARAMETERS, count.total, holds, why)


def _under_limit(config: RunConfig) -> Claim:
    total = parameter_count(config.model).total
    why = f"{total:,} parameters, {'under' if total < PROMISED_LIMIT else 'not under'} 600 million"
    return Claim("under 0.6B parameters", PROMISED_LIMIT, total, total < PROMISED_LIMIT, why)


def _total_tokens(config: RunConfig) -> Claim:
    total = sum(stage.training.total_tokens for stage in config.stages)
    parts = " + ".join(format_count(stage.training.total_tokens) for stage in config.stages)
    holds = abs(total / PROMISED_TOKENS - 1) <= TOLERANCE
    why = f"the stages train on {parts} = {format_count(total)} tokens"
    return Claim("57.4B tokens in all", PROMISED_TOKENS, total, holds, why)


def _math_epochs(config: RunConfig) -> Claim:
    """Judge the promise as it was made: the whole stage over its unique tokens, without replay."""
    name = "100 epochs of mathematics count as 100"
    stages = [stage for stage in config.stages if _is_math(stage)]
    unique = _unique(stages[0]) if stages else None
    if not stages or not unique:
        why = "no stage of mathematics with known unique tokens is in this configuration"
        return Claim(name, PROMISED_MATH_EPOCHS, None, None, why)
    epochs = stages[0].training.total_tokens / unique
    worth = effective_epochs(epochs)
    why = (
        f"{epochs:.4g} passes over {format_count(unique)} tokens are worth {worth:.4g} fresh ones "
        "(fitted law of arXiv 2305.16264)"
    )
    return Claim(name, PROMISED_MATH_EPOCHS, worth, worth >= PROMISED_MATH_EPOCHS, why)


def _unique_tokens(config: RunConfig) -> Claim:
    name = "4B curated unique tokens"
    known = [_unique(stage) for stage in config.stages]
    if any(tokens is None for tokens in known):
        why = "the unique tokens of a stage are not known before its data is read"
        return Claim(name, PROMISED_UNIQUE_TOKENS, None, None, why)
    total = sum(tokens for tokens in known if tokens is not None)
    parts = " + ".join(format_count(tokens) for tokens in known if tokens is not None)
    holds = total >= PROMISED_UNIQUE_TOKENS * (1 - TOLERANCE)
    why = f"by the promised stages themselves: {parts} = {format_count(total)}"
    return Claim(name, PROMISED_UNIQUE_TOKENS, total, holds, why)


def _unique(stage: StageConfig) -> int | None:
    return stage.data.expected_unique_tokens if stage.data.source == "hub" else None


def _is_math(stage: StageConfig) -> bool:
    sources = stage.data.hub_sources or stage.data.embedded_sources
    return bool(sources) and all(source.domain == "math" for source in sources)
