"""One thread owns the model and writes the texts of all requests together.

In each turn it reads a piece of the prompts that wait, if there are free rows, or scores one, and
writes one token of every text: new texts join while others are written, which they do not hold up
for long. Prompts are read in their order, so a short one waits for a long one before it. Other
threads hand choices in and mark those that nobody waits for; nothing else is shared.
"""

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress

import torch

from yxanul.data.tokenizer import Tokenizer
from yxanul.hardware.failures import LOOK_AT_CARD, is_of_hardware, naming_failed_hardware
from yxanul.model.decoding import Decoder
from yxanul.serve.choices import Choice
from yxanul.serve.refusals import RequestError, queue_full, stopping
from yxanul.serve.rows import Reading, Rows

_CARD_ADVICE = f"start the server again. {LOOK_AT_CARD}"


class Engine:
    """Writes texts until it is closed; at most `batch` at once while `waiting` more wait.

    `ended` is set when it writes no more, also where nobody has closed it.
    """

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer,
        *,
        batch: int,
        waiting: int,
        tell: Callable[[str], None],
        ended: threading.Event,
    ) -> None:
        self.failure: Exception | None = None
        """What has ended it by itself."""
        self._model, self._tokenizer, self._batch = model, tokenizer, batch
        self._rows = self._new_rows()
        self._reading: Reading | None = None
        self._most_waiting = waiting
        self._waiting: list[Choice] = []
        self._tell, self._ended = tell, ended
        self._news = threading.Condition()
        self._ends_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def submit(self, choices: Sequence[Choice]) -> None:
        """Take texts in, all or none of them; a `RequestError` when they are too many."""
        with self._news:
            if self._ends_at is not None:
                raise stopping()
            self._waiting = _wanted(self._waiting)
            if len(self._waiting) + len(choices) > self._most_waiting:
                raise queue_full(len(self._waiting))
            self._waiting += choices
            self._news.notify()

    def load(self) -> tuple[int, int]:
        """Return how many texts are being written or read, and how many wait."""
        reading = self._reading
        count = len(self._rows.choices) + (len(reading.choices) if reading else 0)
        return count, len(_wanted(self._waiting))

    def close(self, *, grace_s: float) -> None:
        """Refuse what waits, end what is being written after at most `grace_s`, and leave."""
        with self._news:
            self._ends_at = time.monotonic() + grace_s
            self._news.notify()
        self._thread.join()

    @torch.no_grad()
    def _run(self) -> None:
        try:
            self._write()
        finally:
            self._ended.set()

    def _write(self) -> None:
        """Write until it is closed or can no longer write; then end all texts."""
        try:
            with naming_failed_hardware(_CARD_ADVICE):
                while self._has_work():
                    self._go_on()
        except Exception as error:  # noqa: BLE001  (the server raises it when it has closed)
            self.failure = error
        with self._news:
            if self._ends_at is None:
                self._ends_at = time.monotonic()
        self._refuse_waiting()
        self._end_all(stopping())

    def _has_work(self) -> bool:
        """Wait for something to do; return whether to go on."""
        with self._news:
            while self._ends_at is None and not (self._waiting or self._is_writing):
                self._news.wait()
            if self._ends_at is None:
                return True
        self._refuse_waiting()
        return self._is_writing and time.monotonic() < self._ends_at

    def _refuse_waiting(self) -> None:
        with self._news:
            refused, self._waiting = self._waiting, []
        for choice in refused:
            choice.fail(stopping())

    @property
    def _is_writing(self) -> bool:
        return bool(self._rows.choices or (self._reading and self._reading.choices))

    def _go_on(self) -> None:
        """Take a turn; an error ends the texts under way, and one of the card all that follow."""
        try:
            self._turn()
        except Exception as error:
            self._fail_all(f"the model failed: {type(error).__name__}")
            # A card that has failed fails in every turn; memory may be there for other texts.
            if is_of_hardware(error):
                raise
            # What a full disk behind stderr does not take is lost, and the server goes on.
            with suppress(OSError):
                self._tell(traceback.format_exc())

    def _turn(self) -> None:
        reading = self._next_reading()
        if reading is not None and reading.go_on():
            self._rows.join(reading)
            reading.choices = []
        self._rows.step()

    def _next_reading(self) -> Reading | None:
        """Return what is read on now, if somebody waits for it and has a row.

        What is read stays until another prompt is: an equal one may follow.
        """
        reading = self._reading
        if reading is not None:
            reading.choices = _wanted(reading.choices)
            if reading.choices:
                return reading
        with self._news:
            self._waiting = _wanted(self._waiting)
            first = self._waiting[: self._rows.free]
            if not first:
                return None
            if reading is None or not reading.take(first):
                reading = self._rows.read(first)
            taken = set(reading.choices)
            self._waiting = [choice for choice in self._waiting if choice not in taken]
        self._reading = reading
        return reading

    def _fail_all(self, message: str) -> None:
        self._end_all(RequestError(message, status=500))
        # What a step has half done to the cache is not known.
        self._rows = self._new_rows()

    def _new_rows(self) -> Rows:
        return Rows(self._model, self._tokenizer, batch=self._batch)

    def _end_all(self, error: RequestError) -> None:
        reading = self._reading.choices if self._reading else []
        for choice in {*self._rows.choices, *reading}:
            choice.fail(error)
        self._reading = None
        self._rows.choices.clear()


def _wanted(choices: Sequence[Choice]) -> list[Choice]:
    return [choice for choice in choices if not choice.is_dropped]
