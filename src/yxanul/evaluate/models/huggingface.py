"""Any causal language model of transformers, from a folder, from the hub, or already in memory.

Weights are safetensors only, and no code comes with them. The head is applied where it is asked for
and nowhere else: a hook before it keeps the hidden states of those positions, so that whatever a
model does after its head (a soft cap, a scale) is done as it does it.
"""

import inspect
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from yxanul.config.tokens import END_OF_TEXT
from yxanul.errors import UsageError
from yxanul.evaluate.models.hub import brought, failure, is_hub_id, newest_config, transformers
from yxanul.hardware.choices import DTYPES, usable_device
from yxanul.model.cache import KeyValueCache, LayerCache, Place

# Where configurations keep the number of positions, in the order of lm-evaluation-harness.
_LENGTHS = ("n_positions", "max_position_embeddings", "n_ctx")
# What lm-evaluation-harness takes where neither model nor tokenizer says it.
_DEFAULT_LENGTH = 2048
# Tokenizers without a limit say 10**30.
_NO_LIMIT = 10**9
_ANY_TEXT = "a"
# Not cuDNN, which torch asks first on an H100: it plans anew for every number of rows and keys.
_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
# What a generation configuration may ask of greedy writing, with the value that asks for nothing.
_OF_WRITING = {
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "num_beams": 1,
    "min_length": 0,
    "min_new_tokens": 0,
    "bad_words_ids": [],
    "suppress_tokens": [],
    "begin_suppress_tokens": [],
    "sequence_bias": {},
}
_EXPORT = (
    "it is what `yxanul export` makes of a run: texts begin with <|endoftext|>, as they did in "
    "training, though its tokenizer does not add it"
)


