"""A model is asked about the items of a task, piece by piece, and no answer is taken that is none.

The one idea: an item that the model answers with NaN or infinity is an error that names it. Any
number in its place would be a score that nobody reached.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from yxanul.config.evaluation import TASKS
from yxanul.data.items import ChoiceItem, Item
from yxanul.data.progress import Watcher
from yxanul.errors import NumericsError
from yxanul.evaluate.answers.answering import Answers
from yxanul.evaluate.answers.pairs import encode_pairs
from yxanul.evaluate.answers.requests import Continuations, WritingRequest
from yxanul.evaluate.models.language_model import LanguageModel
from yxanul.evaluate.tasks.definitions import DEFINITIONS, before_answer, right_answer
from yxanul.evaluate.tasks.options import TaskOptions

# Items that are asked about between two signs of progress: enough that batches of like length
# can be made of them.
_PIECE = 512
_BATCHES_PER_PIECE = 8
Asking = TypeVar("Asking")


@dataclass(frozen=True)
class Asked:
    """The items of a task that are scored, each with its prompt."""

    task: str
    items: tuple[Item, ...]
    prompts: tuple[str, ...]

    def after(self, index: int, *texts: str) -> Continuations:
        """Return the request for texts that may follow an item's prompt."""
        before = before_answer(self.task, self.items[index])
        return Continuations(self.prompts[index], tuple(f"{before}{text}" for text in texts))


@dataclass(frozen=True)
class Interview:
    """A model, how it is asked, who watches, and who answers for it."""

    model: LanguageModel
    options: TaskOptions
    watcher: Watcher
    answers: Answers

    def nats(self, asked: Asked, requests: Sequence[Continuations]) -> list[tuple[float, ...]]:
        """Return the nats of each request's texts; a request is one item, in order.

        Raises NumericsError for NaN and infinity.
        """
        self.watcher.begin(f"{asked.task}: likelihoods", total=len(requests))
        found: list[tuple[float, ...]] = []
        for piece in pieces(requests, _PIECE * self.answers.copies):
            try:
                answers = self.answers.likelihoods(piece, batch_tokens=self.options.batch_tokens)
            except NumericsError as error:
                raise self._named(asked, piece, first=len(found)) from error
            found += [tuple(one.nats for one in texts) for texts in answers]
            self.watcher.advance(len(piece))
        return found

    def write(self, asked: Asked) -> list[str]:
        """Return what the model writes after each prompt."""
        self.watcher.begin(f"{asked.task}: written answers", total=len(asked.items))
        found: list[str] = []
        longest = self.max_new_tokens(asked.task)
        requests = [
            WritingRequest(one, DEFINITIONS[asked.task].stop_texts, longest)
            for one in asked.prompts
        ]
        size = self.options.batch * _BATCHES_PER_PIECE * self.answers.copies
        for piece in pieces(requests, size):
            found += self.answers.write(piece, batch=self.options.batch)
            self.watcher.advance(len(piece))
        return found

    def max_new_tokens(self, task: str) -> int:
        """Return the tokens of a written answer: the task's, or half of a short model's positions.

        The harness refuses such a model. Its answers would be longer than what it can read.
        """
        if self.options.max_new_tokens is not None:
            return self.options.max_new_tokens
        return max(1, min(TASKS[task].max_new_tokens, self.model.max_length // 2))

    def cut_prompts(self, asked: Asked, *, room: int) -> int:
        """Return how many prompts do not fit in the model's positions with what follows them.

        That are the texts whose likelihood is taken, and `room` tokens that are written.
        """
        longest = self.model.max_length - room - len(self.model.opening)
        cut: set[int] = set()
        # In pieces: ids of a whole set are gigabytes as Python's numbers.
        for numbers in pieces(range(len(asked.items)), _PIECE):
            requests = [asked.after(n, *_weighed(asked.items[n])) for n in numbers]
            owners = [n for n, one in zip(numbers, requests, strict=True) for _ in one.texts]
            cut.update(
                owners[pair.owner]
                for pair in encode_pairs(self.model, requests)
                # The last target is scored and not read.
                if len(pair.context) + len(pair.targets) - 1 > self.model.max_length
            )
            ids = self.model.encode([asked.prompts[n] for n in numbers])
            cut.update(n for n, prompt in zip(numbers, ids, strict=True) if len(prompt) > longest)
        return len(cut)

    def _named(
        self, asked: Asked, requests: Sequence[Continuations], *, first: int
    ) -> NumericsError:
        """Ask one by one, to name the item that a whole piece failed at."""
        for number, request in enumerate(requests, start=first):
            try:
                self.answers.likelihoods([request], batch_tokens=self.options.batch_tokens)
            except NumericsError:
                return _not_finite(asked.task, f"item {asked.items[number].id}")
        return _not_finite(asked.task, f"one of {len(requests)} items")


def _weighed(item: Item) -> tuple[str, ...]:
    """Return the texts whose likelihood after an item's prompt is taken."""
    return item.choices if isinstance(item, ChoiceItem) else (right_answer(item),)


def _not_finite(task: str, which: str) -> NumericsError:
    return NumericsError(
        f"{task}: the model's likelihood of {which} is not a finite number, so its weights are "
        "not; score an older checkpoint"
    )


def pieces(requests: Sequence[Asking], size: int) -> Iterator[Sequence[Asking]]:
    """Return so many at a time, in order."""
    return (requests[begin : begin + size] for begin in range(0, len(requests), size))
