"""Our own transformer as a language model for scoring."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from yxanul.data.tokenizer import Tokenizer
from yxanul.errors import UsageError
from yxanul.evaluate.models.loaded import load_model
from yxanul.evaluate.unheard import unheeded
from yxanul.model.cache import KeyValueCache
from yxanul.model.decoding import Decoder
from yxanul.model.generation import decoding_copy
from yxanul.model.transformer import Transformer

# Rows of logits made at once: 26 MB in fp32, which a CPU keeps near until they are used.
_BLOCK = 128
# Bounds the scores of long rows to (rows, heads, 1024, seq) numbers at once.
_PIECE = 1024


@dataclass(frozen=True)
class OurModel:
    """A `LanguageModel` of a transformer of ours and GPT-2's tokenizer."""

    name: str
    model: Decoder
    tokenizer: Tokenizer
    opening: tuple[int, ...]
    notes: tuple[str, ...] = ()
    heed: Callable[[], None] = unheeded
    """Called before each batch that is read; what it raises ends the reading."""

    @property
    def prefix_token(self) -> int:
        """`<|endoftext|>`."""
        return self.tokenizer.eot

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """`<|endoftext|>`."""
        return (self.tokenizer.eot,)

    @property
    def end_text(self) -> str:
        """As lm-evaluation-harness ends a text at the written name of the end token."""
        return "<|endoftext|>"

    @property
    def vocabulary(self) -> int:
        """GPT-2's 50,257."""
        return self.tokenizer.vocab_size

    @property
    def max_length(self) -> int:
        """Positions of the model, in tokens."""
        return self.model.config.max_position_embeddings

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, which never hold `<|endoftext|>`."""
        return self.tokenizer.encode_batch(texts)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; half a character is U+FFFD."""
        return self.tokenizer.decode(ids)

    def new_cache(self, rows: int, columns: int) -> KeyValueCache:
        """Return an empty cache."""
        return KeyValueCache(self.model.config.num_hidden_layers, rows=rows, columns=columns)

    @torch.no_grad()
    def logits(
        self, tokens: Tensor, picks: Tensor, *, cache: KeyValueCache | None = None
    ) -> Iterator[Tensor]:
        """Yield logits of GPT-2's ids: rows of the head beyond them are padding, never scored."""
        self.heed()
        if cache is None and tokens.size(1) > _PIECE:
            cache = self.new_cache(*tokens.shape)
        device = self.model.device
        pieces = torch.split(tokens.to(device), _PIECE, dim=1)
        hidden = torch.cat([self.model.hidden_states(piece, cache) for piece in pieces], dim=1)
        for part in torch.split(hidden.flatten(0, 1)[picks.to(device)], _BLOCK):
            yield self.model.logits(part)[:, : self.vocabulary]


def as_language_model(
    model: Transformer | Decoder,
    tokenizer: Tokenizer,
    *,
    name: str,
    opening: tuple[int, ...] | None = None,
) -> OurModel:
    """Make a model ready for scoring; one that has fewer ids than its tokenizer is a `UsageError`.

    `opening` None: `<|endoftext|>`, which stood before every document in training.
    """
    if model.config.vocab_size < tokenizer.vocab_size:
        raise UsageError(
            f"{name} has {model.config.vocab_size:,} ids and GPT-2's tokenizer has "
            f"{tokenizer.vocab_size:,}: this model was not trained with it"
        )
    begin = (tokenizer.eot,) if opening is None else opening
    return OurModel(name, decoding_copy(model), tokenizer, begin)


def open_run(
    place: Path, *, opening: tuple[int, ...] | None = None, precision: str | None = None
) -> OurModel:
    """Open a run folder's newest checkpoint, or the named one; see `load_model` for errors."""
    loaded = load_model(place, precision=precision)
    found = as_language_model(loaded.model, loaded.tokenizer, name=str(place), opening=opening)
    return replace(found, notes=loaded.notes)
