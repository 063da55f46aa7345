"""The held-out documents that are scored: the same ones every time.

The one idea: documents are taken in the order of their text's sha256, which depends on no seed and
no order of preparing, so a smaller or larger budget scores the beginning of the same list, spread
over the whole set. Scoring them is the room evaluate's work.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yxanul.data.prepared.documents import read_documents
from yxanul.data.prepared.manifest import Manifest
from yxanul.data.prepared.shards import open_stream
from yxanul.data.strict import PREPARE_AGAIN
from yxanul.data.tokenizer import EOT
from yxanul.errors import CorruptShardError, UsageError

# No document is more than an eighth of a budget: else one long file would be a domain's score.
PARTS = 8


def validation_documents(
    manifest: Manifest, root: Path, *, source: str, max_tokens: int
) -> list[npt.NDArray[np.uint16]]:
    """Return held-out documents of a source, each a uint16 array (tokens,) that begins with 50256.

    Documents are taken until `max_tokens` are reached, so the last may go over it. One that is
    longer than an eighth of `max_tokens` is cut to that. Raises `UsageError` for a budget below 2,
    `CorruptShardError` for damaged files.
    """
    if max_tokens < 2:
        raise UsageError(
            f"evaluation.tokens_per_domain is {max_tokens}; it must be at least 2, a beginning "
            "and one token to score."
        )
    found = read_documents(manifest, root, source=source, split="validation")
    by_hash = sorted((item.sha256, position, item.tokens) for position, item in found)
    stream = open_stream(manifest, root, source=source, split="validation")
    longest = max(2, max_tokens // PARTS)
    chosen: list[npt.NDArray[np.uint16]] = []
    total = 0
    for _, position, tokens in by_hash:
        if total >= max_tokens:
            break
        document = stream.read(position, min(tokens, longest))
        if not len(document) or document[0] != EOT:
            raise CorruptShardError(
                f"{root / source}: no validation document begins at token {position:,}, though "
                f"validation.documents.jsonl says so; {PREPARE_AGAIN}."
            )
        chosen.append(document)
        total += len(document)
    return chosen


def domain_documents(
    manifest: Manifest, root: Path, *, stage: str, tokens_per_domain: int
) -> dict[str, list[npt.NDArray[np.uint16]]]:
    """Return {domain: held-out documents} of a stage's own sources, a domain's in equal parts.

    Documents and errors as in `validation_documents`.
    """
    own = {name: source.domain for name, source in manifest.sources_of(stage).items()}
    found = {}
    for domain in dict.fromkeys(own.values()):
        names = [name for name, itself in own.items() if itself == domain]
        budget = tokens_per_domain // len(names)
        found[domain] = [
            document
            for name in names
            for document in validation_documents(manifest, root, source=name, max_tokens=budget)
        ]
    return found


def stage_documents(
    manifest: Manifest, root: Path, *, tokens_per_domain: Mapping[str, int]
) -> dict[str, dict[str, list[npt.NDArray[np.uint16]]]]:
    """Return {stage: {domain: held-out documents}} of stages, each with its own budget of tokens.

    A domain of two of them is a `UsageError`: a configuration cannot have one, but stages of
    several may lie in one folder, and the documents of one would stand for the other's. Documents
    and errors else as in `validation_documents`.
    """
    owner: dict[str, str] = {}
    for source in manifest.sources_of(*tokens_per_domain).values():
        first = owner.setdefault(source.domain, source.stage)
        if first != source.stage:
            raise UsageError(
                f"{root} has held-out text of the domain {source.domain} in two stages, {first} "
                f"and {source.stage}, and a domain's score is of one: give one of them another "
                "domain, and prepare its data again."
            )
    return {
        stage: domain_documents(manifest, root, stage=stage, tokens_per_domain=tokens)
        for stage, tokens in tokens_per_domain.items()
    }
