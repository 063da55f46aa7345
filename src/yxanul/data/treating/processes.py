"""Batches of texts treated on up to 32 cores, handed back in the order in which they came.

The one idea: the first 24 MB are treated here, since starting processes costs more than that; from
then on a few batches are under way at once, never more, so memory does not grow with the input. The
processes end with this one, however it ends.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, TypeVar

from yxanul.data.children import begin_as_child, children, most_processes
from yxanul.data.treating.treatment import Treated, Treater, Treatment

ALONE_CHARACTERS = 24_000_000
# Batches under way per process: one that is worked on, one that waits.
_DEPTH = 2

T = TypeVar("T")
# Texts as treated, and what the user should know of the process that treated them.
_Result = tuple[list[Treated], str | None]


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """Texts, and what their owner wants back with the result."""

    texts: Sequence[str]
    owner: T


def treat_in_order(
    batches: Iterable[Batch[T]],
    treatment: Treatment,
    *,
    processes: int | None = None,
    alone_characters: int = ALONE_CHARACTERS,
    say: Callable[[str], None],
) -> Generator[tuple[T, list[Treated]], None, None]:
    """Yield (owner, treated texts) of each batch, in order.

    processes: None = `most_processes`. Raises what the batches raise, what `Treater` raises, and
    InfrastructureError if a process is killed. Close the generator to end the processes early.
    """
    treater = Treater(treatment)
    count = processes or most_processes()
    source = iter(batches)
    told, characters = set[str](), 0
    for batch in source:
        yield batch.owner, treater.treat(batch.texts)
        _tell(treater.note, told, say=say)
        characters += sum(map(len, batch.texts))
        if count > 1 and characters >= alone_characters:
            break
    else:
        return
    with closing(_in_processes(source, treatment, processes=count)) as results:
        for owner, (texts, note) in results:
            yield owner, texts
            _tell(note, told, say=say)


def _tell(note: str | None, told: set[str], *, say: Callable[[str], None]) -> None:
    """Say a note that was not told yet; each process proves its encoder for itself."""
    if note is not None and note not in told:
        told.add(note)
        say(note)


def _in_processes(
    batches: Iterable[Batch[T]], treatment: Treatment, *, processes: int
) -> Generator[tuple[T, _Result], None, None]:
    waiting: deque[tuple[T, Future[_Result]]] = deque()
    with children(processes, "treated texts", begin=_begin, given=(treatment,)) as pool:
        for batch in batches:
            waiting.append((batch.owner, pool.submit(_treat, batch.texts)))
            if len(waiting) >= _DEPTH * processes:
                owner, future = waiting.popleft()
                yield owner, future.result()
        while waiting:
            owner, future = waiting.popleft()
            yield owner, future.result()


_treater: Treater | None = None


def _begin(treatment: Treatment) -> None:
    global _treater  # noqa: PLW0603  (a pool's process has no other place for what it keeps)
    begin_as_child()
    # tokie would start threads of its own, one for each core.
    os.environ.setdefault("RAYON_NUM_THREADS", "1")
    _treater = Treater(treatment)


def _treat(texts: Sequence[str]) -> _Result:
    assert _treater is not None  # `_begin` has run
    return _treater.treat(texts), _treater.note
