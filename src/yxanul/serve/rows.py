"""The texts that are being written: the first rows of one cache, which come and go.

All rows end in one column (`yxanul.model.cache`), so a step writes one token of each. A prompt is
read beside them, a piece at a time in a cache of its own, and is then adopted; where it is longer
than all columns in use, these are shifted to the right first. The last row takes the place of one
that ends.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from yxanul.data.tokenizer import Tokenizer
from yxanul.errors import NumericsError
from yxanul.evaluate.answers.batching import PASS_TOKENS
from yxanul.model.cache import KeyValueCache
from yxanul.model.decoding import Decoder
from yxanul.serve.choices import Choice, ScoredToken, prompt_offsets, score
from yxanul.serve.refusals import RequestError

# Tokens of prompts, padding counted, that are read together.
_READING_TOKENS = 4096
# Of these, what is read between two steps of the rows: it holds them up.
_PIECE_TOKENS = 512
# Columns beyond the longest text: when they are used up, all is shifted to the left.
_SPARE_COLUMNS = 128
# Logits of the whole vocabulary that are in memory at once when a prompt is scored.
_SCORED_AT_ONCE = 128


class Rows:
    """A model, and the texts that it is writing; no more than `batch` at once."""

    def __init__(self, model: Decoder, tokenizer: Tokenizer, *, batch: int) -> None:
        self.choices: list[Choice] = []
        self.batch = batch
        self._model = model
        self._tokenizer = tokenizer
        self._cache = self._new_cache(batch, model.config.max_position_embeddings + _SPARE_COLUMNS)

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
        return Reading(self._model, taken, cache=self._new_cache(len(prompts), width))

    def join(self, reading: "Reading") -> None:
        """Write the first token after prompts that are read, and go on with them from now on."""
        scored = [reading.scores(choice, self._tokenizer) for choice in reading.choices]
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
        else:
            self._cache.used = 0
        self._cache.adopt(reading.cache, picks, first=len(self.choices))
        self.choices += [choice for choice, _ in going_on]

    def step(self) -> None:
        """Write one token of each text, and give up the rows of those that have ended."""
        self._leave([choice for choice in self.choices if choice.is_dropped])
        if not self.choices:
            return
        tokens = torch.tensor([choice.tokens[-1:] for choice in self.choices])
        logits = self._model.next_logits(tokens.to(self._device), self._cache)
        rows = zip(self.choices, logits, strict=True)
        self._leave([choice for choice, row in rows if _ends(choice, row)])

    def _leave(self, ended: Sequence[Choice]) -> None:
        for choice in ended:
            last = self.choices.pop()
            if last is not choice:
                place = self.choices.index(choice)
                self._cache.move(len(self.choices), place)
                self.choices[place] = last

    @property
    def _device(self) -> torch.device:
        return self._model.device

    def _new_cache(self, rows: int, columns: int) -> KeyValueCache:
        return KeyValueCache(self._model.config.num_hidden_layers, rows=rows, columns=columns)


class Reading:
    """Prompts on their way into a cache of their own; equal ones are read once."""

    def __init__(self, model: Decoder, choices: Sequence[Choice], *, cache: KeyValueCache) -> None:
        self.choices = list(choices)
        self.cache = cache
        self._model = model
        ids = list(dict.fromkeys(choice.prompt.ids for choice in choices))
        self._rows = {prompt: row for row, prompt in enumerate(ids)}
        width = max(len(prompt) for prompt in ids)
        tokens = torch.tensor([[*p, *[0] * (width - len(p))] for p in ids])
        self._unread = list(torch.split(tokens, max(1, _PIECE_TOKENS // len(ids)), dim=1))[::-1]
        self._hidden: list[Tensor] = []

    def go_on(self) -> bool:
        """Read the next piece; return whether all is read."""
        tokens = self._unread.pop().to(self._model.device)
        self._hidden.append(self._model.hidden_states(tokens, self.cache))
        if not self._unread:
            self._hidden = [torch.cat(self._hidden, dim=1)]
        return not self._unread

    def row(self, choice: Choice) -> int:
        """Return the row of a choice's prompt."""
        return self._rows[choice.prompt.ids]

    def next_logits(self) -> Tensor:
        """Return what follows each prompt, (prompts, vocab)."""
        lasts = [len(prompt) - 1 for prompt in self._rows]
        return self._model.logits(self._hidden[0][torch.arange(len(lasts)), lasts])

    def scores(self, choice: Choice, tokenizer: Tokenizer) -> list[ScoredToken]:
        """Return the scores of a prompt's own tokens, none if they are not wanted."""
        if choice.is_dropped or not choice.scores_prompt:
            return []
        ids, opening = choice.prompt.ids, choice.prompt.opening
        offsets = prompt_offsets(choice.prompt, tokenizer)
        # Nothing stands before a prompt that brings its own <|endoftext|>.
        found = [] if opening else [ScoredToken(ids[0], offsets[0], None, ())]
        offsets = offsets[1 - opening :]
        hidden = self._hidden[0][self.row(choice)]
        for at in range(0, len(ids) - 1, _SCORED_AT_ONCE):
            tokens = ids[at + 1 : at + 1 + _SCORED_AT_ONCE]
            found += score(
                self._model.logits(hidden[at : at + len(tokens)]),
                tokens,
                offsets=offsets[at : at + len(tokens)],
                likeliest=choice.likeliest,
            )
        return found


def _ends(choice: Choice, logits: Tensor) -> bool:
    """Take a token; return whether the text has ended, in whatever way."""
    try:
        return choice.take(logits)
    except NumericsError as error:
        choice.fail(RequestError(str(error), status=500))
        return True
