"""Who this process is among torchrun's ranks, and the few words the ranks exchange."""

import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist

from yxanul.errors import InfrastructureError
from yxanul.runfolder.supervised import is_main_process, tell_supervisor

Told = TypeVar("Told")
# An exchange waits for the slowest rank, which may try kernels or write a checkpoint before it.
_TIMEOUT = timedelta(hours=2)
# The first one follows some seconds of imports: who waits longer has a network that hangs.
_MEETING_S = 600.0
_LATER_S = 30.0
_LOOK_S = 0.2
# How long a rank with an error waits for the main one to stop as well.
_PATIENCE = timedelta(seconds=30)
_STOPS, _LEAVES = "yxanul/main rank stops", "yxanul/main rank leaves"
_GONE = (
    "Connection was likely closed",
    "Connection closed by peer",
    "Connection reset by peer",
    "remote process exited",
    "Timed out waiting",
    "Broken pipe",
)


@dataclass(frozen=True)
class Processes:
    """This rank and the world it is in."""

    rank: int
    world_size: int

    @property
    def is_main(self) -> bool:
        """Rank 0 writes the run folder; the others compute."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world_size > 1:
            dist.barrier()

    def await_main(self, word: str) -> None:
        """Wait until the main rank comes to this `word` too, be it days; each word is for once.

        An exchange would be given up after `_TIMEOUT`. A main rank that stops before it is an
        `InfrastructureError`.
        """
        if self.is_main and self.world_size > 1:
            _tell(f"yxanul/{word}")
        while not self.is_main:
            # Looked at first, or one that says the word and stops at once would not be heard.
            stops = _store().check([_STOPS])
            if _store().check([f"yxanul/{word}"]):
                return
            if stops:
                raise InfrastructureError(f"the main process stopped before {word}; it says why")
            time.sleep(_LOOK_S)

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all ranks."""
        if self.world_size > 1:
            dist.all_reduce(value)
        return value

    def largest(self, value: torch.Tensor) -> torch.Tensor:
        """Return the largest of all ranks' values, with what is no number as infinite."""
        if self.world_size > 1:
            value = value.nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf)
            dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return value

    def smallest(self, number: int, device: torch.device) -> int:
        """Return the smallest of all ranks' numbers; all ranks get the same answer."""
        if self.world_size == 1:
            return number
        return -int(self.largest(torch.tensor(-number, device=device)).item())

    def gathered(self, value: torch.Tensor) -> list[torch.Tensor]:
        """Return every rank's tensor, by rank; all are of one shape and type."""
        if self.world_size == 1:
            return [value]
        found = [torch.empty_like(value) for _ in range(self.world_size)]
        dist.all_gather(found, value)
        return found

    def anyone(self, flag: bool, device: torch.device) -> bool:
        """Tell whether any rank says yes; all ranks get the same answer."""
        if self.world_size == 1:
            return flag
        return bool(self.total(torch.tensor(int(flag), device=device)).item())

    def of_main(self, number: int, device: torch.device) -> int:
        """Return the main rank's number: all must choose alike, and cards differ by a hair."""
        if self.world_size == 1:
            return number
        mine = torch.tensor(number if self.is_main else 0, device=device)
        return int(self.total(mine))

    def told_by_main(self, value: Told, device: torch.device) -> Told:
        """Return what the main rank has of anything that can be pickled."""
        if self.world_size == 1:
            return value
        told = [value]
        dist.broadcast_object_list(told, device=device)
        return told[0]

    def told_by_all(self, value: Told) -> list[Told]:
        """Return what every rank has of anything that can be pickled, by rank."""
        if self.world_size == 1:
            return [value]
        told: list[Any] = [None] * self.world_size
        dist.all_gather_object(told, value)
        return told

    def tell_stopping(self) -> None:
        """Let the others know that this rank exchanges nothing more, and has last things to do."""
        if self.is_main and self.world_size > 1:
            _tell(_STOPS)


ALONE = Processes(rank=0, world_size=1)
"""A process that shares nothing with another."""


