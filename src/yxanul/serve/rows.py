"""The texts that are being written: the first rows of one cache, which come and go.

All rows end in one column (`yxanul.model.cache`), so a step writes one token of each. A prompt is
read beside them, a piece at a time in a cache of its own, and is then adopted; where it is longer
than all columns in use, these are shifted to the right first. The last row takes the place of one
that ends.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from yxanul.data.tokenizer import Tokenizer
from yxanul.errors import NumericsError
from yxanul.evaluate.answers.batching import PASS_TOKENS
from yxanul.model.cache import SPARE_COLUMNS, KeyValueCache
from yxanul.model.decoding import Decoder
from yxanul.serve.choices import Choice, ScoredToken, prompt_offsets, score
from yxanul.serve.refusals import RequestError
from yxanul.serve.requests import Prompt

# Tokens of prompts, padding counted, that are read together.
_READING_TOKENS = 4096
# Of these, what is read between two steps of the rows: it holds them up.
_PIECE_TOKENS = 512
# Tokens of prompts that are scored between two steps: their logits of the whole vocabulary are in
# memory at once, in fp64.
_SCORED_AT_ONCE = 128


class Rows:
    """A model, and the texts that it is writing; no more than `batch` at once."""

    def __init__(self, model: Decoder, tokenizer: Tokenizer, *, batch: int) -> None:
        self.choices: list[Choice] = []
        self.batch = batch
        self._model = model
        self._tokenizer = tokenizer
        self._cache = self._new_cache(batch, model.config.max_position_embeddings + SPARE_COLUMNS)

    @property
    def free(self) -> int:
        """How many texts can be taken in."""
        return self.batch - len(self.choices)

    def read(self, choices: Sequence[Choice]) -> "Reading":
        """Begin to read prompts: the first, and those of the others that are about as long."""
        taken: list[Choice] = []
        prompts: set[tuple[int, ...]] = set()
        for choice in choices:
            together = {*prompts, choice.prompt.ids}
            size = len(together) * max(map(len, together))
            padding = size - sum(map(len, together))
            if not taken or (size <= _READING_TOKENS and padding <= PASS_TOKENS):
                taken.append(choice)
                prompts = together
        width = max(map(len, prompts))
        cache = self._new_cache(len(prompts), width)
        return Reading(self._model, taken, cache=cache, tokenizer=self._tokenizer)

    def join(self, reading: "Reading") -> None:
        """Write the first token after prompts that are read, and go on with them from now on."""
        scored = [reading.scores(choice) for choice in reading.choices]
        rows = [reading.row(choice) for choice in reading.choices]
        logits = reading.next_logits()
        going_on = [
            (choice, row)
            for choice, row, known in zip(reading.choices, rows, scored, strict=True)
            if not choice.is_dropped and choice.begin(known) and not _ends(choice, logits[row])
        ]
        if not going_on:
            return
        picks = [(row, len(choice.prompt.ids)) for choice, row in going_on]
        if self.choices:
            self._cache.reach(max(length for _, length in picks), rows=len(self.choices))
        self._cache.adopt(reading.cache, picks, first=len(self.choices))
        self.choices += [choice for choice, _ in going_on]

    def step(self) -> None:
        """Write one token of each text, and give up the rows of those that have ended."""
        self._cache.leave([one for one in self.choices if one.is_dropped], self.choices)
        if not self.choices:
            return
        tokens = torch.tensor([choice.tokens[-1:] for choice in self.choices])
        logits = self._model.next_logits(tokens.to(self._device), self._cache)
        rows = zip(self.choices, logits, strict=True)
        self._cache.leave([choice for choice, row in rows if _ends(choice, row)], self.choices)

    @property
    def _device(self) -> torch.device:
        return self._model.device

    def _new_cache(self, rows: int, columns: int) -> KeyValueCache:
        return KeyValueCache(self._model.config.num_hidden_layers, rows=rows, columns=columns)


def row_bytes(model: Decoder) -> int:
    """Return what a row takes: keys and values of as many columns as a text can have."""
    return _column_bytes(model) * (model.config.max_position_embeddings + SPARE_COLUMNS)


def reading_bytes(model: Decoder) -> int:
    """Return what the prompts that are being read take at most: keys and values, and scores."""
    scores = 3 * 8 * _SCORED_AT_ONCE * model.config.vocab_size  # fp64: logits, and their logarithms
    return scores + _column_bytes(model) * max(
        _READING_TOKENS, model.config.max_position_embeddings
    )


def _column_bytes(model: Decoder) -> int:
    c = model.config
    return 2 * c.num_hidden_layers * c.num_key_value_heads * c.head_dim * model.dtype.itemsize


class Reading:
    """Prompts on their way into a cache of their own; equal ones are read, and scored, once."""

    def __init__(
        self,
        model: Decoder,
        choices: Sequence[Choice],
        *,
        cache: KeyValueCache,
        tokenizer: Tokenizer,
    ) -> None:
        self.choices: list[Choice] = []
        """Those that wait for it."""
        self.cache = cache
        self._model, self._tokenizer = model, tokenizer
        ids = list(dict.fromkeys(choice.prompt.ids for choice in choices))
        self._rows = {prompt: row for row, prompt in enumerate(ids)}
        width = max(len(prompt) for prompt in ids)
        tokens = torch.tensor([[*p, *[0] * (width - len(p))] for p in ids])
        self._unread = list(torch.split(tokens, max(1, _PIECE_TOKENS // len(ids)), dim=1))[::-1]
        self._hidden: list[Tensor] = []
        self._scores: dict[tuple[Prompt, int], _PromptScores] = {}
        self.take(choices)

    def take(self, choices: Sequence[Choice]) -> bool:
        """Go on for those of the choices whose prompts it has; return whether the first is one."""
        if choices[0].prompt.ids not in self._rows:
            return False
        self.choices = [choice for choice in choices if choice.prompt.ids in self._rows]
        for prompt, likeliest in self._scores_wanted():
            scores = _PromptScores(prompt, likeliest=likeliest, tokenizer=self._tokenizer)
            self._scores.setdefault((prompt, likeliest), scores)
        return True

    def go_on(self) -> bool:
        """Read the next piece, or score one once all is read; return whether all is done."""
        if self._unread:
            self._read()
        else:
            self._score()
        return not self._unread and not self._unscored()

    def row(self, choice: Choice) -> int:
        """Return the row of a choice's prompt."""
        return self._rows[choice.prompt.ids]

    def next_logits(self) -> Tensor:
        """Return what follows each prompt, (prompts, vocab)."""
        lasts = [len(prompt) - 1 for prompt in self._rows]
        return self._model.logits(self._hidden[0][torch.arange(len(lasts)), lasts])

    def scores(self, choice: Choice) -> list[ScoredToken]:
        """Return the scores of a prompt's own tokens, none if they are not wanted."""
        return self._scores[choice.prompt, choice.likeliest].found if choice.scores_prompt else []

    def _read(self) -> None:
        tokens = self._unread.pop().to(self._model.device)
        self._hidden.append(self._model.hidden_states(tokens, self.cache))
        if not self._unread:
            self._hidden = [torch.cat(self._hidden, dim=1)]

    def _score(self) -> None:
        """Score a piece of a long prompt, or of as many short ones as are no more together."""
        room = _SCORED_AT_ONCE
        for scores in self._unscored():
            room -= len(scores.next_tokens)
            if room < 0:
                return
            scores.go_on(self._model, self._hidden[0][self._rows[scores.prompt.ids]])

    def _unscored(self) -> list["_PromptScores"]:
        """Return the scores that are wanted and not complete."""
        wanted = map(self._scores.__getitem__, self._scores_wanted())
        return [scores for scores in wanted if scores.next_tokens]

    def _scores_wanted(self) -> dict[tuple[Prompt, int], None]:
        """Return of which prompts scores are wanted, and with how many of the likeliest tokens."""
        choices = [choice for choice in self.choices if choice.scores_prompt]
        return dict.fromkeys((choice.prompt, choice.likeliest) for choice in choices)


