"""Greedy continuations: the texts of lm-evaluation-harness, in less time.

A prompt that leaves no room for its new tokens is cut off on the left, as lm-evaluation-harness
0.4.13 does. What a generation configuration says of sampling or penalties is not applied.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

from torch import Tensor

from yxanul.errors import UsageError
from yxanul.evaluate.answers.batching import write_texts
from yxanul.evaluate.answers.requests import WritingRequest
from yxanul.evaluate.answers.stops import Stops
from yxanul.evaluate.models.language_model import LanguageModel, with_opening


class _Greedy:
    """One request on its way: a `Text` of the likeliest tokens."""

    begun = 0.0

    def __init__(
        self,
        model: LanguageModel,
        prompt: list[int],
        *,
        request: WritingRequest,
        piece: Callable[[int], str],
    ) -> None:
        ends = (*request.stop_texts, *(() if model.end_text is None else (model.end_text,)))
        self._stops = Stops(ends)
        self._model = model
        self._piece = piece
        self.prompt = prompt
        self.max_new_tokens = request.max_new_tokens
        self.ids: list[int] = []

    def choose(self, logits: Tensor) -> None:
        """The likeliest, whatever the logits."""

    def take(self, token: int) -> bool:
        if token in self._model.end_tokens:
            return True
        self.ids.append(token)
        if len(self.ids) == self.max_new_tokens:
            return True
        is_possible = self._stops.may_end_in(self._piece(token))
        return is_possible and self._stops.are_final(self._model.decode(self.ids))

    def text(self) -> str:
        return self._stops.cut(self._model.decode(self.ids))


def write(
    model: LanguageModel, requests: Sequence[WritingRequest], *, batch: int = 32
) -> list[str]:
    """Return what the model writes after each prompt, taking the likeliest token every time.

    At most `batch` texts are written at once, fewer where they are long. An impossible number of
    new tokens and an empty stop text are `UsageError`s, logits that are not finite a
    `NumericsError`.
    """
    prompts = model.encode([request.prompt for request in requests])
    piece = lru_cache(maxsize=None)(lambda token: model.decode([token]))
    texts = [
        _Greedy(model, _fitting(model, ids, request=request), request=request, piece=piece)
        for ids, request in zip(prompts, requests, strict=True)
    ]
    for _ in write_texts(model, texts, batch=batch):
        pass  # each is kept in its place
    return [text.text() for text in texts]


def _fitting(model: LanguageModel, prompt: list[int], *, request: WritingRequest) -> list[int]:
    """Return a prompt's ids with their opening, as many of the last ones as leave room."""
    room = model.max_length - request.max_new_tokens
    if request.max_new_tokens < 1 or room < 1:
        raise UsageError(
            f"max_new_tokens is {request.max_new_tokens:,} and {model.name} has "
            f"{model.max_length:,} positions for prompt and text: take 1 to "
            f"{model.max_length - 1:,}"
        )
    ids = with_opening(model, prompt)
    if not ids:
        if model.prefix_token is None:
            raise UsageError(
                f"a prompt is empty, and {model.name} has no token to begin a text with"
            )
        ids = [model.prefix_token]
    return ids[-room:]
