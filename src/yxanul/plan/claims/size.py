"""Promises about the model's size and about tokens: plain counting."""

from __future__ import annotations

from yxanul.plan.budget import effective_epochs, unique_tokens
from yxanul.plan.claims.claim import TOLERANCE, Claim, Facts, stage_of
from yxanul.plan.parameters import parameter_count
from yxanul.units import format_count

PARAMETERS = 497e6
LIMIT = 600e6
TOKENS = 57.4e9  # 14.4 + 30 + 10 + 3
MATH_EPOCHS = 100.0
UNIQUE_TOKENS = 4e9


def size_claims(facts: Facts) -> tuple[Claim, ...]:
    """Judge parameters, tokens, epochs and unique tokens."""
    return (
        _parameters(facts),
        _under_limit(facts),
        _total_tokens(facts),
        _math_epochs(facts),
        _unique_tokens(facts),
    )


def _parameters(facts: Facts) -> Claim:
    model, count = facts.config.model, parameter_count(facts.config.model)
    why = (
        f"{model.num_hidden_layers} layers x {model.hidden_size} with FFN "
        f"{model.intermediate_size:,} and {model.vocab_size:,} tied embedding rows give "
        f"{count.total:,}"
    )
    holds = abs(count.total / PARAMETERS - 1) <= TOLERANCE
    return Claim("about 497M parameters", PARAMETERS, "parameters", count.total, holds, why)


def _under_limit(facts: Facts) -> Claim:
    total = parameter_count(facts.config.model).total
    why = f"{total:,} parameters, {'under' if total < LIMIT else 'not under'} 600 million"
    return Claim("under 0.6B parameters", LIMIT, "parameters", total, total < LIMIT, why)


def _total_tokens(facts: Facts) -> Claim:
    stages = facts.config.stages
    parts = " + ".join(format_count(stage.training.total_tokens) for stage in stages)
    holds = abs(facts.tokens / TOKENS - 1) <= TOLERANCE
    why = f"the stages train on {parts} = {format_count(facts.tokens)} tokens"
    return Claim("57.4B tokens in all", TOKENS, "tokens", facts.tokens, holds, why)


def _math_epochs(facts: Facts) -> Claim:
    """Judge the promise as it was made: the whole stage over its unique tokens, without replay."""
    name = "100 epochs of mathematics count as 100"
    position = stage_of(facts.config, "math")
    stage = None if position is None else facts.config.stages[position]
    unique = None if stage is None else unique_tokens(stage)
    if stage is None or unique is None:
        why = "no stage of mathematics with known unique tokens is in this configuration"
        return Claim(name, MATH_EPOCHS, "epochs", None, None, why)
    epochs = stage.training.total_tokens / unique
    worth = effective_epochs(epochs)
    why = (
        f"{epochs:.4g} passes over {format_count(unique)} tokens are worth {worth:.4g} fresh ones "
        "(fitted law of arXiv 2305.16264)"
    )
    return Claim(name, MATH_EPOCHS, "epochs", worth, worth >= MATH_EPOCHS, why)


def _unique_tokens(facts: Facts) -> Claim:
    name = "4B curated unique tokens"
    known = [unique_tokens(stage) for stage in facts.config.stages]
    if any(tokens is None for tokens in known):
        why = "the unique tokens of a stage are not known before its data is read"
        return Claim(name, UNIQUE_TOKENS, "tokens", None, None, why)
    total = sum(tokens for tokens in known if tokens is not None)
    parts = " + ".join(format_count(tokens) for tokens in known if tokens is not None)
    holds = total >= UNIQUE_TOKENS * (1 - TOLERANCE)
    why = f"by the promised stages themselves: {parts} = {format_count(total)}"
    return Claim(name, UNIQUE_TOKENS, "tokens", total, holds, why)
