"""The held-out documents that are scored: the same ones every time.

The one idea: documents are taken in the order of their text's sha256, which depends on no seed and
no order of preparing, so a smaller or larger budget scores the beginning of the same list, spread
over the whole set. Scoring them is the room evaluate's work.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from yxanul.data.documents import read_documents
from yxanul.data.manifest import Manifest
from yxanul.data.shards import open_stream
from yxanul.data.tokenizer import EOT
from yxanul.errors import CorruptShardError, UsageError

# A document longer than this is taken only where it fits: it alone would be most of a budget.
LONG_DOCUMENT_TOKENS = 8_192


def validation_documents(
    manifest: Manifest, root: Path, *, source: str, max_tokens: int
) -> list[npt.NDArray[np.uint16]]:
    """Return held-out documents of a source, each a uint16 array (tokens,) that begins with 50256.

    Whole documents are taken until `max_tokens` are reached, so the last may go over it, though
    never one above 8,192 tokens. Only a first document that is longer than `max_tokens` is cut
    to it. Raises `UsageError` for a budget below 2, `CorruptShardError` for damaged files.
    """
    if max_tokens < 2:
        raise UsageError(
            f"evaluation.tokens_per_domain is {max_tokens}; it must be at least 2, a beginning "
            "and one token to score."
        )
    found = read_documents(manifest, root, source=source, split="validation")
    by_hash = sorted((item.sha256, position, item.tokens) for position, item in found)
    stream = open_stream(manifest, root, source=source, split="validation")
    chosen: list[npt.NDArray[np.uint16]] = []
    total = 0
    for _, position, tokens in by_hash:
        if total >= max_tokens:
            break
        if not chosen:
            tokens = min(tokens, max_tokens)
        elif tokens > LONG_DOCUMENT_TOKENS and total + tokens > max_tokens:
            continue
        document = stream.read(position, tokens)
        if not tokens or document[0] != EOT:
            raise CorruptShardError(
                f"{root / source}: no validation document begins at token {position:,}, though "
                "validation.documents.jsonl says so; prepare the data again."
            )
        chosen.append(document)
        total += tokens
    return chosen