def local_rank() -> int:
    """Return the number of this process on its machine; 0 outside torchrun."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def launched_process() -> Processes:
    """Return this process as torchrun describes it in the environment, which has met no other."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    return Processes(int(os.environ.get("RANK", "0")) if world_size > 1 else 0, world_size)


@contextmanager
def joined_processes(device: torch.device, *, even_alone: bool = False) -> Iterator[Processes]:
    """Join the group that torchrun describes in the environment; without one, stay alone.

    `even_alone` makes a group of one process for an engine that needs a group. After an error a
    group of several is left as it is, and `leave` ends the process.
    """
    me = launched_process()
    world_size = me.world_size
    if world_size == 1 and not even_alone:
        yield me
        return
    _join(me, device)
    try:
        with naming_lost_ranks(me):
            yield me
    except BaseException:
        if world_size > 1:
            # NCCL ends a group when every rank ends it. Others may be in an exchange that waits for
            # this one: none would ever come to an end.
            _wait_for_main(me)
        else:
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def _join(me: Processes, device: torch.device) -> None:
    """Make the group, and see that its ranks reach one another."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    card = device if device.type == "cuda" else None
    if me.world_size == 1:
        store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=0, world_size=1, device_id=card)
        return
    # The main rank first: it alone tells a supervisor, and torchrun ends it when another has left.
    late = threading.Timer(_MEETING_S + (0 if me.is_main else _LATER_S), _never_met, [me])
    late.daemon = True
    late.start()
    try:
        with naming_lost_ranks(me):
            dist.init_process_group(backend, timeout=_TIMEOUT, device_id=card)
            float(me.total(torch.zeros((), device=device)))  # NCCL connects at the first one
    finally:
        late.cancel()


def _never_met(me: Processes) -> NoReturn:
    """End this process, whose exchange hangs: no error would ever be raised there."""
    reason = (
        f"process {me.rank + 1} of {me.world_size} reached no other one within {_MEETING_S:.0f} s: "
        "the network between them hangs. NCCL_DEBUG=INFO tells where (also try "
        "NCCL_P2P_DISABLE=1), or take another machine"
    )
    sys.stderr.write(f"yxanul: {reason}\n")
    sys.stderr.flush()
    tell_supervisor(code=InfrastructureError.exit_code, reason=reason)
    os._exit(InfrastructureError.exit_code)


def leave(code: int) -> NoReturn:
    """End the process; one that an error has left in a group at once, when all has been said.

    At Python's own end NCCL would wait for kernels that wait for other ranks.
    """
    if dist.is_available() and dist.is_initialized():
        if is_main_process():
            _tell(_LEAVES)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _wait_for_main(me: Processes) -> None:
    """Wait until the main rank has said and done its last things, if it stops too; it tells so.

    torchrun ends all as soon as one has left: the main rank would not write what it has reached.
    """
    if me.is_main:
        # Of an error before the first step nobody has been told yet.
        _tell(_STOPS)
        return
    with suppress(RuntimeError):  # the main rank is busy with other things, or gone
        _store().wait([_STOPS], _PATIENCE)
        _store().wait([_LEAVES], _TIMEOUT)


def _tell(word: str) -> None:
    """Set a key that the other ranks can wait for."""
    with suppress(RuntimeError):  # whoever keeps the keys is gone, and so is who would read them
        _store().set(word, "")


def _store() -> Any:
    """Return what the ranks keep words in, which torch has no public name for."""
    return dist.distributed_c10d._get_default_store()


@contextmanager
def naming_lost_ranks(me: Processes) -> Iterator[None]:
    """Turn a broken connection to another rank into an `InfrastructureError` that says so."""
    try:
        yield
    except RuntimeError as error:
        if not _is_lost_connection(error):
            raise
        raise InfrastructureError(
            f"process {me.rank + 1} of {me.world_size} lost another one of this run, which says "
            "itself why it left; start the run again once that is mended"
        ) from error


def _is_lost_connection(error: RuntimeError) -> bool:
    """Tell whether another rank is gone: by the words of gloo, NCCL and the store of words.

    They have no class for it.
    """
    return any(words in str(error) for words in _GONE)