@dataclass(frozen=True)
class HuggingFaceModel:
    """A `LanguageModel` of a transformers model and its tokenizer."""

    name: str
    model: Any
    tokenizer: Any
    opening: tuple[int, ...]
    notes: tuple[str, ...] = ()
    commit: str | None = None
    """Of the hub; None: it is from a folder, or was in memory."""

    @cached_property
    def prefix_token(self) -> int | None:
        """The beginning-of-text token, else the end-of-text token."""
        begin: int | None = self.tokenizer.bos_token_id
        end: int | None = self.tokenizer.eos_token_id
        return end if begin is None else begin

    @cached_property
    def end_tokens(self) -> tuple[int, ...]:
        """Those of its generation configuration, which transformers' own `generate` ends at."""
        found = self.model.generation_config.eos_token_id
        if found is None:
            return ()
        return tuple(found) if isinstance(found, list) else (found,)

    @cached_property
    def end_text(self) -> str | None:
        """The end-of-text token as text."""
        end = self.tokenizer.eos_token_id
        return None if end is None else self.tokenizer.decode([end])

    @cached_property
    def vocabulary(self) -> int:
        """Ids that the tokenizer has."""
        return len(self.tokenizer)

    @cached_property
    def max_length(self) -> int:
        """Positions of the model, in tokens, as lm-evaluation-harness finds them."""
        config = self.model.config.get_text_config(decoder=True)
        named = (getattr(config, key, None) for key in _LENGTHS)
        length = next((value for value in named if value is not None), None)
        if length is None and self.tokenizer.model_max_length < _NO_LIMIT:
            length = self.tokenizer.model_max_length
        return int(length or _DEFAULT_LENGTH)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without the opening."""
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; special tokens are no text, half a character is U+FFFD."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def new_cache(self, rows: int, columns: int) -> KeyValueCache:
        """Return an empty cache."""
        config = self.model.config.get_text_config(decoder=True)
        return KeyValueCache(config.num_hidden_layers, rows=rows, columns=columns)

    @torch.no_grad()
    def logits(
        self, tokens: Tensor, picks: Tensor, *, cache: KeyValueCache | None = None
    ) -> Iterator[Tensor]:
        """Yield all rows of the head, padding too, as lm-evaluation-harness scores them."""
        tokens = tokens.to(self.model.device)
        options: dict[str, Any] = {"use_cache": cache is not None}
        if cache is not None:
            place = cache.advance(tokens)
            layers = [_layer_class()(layer, place) for layer in cache.layers]
            options["past_key_values"] = transformers().Cache(layers=layers)
            if not place.is_even:
                options["attention_mask"] = place.is_filled.long()
            if "position_ids" in self._accepted:
                options["position_ids"] = place.positions
        with self._head_at(picks.to(tokens.device)), sdpa_kernel(_KERNELS):
            found = self.model(input_ids=tokens, **options).logits[0]
        if found.size(0) != picks.numel():
            raise UsageError(
                f"{self.name} applies its output layer in a way that is not known here"
            )
        yield found

    @cached_property
    def _accepted(self) -> frozenset[str]:
        return frozenset(inspect.signature(self.model.forward).parameters)

    @contextmanager
    def _head_at(self, picks: Tensor) -> Iterator[None]:
        """Let the head see only the hidden states at `picks`, as one row."""

        def keep(_: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (given[0].flatten(0, 1)[picks].unsqueeze(0),)

        handle = self.model.get_output_embeddings().register_forward_pre_hook(keep)
        try:
            yield
        finally:
            handle.remove()


def wrap_pretrained(
    model: Any, tokenizer: Any, *, name: str, opening: tuple[int, ...] | None = None
) -> HuggingFaceModel:
    """Make a transformers model in memory ready for scoring; it is set to evaluate.

    `opening` None: what the tokenizer adds before a text by itself. A model without a head, with a
    state instead of keys and values, or with fewer ids than its tokenizer is a `UsageError`, and so
    is a tokenizer without a vocabulary, which transformers makes for a folder that has none.
    """
    head = model.get_output_embeddings()
    if head is None or getattr(model, "_is_stateful", False):
        lack = "has no output layer" if head is None else "keeps a state, not keys and values"
        raise UsageError(f"{name} {lack}, so it cannot be scored here; take a causal transformer")
    rows = model.get_input_embeddings().weight.size(0)
    if len(tokenizer) > rows:
        raise UsageError(
            f"the tokenizer of {name} has {len(tokenizer):,} ids and the model {rows:,} rows: they "
            "do not belong together"
        )
    if not tokenizer.encode(_ANY_TEXT, add_special_tokens=False):
        raise UsageError(
            f"{name} has no tokenizer that makes ids of a text: put the files of its own beside "
            "its weights (tokenizer.json, tokenizer_config.json)"
        )
    begin = _own_opening(tokenizer) if opening is None else opening
    return HuggingFaceModel(name, model.eval(), tokenizer, begin)


def open_pretrained(
    name: str, *, opening: tuple[int, ...] | None = None, precision: str | None = None
) -> HuggingFaceModel:
    """Open a folder of `save_pretrained` or a hub id, owner/name; see `open_model` for errors."""
    is_far = not Path(name).is_dir()
    if is_far and not is_hub_id(name):
        raise UsageError(
            f"{name} is no folder here, and no hub id, which is owner/name where no folder is "
            "called owner"
        )
    library = transformers()
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    if is_far:
        folder, is_reached = newest_config(name)
        options |= {"revision": folder.name, "local_files_only": not is_reached}
    try:
        tokenizer = library.AutoTokenizer.from_pretrained(name, **options)
        model, loaded = library.AutoModelForCausalLM.from_pretrained(
            name,
            dtype="auto" if precision is None else DTYPES[precision],
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, with the name
            **options,
        )
    except Exception as error:  # the library's errors have no common base; none is swallowed
        raise failure(name, error) from error
    lost = sorted([*loaded["missing_keys"], *(key for key, *_ in loaded["mismatched_keys"])])
    if lost:
        raise UsageError(f"{name} has no fitting weights for {lost[0]}: it is not a whole model")
    notes = [brought(name, folder, is_reached=is_reached)] if is_far else []
    commit = folder.name if is_far else None
    if opening is None and _is_our_export(model.config):
        opening = (END_OF_TEXT,)
        notes.append(_EXPORT)
    found = wrap_pretrained(model.to(usable_device()), tokenizer, name=name, opening=opening)
    notes += _not_applied(model.generation_config)
    return replace(found, notes=tuple(notes), commit=commit)


def _is_our_export(config: Any) -> bool:
    """Tell whether a configuration is one of ours: Gemma's own begins and ends with other ids."""
    ends = (getattr(config, name, None) for name in ("bos_token_id", "eos_token_id"))
    return config.model_type == "gemma" and all(end == END_OF_TEXT for end in ends)


def _not_applied(generation: Any) -> Iterator[str]:
    """Yield a sentence for what a model's own `generate` would do to greedy answers, if it does."""
    asked = {name: getattr(generation, name, None) for name in _OF_WRITING}
    found = [f"{k} {v}" for k, v in asked.items() if v not in (None, _OF_WRITING[k])]
    if found:
        yield (
            f"its generation configuration asks for {textwrap.shorten(', '.join(found), 120)}, "
            "which is not applied to written answers here, and is by lm-evaluation-harness"
        )


def _own_opening(tokenizer: Any) -> tuple[int, ...]:
    """Return the ids that a tokenizer sets before a text by itself."""
    plain = tokenizer.encode(_ANY_TEXT, add_special_tokens=False)
    full = tokenizer.encode(_ANY_TEXT)
    return tuple(full[: full.index(plain[0])])


@lru_cache(maxsize=1)
def _layer_class() -> type:
    """Return transformers' kind of layer, written to and read from a layer of our cache."""
    base = transformers().cache_utils.DynamicLayer

    class Layer(base):  # type: ignore[misc, valid-type]
        def __init__(self, store: LayerCache, place: Place) -> None:
            super().__init__()
            self.is_initialized = True
            self._store, self._place = store, place

        def update(
            self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
        ) -> tuple[Tensor, Tensor]:
            return self._store.extend(key_states, value_states)

        def get_seq_length(self) -> int:
            return self._place.begin - self._place.first

        def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
            return self._place.end - self._place.first, 0

    return Layer
