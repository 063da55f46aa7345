"""A language model that knows nothing: every byte of a text is as likely as any other."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from yxanul.model.cache import KeyValueCache


class UniformBytes:
    """A `LanguageModel` of bytes; text with `poison` in it makes its logits NaN.

    One byte may be the `likeliest`, and is what it writes.
    """

    name = "uniform"
    opening: tuple[int, ...] = ()
    prefix_token: int | None = 256
    end_tokens: tuple[int, ...] = (256,)
    end_text = None
    vocabulary = 257
    max_length = 512

    def __init__(self, *, poison: str | None = None, likeliest: str | None = None) -> None:
        self._poison = None if poison is None else ord(poison)
        self._likeliest = None if likeliest is None else ord(likeliest)
        self.most_picks = 0
        """Logits that were asked for at once."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(text.encode()) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(token for token in ids if token < 256).decode(errors="replace")

    def new_cache(self, rows: int, columns: int) -> KeyValueCache:
        return KeyValueCache(1, rows=rows, columns=columns)

    def logits(
        self, tokens: Tensor, picks: Tensor, *, cache: KeyValueCache | None = None
    ) -> Iterator[Tensor]:
        if cache is not None:
            cache.advance(tokens)
        self.most_picks = max(self.most_picks, len(picks))
        found = torch.zeros(len(picks), self.vocabulary)
        if self._likeliest is not None:
            found[:, self._likeliest] = 1.0
        found[tokens.flatten()[picks] == (self._poison or -1)] = float("nan")
        yield found
