"""What a task asks of a model, whatever model it is: the interface between tasks and models.

A task makes texts; `likelihood` and `writing` turn them into batches; a `LanguageModel` computes.
Tokens of a pair are split as lm-evaluation-harness splits them: context and continuation are
encoded together, and a context's trailing spaces belong to the continuation.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Continuations:
    """A context, and the texts of which each may follow it."""

    context: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Likelihood:
    """What one continuation costs after its context."""

    nats: float
    """Sum of -ln p over its tokens, lower is likelier."""
    tokens: int
    is_greedy: bool
    """Whether each of its tokens was the likeliest one."""


@dataclass(frozen=True)
class WritingRequest:
    """A prompt to be continued with the likeliest token every time."""

    prompt: str
    stop_texts: tuple[str, ...]
    """The text ends before the first of these."""
    max_new_tokens: int
