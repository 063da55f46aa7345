"""Where everything of a run lies, and who may write there.

A run is a folder (the contract is in docs: config.yaml, environment.json, data/, bench/,
metrics.jsonl, gates.jsonl, scores/, samples.jsonl, lineage.jsonl, spending.jsonl, checkpoints/,
exit.json, sums.json). One process holds its lock; readers need none.
"""

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from yxanul.errors import CorruptDataError, UsageError
from yxanul.runfolder.durable import disk_error, try_lock, writing

# Large and with sums of their own, made from the rest, or for a tracker, which may add to it later.
_BESIDE = {"checkpoints", "data", "report.html", "sums.json", "tensorboard", "wandb"}
_LOOKED_AT_S = 1.0
"""A reader that looks whether a run is held has its lock for much less."""
_held: set[tuple[int, int]] = set()
"""The locks that this process holds, by device and inode.

The process id in a lock does not tell whose it is: every container has a process 1.
"""


@dataclass(frozen=True)
class RunFolder:
    """The paths inside one run folder; creating one touches no disk."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved configuration, as YAML."""
        return self.root / "config.yaml"

    @property
    def environment(self) -> Path:
        """Versions, device, seed, command and commit of the last start."""
        return self.root / "environment.json"

    @property
    def data(self) -> Path:
        """Prepared shards, unless data.json points to a shared folder."""
        return self.root / "data"

    @property
    def data_pointer(self) -> Path:
        """Names the prepared folder that the run reads when it is not its own."""
        return self.root / "data.json"

    def prepared_data(self) -> Path:
        """Return the prepared folder that the run reads: its own, or the one that it points to."""
        if not self.data_pointer.exists():
            return self.data
        try:
            return Path(json.loads(self.data_pointer.read_text(encoding="utf-8"))["prepared"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CorruptDataError(
                f"{self.data_pointer} does not name a prepared folder; delete it and start again"
            ) from error

    @property
    def metrics(self) -> Path:
        """A row per logged step."""
        return self.root / "metrics.jsonl"

    @property
    def gates(self) -> Path:
        """A row per check and verdict."""
        return self.root / "gates.jsonl"

    @property
    def scores(self) -> Path:
        """Per-document records of every evaluation."""
        return self.root / "scores"

    @property
    def evaluation(self) -> Path:
        """Records of scores that were taken of its checkpoints by `yxanul evaluate`."""
        return self.root / "evaluation"

    @property
    def bench(self) -> Path:
        """The items of every task that the run scores, as they were when it began."""
        return self.root / "bench"

    @property
    def contamination(self) -> Path:
        """Items of those tasks that were found in the training text."""
        return self.root / "contamination.json"

    @property
    def spending(self) -> Path:
        """Seconds of every process that worked on the run."""
        return self.root / "spending.jsonl"

    @property
    def samples(self) -> Path:
        """Continuations of the same prompts over time."""
        return self.root / "samples.jsonl"

    @property
    def lineage(self) -> Path:
        """Attempts and rollbacks, append-only."""
        return self.root / "lineage.jsonl"

    @property
    def checkpoints(self) -> Path:
        """One folder per checkpoint."""
        return self.root / "checkpoints"

    @property
    def exit_record(self) -> Path:
        """How the last process ended, and why."""
        return self.root / "exit.json"

    @property
    def sums(self) -> Path:
        """Sizes and sha256 of the other files, once the run has ended."""
        return self.root / "sums.json"

    def stacks(self, rank: int) -> Path:
        """Where every thread of a rank stood when it hung."""
        return self.root / f"stacks-rank{rank}.txt"

    def create(self) -> None:
        """Make the folders; an impossible place is a `DiskError`.

        One that lies there and may not be written is a `UsageError`; where a run has begun, which
        could write there, it is a `BrokenDiskError`.
        """
        with writing(self.root):
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self.scores.mkdir(exist_ok=True)
        for path in (self.root, self.checkpoints, self.scores):
            if not os.access(path, os.W_OK):
                if self.lineage.exists():
                    refused = OSError(errno.EACCES, os.strerror(errno.EACCES))
                    raise disk_error(refused, path, was_writable=True)
                raise UsageError(
                    f"{path} may not be written by this user; give it the right, or choose "
                    "another --out"
                )

    @property
    def report(self) -> Path:
        """The run as one page."""
        return self.root / "report.html"

    def is_empty(self) -> bool:
        """Tell whether nothing lies in the folder but what a refused command leaves behind."""
        if not self.root.exists():
            return True
        left = {self.checkpoints, self.scores, self.exit_record, self.sums, self.root / ".lock"}
        names = set(self.root.iterdir())
        return names <= left and not any(
            any(path.iterdir()) for path in names & {self.checkpoints, self.scores}
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run folder alone; a second process gets a `UsageError` that names the first.

        The kernel drops the lock when its holder dies, however it dies, so there are no stale
        locks.
        """
        path = self.root / ".lock"
        with writing(path):
            file = path.open("a+")
        with file:
            self._take_lock(file, path)
            taken = _identity(file)
            _held.add(taken)
            try:
                yield
            finally:
                _held.remove(taken)

    def is_held_elsewhere(self, *, must_know: bool = False) -> bool:
        """Tell whether another process is training here; nothing is created or waited for.

        Where the file system knows no locks that is False, or a `UsageError` for who `must_know`.
        """
        path = self.root / ".lock"
        if not path.exists():
            return False
        with path.open(encoding="utf-8") as file:
            # Shared and given back at once: two readers do not see each other.
            try:
                is_free = try_lock(file, fcntl.LOCK_SH, place=self.root)
            except UsageError:
                # No run begins where nothing can be locked; but another machine may see locks here.
                if must_know:
                    raise
                return False
            return not is_free and _identity(file) not in _held

    def is_in_preparation(self) -> bool:
        """Tell whether a process is at a run that has no settings yet: it prepares its data."""
        return not self.config.is_file() and self.is_held_elsewhere()

    def _take_lock(self, file: TextIO, path: Path) -> None:
        given_up_at = time.monotonic() + _LOOKED_AT_S
        with writing(path):
            while not try_lock(file, fcntl.LOCK_EX, place=self.root):
                if time.monotonic() >= given_up_at:
                    file.seek(0)
                    holder = file.read().strip() or "unknown"
                    raise UsageError(
                        f"another process (pid {holder}) is training in {self.root}; "
                        "wait for it, stop it, or choose another --out"
                    )
                time.sleep(_LOOKED_AT_S / 50)
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()


def run_files(root: Path) -> Iterator[Path]:
    """Yield what a run leaves behind beside its data and checkpoints: rows, scores, settings."""
    for top in sorted(root.iterdir()):
        if is_run_file([top.name]):  # checkpoints come and go meanwhile
            found = [top] if top.is_file() else sorted(top.rglob("*"))
            yield from (p for p in found if p.is_file() and is_run_file(p.relative_to(root).parts))


def is_run_file(inside: Sequence[str]) -> bool:
    """Tell whether `run_files` would yield a file of that path, in parts, inside a run folder.

    A name with a leading dot is half a file or another program's (.DS_Store, .nfs0001).
    """
    return inside[0] not in _BESIDE and not any(part.startswith(".") for part in inside)


def _identity(file: TextIO) -> tuple[int, int]:
    """Return device and inode of an open file."""
    stat = os.fstat(file.fileno())
    return stat.st_dev, stat.st_ino
