"""What likelihoods and writing need of a language model, whatever library holds it.

A model is opened by name: a run folder, one of its checkpoints, a Hugging Face folder or a hub id.
Texts become ids as lm-evaluation-harness would make them, so that scores compare.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from yxanul.evaluate.models.huggingface import open_pretrained
from yxanul.evaluate.models.ours import open_run
from yxanul.model.cache import KeyValueCache

# A model of transformers makes all logits of a batch at once: at 256,000 ids, 1 MB for each token.
_LOGITS_BYTES = 2 << 30
# Rows of logits that are normalised at once: 26 MB in fp32 at 50,257 ids, which a CPU keeps near.
_PART = 128


class LanguageModel(Protocol):
    """A causal language model with its tokenizer, for reading only."""

    @property
    def name(self) -> str:
        """Where it came from, as a user would name it."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that its user should see."""

    @property
    def opening(self) -> tuple[int, ...]:
        """Ids that stand before every text."""

    @property
    def prefix_token(self) -> int | None:
        """The context of a text that has none; None: such a text cannot be scored."""

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """Ids that end a text."""

    @property
    def end_text(self) -> str | None:
        """A text that, written out, ends a text too."""

    @property
    def vocabulary(self) -> int:
        """Ids below this are the tokenizer's and may be written; later rows are padding."""

    @property
    def max_length(self) -> int:
        """Positions of the model, in tokens."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without the opening."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; special tokens are no text, half a character is U+FFFD."""

    def new_cache(self, rows: int, columns: int) -> KeyValueCache:
        """Return an empty cache, which `logits` fills."""

    def logits(
        self, tokens: Tensor, picks: Tensor, *, cache: KeyValueCache | None = None
    ) -> Iterator[Tensor]:
        """Read (rows, seq) tokens; yield the logits at `picks` in blocks, together (picks, vocab).

        picks (n,) count through the tokens row by row. Rows are padded on the right by any id; with
        a cache they go on where it ends, and it grows by seq columns, padding too. No gradients.
        """


def open_model(
    name: str, *, opening: tuple[int, ...] | None = None, precision: str | None = None
) -> LanguageModel:
    """Open a run folder, a checkpoint in it, a Hugging Face folder, or owner/name on the hub.

    `opening` None is the model's own: `<|endoftext|>` for ours, which was trained so, and its
    export, and what its tokenizer adds by itself for another's. `precision` (fp32, bf16) None is
    what the model was saved or trained in. Raises `UsageError` for what is no model,
    `HubUnreachableError`, `MissingExtraError` without transformers, `CorruptDataError` for damaged
    files.
    """
    if is_ours(Path(name)):
        return open_run(Path(name), opening=opening, precision=precision)
    return open_pretrained(name, opening=opening, precision=precision)


def is_ours(place: Path) -> bool:
    """Tell whether a path is to be read as a run folder or checkpoint, not by transformers."""
    return place.is_dir() and not (place / "config.json").is_file()


def most_scored(model: LanguageModel) -> int:
    """Return the tokens of which a batch may hold the logits: 2 GiB of them in fp32."""
    return max(1, _LOGITS_BYTES // (4 * model.vocabulary))


def in_parts(blocks: Iterator[Tensor]) -> Iterator[Tensor]:
    """Yield blocks of logits, (rows, vocab), in parts that are widened to fp32 one at a time."""
    return (part for block in blocks for part in torch.split(block, _PART))


def with_opening(model: LanguageModel, ids: Sequence[int]) -> list[int]:
    """Return the ids of a whole text, its opening before it unless the text begins with it."""
    opening = list(model.opening)
    return list(ids) if opening and list(ids[: len(opening)]) == opening else [*opening, *ids]
