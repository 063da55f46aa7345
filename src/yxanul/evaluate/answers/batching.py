"""Many texts written at once, each as it would be alone.

Prompts of any length are in one batch, and a row that has ended is given to the next prompt. What a
text takes of the logits, and when it ends, is its own affair: here it is only read and fed.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from yxanul.errors import NumericsError
from yxanul.evaluate.models.language_model import LanguageModel
from yxanul.model.cache import SPARE_COLUMNS

# Tokens of prompts, padding counted, that are read at once.
_PREFILL_TOKENS = 4096
PASS_TOKENS = 64
"""What reading once more costs on a CPU, in tokens: padding may cost as much, and no more."""
# Tokens of the cache, spare columns not counted: 5.6 GB of the 302.9M flagship in fp32.
_CACHED_TOKENS = 32_768


class Text(Protocol):
    """A text on its way: prompt and text together fit the model's positions."""

    prompt: list[int]
    """Its ids, at least one."""
    ids: list[int]
    """Those written so far."""
    max_new_tokens: int
    begun: float
    """When its prompt was read, in seconds of `time.perf_counter`."""

    def choose(self, logits: Tensor) -> int | None:
        """Return the next token after (vocab,) logits; None: the likeliest one."""

    def take(self, token: int) -> bool:
        """Take the next token; return whether the text has ended."""


def write_texts(model: LanguageModel, texts: Sequence[Text], *, batch: int) -> Iterator[Text]:
    """Write texts to their ends, at most `batch` at once; yield each when it has ended.

    Fewer are written at once where they are long, or the cache would outgrow the memory. Logits
    that are not finite are a `NumericsError`.
    """
    if texts:
        yield from _Writer(model, texts, batch=batch).run()


class _Writer:
    """The texts that are being written are the first rows of one cache."""

    def __init__(self, model: LanguageModel, texts: Sequence[Text], *, batch: int) -> None:
        self._model = model
        # The longest first, taken from the end: later prompts then fit where earlier ones were.
        self._waiting = sorted(texts, key=lambda text: len(text.prompt))
        self._rows: list[Text] = []
        longest = max(len(text.prompt) + text.max_new_tokens for text in texts)
        self._batch = max(1, min(batch, len(texts), _CACHED_TOKENS // longest))
        self._cache = model.new_cache(self._batch, longest + SPARE_COLUMNS)

    def run(self) -> Iterator[Text]:
        """Write all texts to their ends."""
        while self._waiting or self._rows:
            free = self._batch - len(self._rows)
            # Several prompts read at once cost less than one for every row that ends.
            if self._waiting and free >= max(1, self._batch // 4):
                yield from self._fill(free)
            else:
                yield from self._step()

    def _fill(self, free: int) -> Iterator[Text]:
        """Read waiting prompts, one for each of the free rows."""
        while self._waiting and free:
            texts = self._next_prompts(free)
            free -= len(texts)
            yield from self._read(texts)

    def _read(self, texts: list[Text]) -> list[Text]:
        """Read the prompts of new rows; each then has its first token."""
        width = len(texts[0].prompt)
        tokens = torch.tensor([text.prompt + [0] * (width - len(text.prompt)) for text in texts])
        last = [row * width + len(text.prompt) - 1 for row, text in enumerate(texts)]
        read = self._model.new_cache(len(texts), width)
        blocks = self._model.logits(tokens, torch.tensor(last), cache=read)
        picks = [(row, len(text.prompt)) for row, text in enumerate(texts)]
        written = self._chosen(texts, blocks)
        self._cache.adopt(read, picks, first=len(self._rows))
        self._rows += texts
        return self._take(texts, written)

    def _next_prompts(self, free: int) -> list[Text]:
        texts = [self._waiting.pop()]
        width = len(texts[0].prompt)
        padding = 0
        while self._waiting and len(texts) < free and (len(texts) + 1) * width <= _PREFILL_TOKENS:
            padding += width - len(self._waiting[-1].prompt)
            if padding > PASS_TOKENS:
                break
            texts.append(self._waiting.pop())
        begun = time.perf_counter()
        for text in texts:
            text.begun = begun
        return texts

    def _step(self) -> list[Text]:
        """Write one token of each row."""
        tokens = torch.tensor([text.ids[-1:] for text in self._rows])
        blocks = self._model.logits(tokens, torch.arange(len(tokens)), cache=self._cache)
        return self._take(self._rows, self._chosen(self._rows, blocks))

    def _chosen(self, texts: Sequence[Text], blocks: Iterator[Tensor]) -> list[int]:
        """Return the next token of each text; blocks of logits are (some of the texts, vocab)."""
        chosen: list[int] = []
        for block in blocks:
            logits = block[:, : self._model.vocabulary]
            best = logits.max(dim=1)
            if not best.values.isfinite().all():
                raise NumericsError(f"{self._model.name} gives logits that are not finite")
            likeliest = best.indices.tolist()
            for row, token in enumerate(likeliest):
                own = texts[len(chosen)].choose(logits[row])
                chosen.append(token if own is None else own)
        return chosen

    def _take(self, texts: Sequence[Text], written: Sequence[int]) -> list[Text]:
        """Give each text its token; give up the rows of those that have ended, and return them."""
        ended = [text for text, token in zip(texts, written, strict=True) if text.take(token)]
        self._cache.leave(ended, self._rows)
        return ended
