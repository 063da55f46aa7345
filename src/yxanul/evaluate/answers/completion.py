"""A prompt's continuation as text: whole characters as they come, nothing of a stop text.

A character of UTF-8 may begin in one token and end in the next, and so may a stop text: both are
held back until they are known. A document begins with `<|endoftext|>`, and so does a prompt.
"""

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from yxanul.data.tokenizer import Tokenizer
from yxanul.evaluate.answers.stops import longest_beginning, refuse_empty_stops
from yxanul.model.decoding import Decoder
from yxanul.model.generation import GenerationOptions, generate
from yxanul.model.transformer import Transformer


@dataclass(frozen=True)
class Completion:
    """What a model wrote after a prompt."""

    prompt: str
    text: str
    """Without the prompt, the stop text and a character that was not finished."""
    tokens: list[int]
    """All ids that were sampled, those of a stop text too, without the end token."""
    stop_reason: str
    """end_of_text, stop_text, max_new_tokens or context."""
    tokens_per_s: float


class TextStream:
    """Turns ids into text, a piece at a time."""

    def __init__(self, tokenizer: Tokenizer, stop_texts: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop_texts = tuple(stop_texts)
        # Bytes that can begin no character become U+FFFD; those that may still go on are kept.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.is_stopped = False
        """Whether a stop text was met."""
        self.decoded = 0
        """Characters of the text so far, those held back too."""

    def push(self, token: int) -> str:
        """Take one id; return the text that is certain now and was not returned before."""
        more = self._decoder.decode(self._tokenizer.decode_bytes([token]))
        self.decoded += len(more)
        self._held += more
        found = [at for text in self._stop_texts if (at := self._held.find(text)) >= 0]
        self.is_stopped = bool(found)
        doubtful = longest_beginning(self._held, self._stop_texts)
        certain = min(found) if found else len(self._held) - doubtful
        text, self._held = self._held[:certain], self._held[certain:]
        return text

    def finish(self) -> str:
        """Return what was held back as the possible beginning of a stop text."""
        return "" if self.is_stopped else self._held


def complete(
    model: Transformer | Decoder,
    tokenizer: Tokenizer,
    *,
    prompt: str,
    options: GenerationOptions,
    stop_texts: Sequence[str] = (),
    show: Callable[[str], None] | None = None,
) -> Completion:
    """Write on from a prompt, which may be empty; `show` gets each piece of text as it comes.

    A prompt that fills the model's context and an empty stop text are `UsageError`s.
    """
    refuse_empty_stops(stop_texts)
    stream = TextStream(tokenizer, stop_texts)
    pieces: list[str] = []

    def take(text: str) -> None:
        pieces.append(text)
        if show is not None and text:
            show(text)

    def is_finished(token: int) -> bool:
        take(stream.push(token))
        return stream.is_stopped

    ids = [tokenizer.eot, *tokenizer.encode(prompt)]
    done = generate(model, ids, options=options, is_finished=is_finished)
    take(stream.finish())
    return Completion(prompt, "".join(pieces), done.tokens, done.stop_reason, done.tokens_per_s)
