"""A request's texts between the thread that writes them and the loop that sends them.

A text costs rows only while somebody waits for it: when the client hangs up, its choices are marked
as dropped, and the engine gives their rows to others.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable

from yxanul.data.tokenizer import Tokenizer
from yxanul.model.generation import SEEDS
from yxanul.serve.choices import Choice, Event, Piece
from yxanul.serve.engine import Engine
from yxanul.serve.refusals import RequestError
from yxanul.serve.requests import CompletionRequest


class Job:
    """All texts that one request asked for, under way; made inside the loop that reads them."""

    def __init__(
        self, asked: CompletionRequest, *, engine: Engine, positions: int, tokenizer: Tokenizer
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._choices = [
            Choice(
                prompt,
                asked,
                seed=_seed(asked, number),
                positions=positions,
                tokenizer=tokenizer,
                deliver=self._sender(at * asked.n + number),
            )
            for at, prompt in enumerate(asked.prompts)
            for number in range(asked.n)
        ]
        engine.submit(self._choices)

    async def pieces(self) -> AsyncIterator[tuple[int, Piece]]:
        """Yield (number of the text, piece) until all have ended; raises a text's error."""
        running = len(self._choices)
        while running:
            number, event = await self._events.get()
            if isinstance(event, RequestError):
                raise event
            running -= event.ended is not None
            yield number, event

    def drop(self) -> None:
        """Give up what is not written yet; whoever waits for pieces gets an error."""
        for choice in self._choices:
            choice.is_dropped = True
        self._events.put_nowait((0, RequestError("the client has left", status=499)))

    def _sender(self, number: int) -> Callable[[Event], None]:
        def send(event: Event) -> None:
            self._loop.call_soon_threadsafe(self._events.put_nowait, (number, event))

        return send


def _seed(asked: CompletionRequest, number: int) -> int:
    """Return the seed of text `number` of a prompt; without one each text has another."""
    if not asked.is_seeded:
        return secrets.randbelow(SEEDS)
    # So that it is what `yxanul generate` writes with the seed + number.
    return (asked.sampling.seed + number) % SEEDS
