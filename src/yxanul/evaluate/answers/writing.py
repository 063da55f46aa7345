"""Greedy continuations: the texts of lm-evaluation-harness, in less time.

Prompts of any length are in one batch, and a row that has ended is given to the next prompt. A
prompt that leaves no room for its new tokens is cut off on the left, as lm-evaluation-harness
0.4.13 does. What a generation configuration says of sampling or penalties is not applied.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from yxanul.errors import NumericsError, UsageError
from yxanul.evaluate.answers.requests import WritingRequest
from yxanul.evaluate.answers.stops import Stops
from yxanul.evaluate.models.language_model import LanguageModel, with_opening
from yxanul.model.cache import KeyValueCache

# Tokens of prompts, padding counted, that are read at once.
_PREFILL_TOKENS = 4096
# Columns of the cache beyond the longest text: when they are used up, all is shifted to the left.
_SPARE_COLUMNS = 128


class _Text:
    """One request on its way: the ids of its prompt, and those written so far."""

    def __init__(self, prompt: list[int], stops: Stops, *, max_new_tokens: int) -> None:
        self.prompt = prompt
        self.stops = stops
        self.max_new_tokens = max_new_tokens
        self.ids: list[int] = []


def write(
    model: LanguageModel, requests: Sequence[WritingRequest], *, batch: int = 32
) -> list[str]:
    """Return what the model writes after each prompt, taking the likeliest token every time.

    At most `batch` texts are written at once. An impossible number of new tokens and an empty stop
    text are `UsageError`s, logits that are not finite are a `NumericsError`.
    """
    prompts = model.encode([request.prompt for request in requests])
    texts = [_begin(model, ids, request=r) for ids, r in zip(prompts, requests, strict=True)]
    if texts:
        _Writer(model, texts, batch=batch).run()
    return [text.stops.cut(model.decode(text.ids)) for text in texts]


def _begin(model: LanguageModel, prompt: list[int], *, request: WritingRequest) -> _Text:
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
    ends = (*request.stop_texts, *(() if model.end_text is None else (model.end_text,)))
    return _Text(ids[-room:], Stops(ends), max_new_tokens=request.max_new_tokens)


class _Writer:
    """Writes many texts, as many at once as fit; they are the first rows of one cache."""

    def __init__(self, model: LanguageModel, texts: Sequence[_Text], *, batch: int) -> None:
        self._model = model
        self._batch = min(batch, len(texts))
        # The longest first, taken from the end: later prompts then fit where earlier ones were.
        self._waiting = sorted(texts, key=lambda text: len(text.prompt))
        self._rows: list[_Text] = []
        longest = max(len(text.prompt) + text.max_new_tokens for text in texts)
        self._cache = model.new_cache(self._batch, longest + _SPARE_COLUMNS)
        self._piece = lru_cache(maxsize=None)(lambda token: model.decode([token]))

    def run(self) -> None:
        """Write all texts to their ends."""
        while self._waiting or self._rows:
            free = self._batch - len(self._rows)
            # Several prompts read at once cost less than one for every row that ends.
            if self._waiting and free >= max(1, self._batch // 4):
                self._fill(free)
            else:
                self._step()

    def _fill(self, free: int) -> None:
        """Read waiting prompts for free rows; each then has its first token."""
        texts = self._next_prompts(free)
        width = len(texts[0].prompt)
        tokens = torch.tensor([text.prompt + [0] * (width - len(text.prompt)) for text in texts])
        last = [row * width + len(text.prompt) - 1 for row, text in enumerate(texts)]
        read = self._model.new_cache(len(texts), width)
        written = self._likeliest(tokens, torch.tensor(last), cache=read)
        if not self._rows:
            self._cache.used = 0
        picks = [(row, len(text.prompt)) for row, text in enumerate(texts)]
        self._cache.adopt(read, picks, first=len(self._rows))
        self._rows += texts
        self._take(zip(texts, written, strict=True))

    def _next_prompts(self, free: int) -> list[_Text]:
        texts = [self._waiting.pop()]
        width = len(texts[0].prompt)
        while self._waiting and len(texts) < free and (len(texts) + 1) * width <= _PREFILL_TOKENS:
            texts.append(self._waiting.pop())
        return texts

    def _step(self) -> None:
        """Write one token of each row."""
        tokens = torch.tensor([text.ids[-1:] for text in self._rows])
        written = self._likeliest(tokens, torch.arange(len(tokens)), cache=self._cache)
        self._take(zip(self._rows, written, strict=True))

    def _likeliest(self, tokens: Tensor, picks: Tensor, *, cache: KeyValueCache) -> list[int]:
        blocks = self._model.logits(tokens, picks, cache=cache)
        found = [block[:, : self._model.vocabulary].max(dim=1) for block in blocks]
        if not all(bool(best.values.isfinite().all()) for best in found):
            raise NumericsError(f"{self._model.name} gives logits that are not finite")
        return [token for best in found for token in best.indices.tolist()]

    def _take(self, written: Iterable[tuple[_Text, int]]) -> None:
        """Append a token to each text, and give up the rows of those that have ended."""
        ended = [text for text, token in written if self._ends(text, token)]
        for text in ended:
            # Rows in use are the first ones: the last of them takes the place.
            last = self._rows.pop()
            if last is not text:
                place = self._rows.index(text)
                self._cache.move(len(self._rows), place)
                self._rows[place] = last

    def _ends(self, text: _Text, token: int) -> bool:
        if token in self._model.end_tokens:
            return True
        text.ids.append(token)
        if len(text.ids) == text.max_new_tokens:
            return True
        is_possible = text.stops.may_end_in(self._piece(token))
        return is_possible and text.stops.are_final(self._model.decode(text.ids))
