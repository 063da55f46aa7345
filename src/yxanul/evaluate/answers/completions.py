"""The continuations of many prompts, written together; each is what `complete` writes of it alone.

Every prompt has a generator of its own, of the same seed. Rows are computed beside others, which
may round otherwise: only where two tokens are equally likely to the last bits can a text differ.
"""

import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from yxanul.data.progress import Watcher
from yxanul.errors import UsageError
from yxanul.evaluate.answers.batching import write_texts
from yxanul.evaluate.answers.completion import Completion, TextStream
from yxanul.evaluate.answers.stops import refuse_empty_stops
from yxanul.evaluate.models.ours import OurModel
from yxanul.model.generation import GenerationOptions, room_after, sample

# Prompts are taken so many batches at a time. Of these the longest are written first, so what is
# done may have to wait for what stands before it.
_BATCHES = 4


class _Sampled:
    """One prompt's text on its way: a `Text` that draws its own tokens."""

    begun = 0.0

    def __init__(
        self, prompt: str, ids: list[int], *, stream: TextStream, options: GenerationOptions
    ) -> None:
        self.prompt = ids
        self.ids: list[int] = []
        self.max_new_tokens = 0
        self.reason = ""
        self.done: Completion | None = None
        self._asked = prompt
        self._stream = stream
        self._options = options
        self._pieces: list[str] = []
        self._random: torch.Generator | None = None

    def choose(self, logits: Tensor) -> int:
        if self._random is None:
            self._random = torch.Generator(logits.device).manual_seed(self._options.seed)
        seen = [*self.prompt, *self.ids]
        return sample(logits, options=self._options, random=self._random, seen=seen)

    def take(self, token: int) -> bool:
        if token == self._options.end_token:
            return self._end("end_of_text")
        self.ids.append(token)
        self._pieces.append(self._stream.push(token))
        if self._stream.is_stopped:
            return self._end("stop_text")
        return len(self.ids) == self.max_new_tokens and self._end(self.reason)

    def _end(self, reason: str) -> bool:
        text = "".join([*self._pieces, self._stream.finish()])
        tokens = len(self.ids) + (reason == "end_of_text")
        tokens_per_s = tokens / (time.perf_counter() - self.begun)
        self.done = Completion(self._asked, text, self.ids, reason, tokens_per_s)
        return True


def complete_all(
    model: OurModel,
    prompts: Sequence[str],
    *,
    options: GenerationOptions,
    watcher: Watcher,
    stop_texts: Sequence[str] = (),
    batch: int = 32,
) -> Iterator[Completion]:
    """Yield what is written after each prompt, in their order, each as soon as it can be.

    At most `batch` are written at once, fewer where they are long. A prompt that fills the model's
    context is a `UsageError` with its number, and so is an empty stop text; nothing is written
    then. The watcher hears of every text that has ended.
    """
    texts = _texts(model, prompts, options=options, stop_texts=stop_texts)
    watcher.begin("texts", total=len(texts))
    for begin in range(0, len(texts), _BATCHES * batch):
        window = texts[begin : begin + _BATCHES * batch]
        yielded = 0
        for _ in write_texts(model, window, batch=batch):
            watcher.advance(1)
            while yielded < len(window) and (done := window[yielded].done) is not None:
                yield done
                yielded += 1


def _texts(
    model: OurModel,
    prompts: Sequence[str],
    *,
    options: GenerationOptions,
    stop_texts: Sequence[str],
) -> list[_Sampled]:
    """Return a text for each prompt; those that cannot be written are `UsageError`s."""
    refuse_empty_stops(stop_texts)
    texts = []
    for number, (prompt, ids) in enumerate(zip(prompts, model.encode(prompts), strict=True), 1):
        text = _Sampled(
            prompt,
            [model.tokenizer.eot, *ids],
            stream=TextStream(model.tokenizer, stop_texts),
            options=options,
        )
        try:
            room = room_after(len(text.prompt), model.max_length, options=options)
        except UsageError as error:
            raise UsageError(f"prompt {number} of {len(prompts)}: {error}") from error
        text.max_new_tokens, text.reason = room
        texts.append(text)
    return texts
