"""Who answers what a task asks of a model: the model itself, or several copies of it together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from yxanul.evaluate.answers.likelihood import likelihoods
from yxanul.evaluate.answers.requests import Continuations, Likelihood, WritingRequest
from yxanul.evaluate.answers.writing import write
from yxanul.evaluate.models.language_model import LanguageModel


class Answers(Protocol):
    """Answers many requests at once, in their order."""

    @property
    def copies(self) -> int:
        """How many copies of the model share the requests."""

    def likelihoods(
        self, requests: Sequence[Continuations], *, batch_tokens: int
    ) -> list[tuple[Likelihood, ...]]:
        """Return for each request a likelihood per text; errors as in `likelihoods`."""

    def write(self, requests: Sequence[WritingRequest], *, batch: int) -> list[str]:
        """Return what is written after each prompt; errors as in `write`."""


@dataclass(frozen=True)
class OneModel:
    """The answers of one model, in this process."""

    model: LanguageModel
    copies: int = 1

    def likelihoods(
        self, requests: Sequence[Continuations], *, batch_tokens: int
    ) -> list[tuple[Likelihood, ...]]:
        """Return for each request a likelihood per text."""
        return likelihoods(self.model, requests, batch_tokens=batch_tokens)

    def write(self, requests: Sequence[WritingRequest], *, batch: int) -> list[str]:
        """Return what the model writes after each prompt."""
        return write(self.model, requests, batch=batch)