class _PromptScores:
    """The scores of a prompt's own tokens, which come a piece at a time."""

    def __init__(self, prompt: Prompt, *, likeliest: int, tokenizer: Tokenizer) -> None:
        self.prompt = prompt
        # Nothing stands before a prompt that brings its own <|endoftext|>.
        self.found = [] if prompt.opening else [ScoredToken(prompt.ids[0], 0, None, ())]
        self._likeliest, self._tokenizer = likeliest, tokenizer
        self._at = 0

    @property
    def next_tokens(self) -> tuple[int, ...]:
        """The tokens that are scored next, none at the end."""
        return self.prompt.ids[self._at + 1 : self._at + 1 + _SCORED_AT_ONCE]

    def go_on(self, model: Decoder, hidden: Tensor) -> None:
        """Score the next tokens; `hidden` is (seq, hidden) of the whole prompt."""
        begin, end = self._at, self._at + len(self.next_tokens)
        self.found += score(
            model.logits(hidden[begin:end]),
            self.next_tokens,
            offsets=self._offsets[begin:end],
            likeliest=self._likeliest,
        )
        self._at = end

    @cached_property
    def _offsets(self) -> list[int]:
        """Where the second id and those after it begin in the text."""
        return prompt_offsets(self.prompt, self._tokenizer)[1 - self.prompt.opening :]


def _ends(choice: Choice, logits: Tensor) -> bool:
    """Take a token; return whether the text has ended, in whatever way."""
    try:
        return choice.take(logits)
    except NumericsError as error:
        choice.fail(RequestError(str(error), status=500))
        return True
