"""How much of a task is scored, and how."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskOptions:
    """How much of a task is scored, and how."""

    limit: int | None = None
    """The first so many items; None = all."""
    shots: int | None = None
    """Worked examples before each item; None = as the harness (config.evaluation.TASKS)."""
    answers: bool = True
    """Whether the model writes answers that gate nothing; those that gate are always written."""
    max_new_tokens: int | None = None
    """Of a written answer; None = the task's own."""
    batch_tokens: int = 8192
    """Tokens of one forward pass over texts that are given."""
    batch: int = 32
    """Answers that are written at the same time."""
