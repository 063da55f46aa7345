"""How fast text becomes tokens: lead paragraphs of Wikipedia, as a preparation encodes them."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from yxanul.data.sources.wikipedia import read_documents
from yxanul.data.tokenizer import encoding_cores, load_tokenizer


@dataclass(frozen=True)
class TokenizerFigures:
    """What encoding took."""

    documents: int
    bytes: int
    tokens: int
    cores: int
    tokens_per_s: float
    bytes_per_s: float

    def as_json(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


def measure_tokenizer(*, documents: int, repeats: int = 5) -> TokenizerFigures:
    """Encode so many documents as a batch, several times; the median counts.

    Without the package that carries the text this is a `MissingExtraError`.
    """
    tokenizer = load_tokenizer()
    texts = [one.text for one in islice(read_documents(dropped=Counter()), documents)]
    seconds, tokens = [], 0
    for _ in range(repeats):
        begin = time.perf_counter()
        tokens = sum(map(len, tokenizer.encode_batch(texts)))
        seconds.append(time.perf_counter() - begin)
    size, median = sum(len(text.encode()) for text in texts), statistics.median(seconds)
    return TokenizerFigures(
        documents=len(texts),
        bytes=size,
        tokens=tokens,
        cores=encoding_cores(),
        tokens_per_s=tokens / median,
        bytes_per_s=size / median,
    )
