"""Work that the main rank has and all ranks do: items in turn, answers in the items' order.

The one idea: the main rank goes through its program as if it were alone, and whatever it has many
of it hands out. The others do their part of each until they are told that there is no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from yxanul.errors import InfrastructureError, YxanulError
from yxanul.parallel.processes import Processes

Job = Callable[..., list[Any]]
"""Takes a sequence of items, and options by name; returns an answer for each item, in order."""


@dataclass(frozen=True)
class _Asked:
    """What the main rank hands out."""

    job: str
    items: list[Any]
    options: dict[str, Any]


@dataclass(frozen=True)
class _Failure:
    """What a rank raised instead of its part."""

    error: YxanulError | str


@dataclass(frozen=True)
class SharedWork:
    """Jobs that every rank can do, the same on each."""

    jobs: Mapping[str, Job]
    processes: Processes
    device: torch.device
    waiting: Callable[[float], AbstractContextManager[object]] = nullcontext
    """Watches a wait for the others' parts, given the seconds that the own one took."""

    def do(self, job: str, items: Sequence[Any], **options: Any) -> list[Any]:
        """Return the answers to all items; the main rank's call, while the others `help`.

        Raises what the job raises here, and a `YxanulError` that it raised on another rank; what
        else it raised there is an `InfrastructureError`.
        """
        if self.processes.world_size == 1:
            return self.jobs[job](items, **options)
        asked = _Asked(job, list(items), options)
        self._exchange(asked)
        answers: list[Any] = [None] * len(items)
        parts, own_error = self._parts(asked)
        if own_error is not None:
            raise own_error
        for rank, part in enumerate(parts):
            if isinstance(part, _Failure):
                raise self._named(part.error, rank)
            answers[rank :: len(parts)] = part
        return answers

    def help(self) -> None:
        """Do this rank's part of all that the main rank has until it is done."""
        while (asked := self._exchange(None)) is not None:
            self._parts(asked)

    def done(self) -> None:
        """Let the others go; the main rank's call."""
        if self.processes.world_size > 1:
            self._exchange(None)

    def _exchange(self, asked: _Asked | None) -> _Asked | None:
        """Return what the main rank says."""
        return self.processes.told_by_main(asked, self.device)

    def _parts(self, asked: _Asked) -> tuple[list[Any], Exception | None]:
        """Do this rank's part; return those of all ranks, and what was raised here."""
        own = asked.items[self.processes.rank :: self.processes.world_size]
        part: list[Any] | _Failure
        own_error: Exception | None = None
        begin = time.monotonic()
        try:
            part = self.jobs[asked.job](own, **asked.options) if own else []
        except Exception as error:  # noqa: BLE001  (told to all: a rank less would hang them)
            told = error if isinstance(error, YxanulError) else f"{type(error).__name__}: {error}"
            part, own_error = _Failure(told), error
        with self.waiting(time.monotonic() - begin):
            return self.processes.told_by_all(part), own_error

    def _named(self, error: YxanulError | str, rank: int) -> YxanulError:
        if isinstance(error, YxanulError):
            return error
        return InfrastructureError(f"process {rank + 1} of {self.processes.world_size}: {error}")
