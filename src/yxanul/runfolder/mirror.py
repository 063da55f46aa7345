"""A run's copy at an address, from which it goes on when its machine is gone.

The one idea is that of a checkpoint on the disk: its manifest comes last, so what has one is whole.
The run's rows are copied before a manifest is, so they are never older than the newest checkpoint
there; what is newer is cut on resume. How the run ended and its report follow when it has; they are
for people who look there, and never come back. The way back is the matter of
`yxanul.runfolder.bringing`.
"""

import itertools
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from yxanul.errors import CorruptCheckpointError, InfrastructureError, UsageError
from yxanul.failpoints import failpoint
from yxanul.runfolder.checkpoints import (
    CHECKPOINT_NAME,
    LARGEST_JSON_BYTES,
    MANIFEST_NAME,
    list_checkpoints,
    read_json,
    verify_file,
)
from yxanul.runfolder.durable import sync_file
from yxanul.runfolder.layout import RunFolder, run_files
from yxanul.runfolder.lineage import attempt_parent, current_attempt
from yxanul.runfolder.mirror_decisions import decided_there, told_late
from yxanul.runfolder.storage import Place, reaching

Say = Callable[[str], None]
_LARGEST_ROW_BYTES = 1 << 16
LEFT_OUT = {"data.json", "exit.json"}
"""Of this machine alone; the last words of a run are copied when it ends."""
_KEPT = 2


class Mirror:
    """Copies checkpoints, and what else a run needs to go on, to an address."""

    def __init__(self, address: str, folder: RunFolder, *, say: Say) -> None:
        """Touch nothing yet; every method raises what `reaching` turns into sentences."""
        self._say = say
        self._told: set[str] = set()
        self._address = address
        self._folder = folder
        self._copied: dict[str, list[int]] = {}
        self.overtaken: str | None = None
        """What was found instead of this run's copy; nothing is put over it."""

    def publish(self, checkpoint: Path, name: str) -> None:
        """Copy the files of a checkpoint, which lie in `checkpoint`, under its `name`.

        What lies there already byte for byte is left; older ones go, the permanent ones excepted.
        """
        with reaching(self._address):
            place = self._own_place()
            _put_files(place, checkpoint, name=name)
            self._copy_rows(place)
            failpoint("mirror.files")
            place.put(checkpoint / MANIFEST_NAME, f"checkpoints/{name}/{MANIFEST_NAME}")
            self._purge(place)

    def lacking(self) -> list[Path]:
        """Return the run's checkpoints that are not there."""
        with reaching(self._address):
            there = set(published(self._own_place()))
        return [p for p in list_checkpoints(self._folder.checkpoints) if p.name not in there]

    def publish_ending(self) -> None:
        """Copy the run's last rows and verdicts, how it ended, and its report.

        Rows of an attempt that has no checkpoint there stay here: nobody could go on from them.
        """
        with reaching(self._address):
            place = self._own_place()
            if holds_attempt(place, current_attempt(self._folder.lineage)):
                self._copy_rows(place)
            for path in (self._folder.report, self._folder.exit_record):
                if path.is_file():
                    place.put(path, f"run/{path.name}")

    def publish_verdicts(self) -> bool:
        """Copy what gates and people have decided; tell whether a run that heeds it is there.

        What a person has decided there and is not here is a `UsageError`, and stays.
        """
        with reaching(self._address):
            place = self._own_place()
            is_there = holds_attempt(place, current_attempt(self._folder.lineage))
            if is_there:
                for row in itertools.chain(*decided_there(place, self._folder)):
                    raise UsageError(
                        f"{row['by']} decided {row['verdict']} on the gate of {row['stage']} at "
                        f"{self._address}, and that stays; to decide otherwise, bring "
                        f"run/{self._folder.gates.name} from there first"
                    )
                place.put(self._folder.gates, f"run/{self._folder.gates.name}")
            return is_there

    def _own_place(self) -> Place:
        """Find the place; what lies there and is no copy of this run is a `UsageError`.

        It is looked at each time: whoever was thought gone may be there while another goes on.
        """
        self.overtaken = other_copy(self._address, self._folder)
        if self.overtaken is not None:
            raise UsageError(self.overtaken)
        return Place(self._address)

    def _copy_rows(self, place: Place) -> None:
        """Copy what is new of the rows; what an attempt begins from is there before its beginning.

        Else whoever goes on from there could not begin it.
        """
        lineage = self._folder.lineage
        attempt = None
        while attempt != (attempt := current_attempt(lineage)):  # one may begin meanwhile
            self._put_parent(place, attempt)
            for path, *seen in _rows_now(self._folder.root):
                if path == lineage and current_attempt(lineage) != attempt:
                    continue
                inside = path.relative_to(self._folder.root).as_posix()
                if self._copied.get(inside) != seen and self._may_put(place, path):
                    self._put_rows(place, path, inside=inside)
                    self._copied[inside] = seen

    def _may_put(self, place: Place, path: Path) -> bool:
        """Tell whether rows may be put there: no decision is lost that the next start takes over.

        One that came too late is told.
        """
        if path != self._folder.gates:
            return True
        counting, late = decided_there(place, self._folder)
        for row in [] if counting else late:
            self._say(f"mirror: {told_late(row)}")
        return not counting

    def _put_rows(self, place: Place, path: Path, *, inside: str) -> None:
        if path != self._folder.spending:
            place.put(path, f"run/{inside}")
            return
        # By these rows `other_copy` judges: what is there no power failure may take here. A row may
        # be added meanwhile, so what is put there is what was here before the sync.
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / path.name
            copy.write_bytes(path.read_bytes())
            sync_file(path)
            place.put(copy, f"run/{inside}")

    def _put_parent(self, place: Place, attempt: int) -> None:
        """Copy the checkpoint from which the attempt began, unless a later one of it is there."""
        parent = self._parent()
        if parent is None or holds_attempt(place, attempt) or parent in published(place):
            return
        path = self._folder.checkpoints / parent
        # Who took another machine's place after the attempt's first checkpoint never had it.
        if not path.exists():
            return
        try:
            _put_files(place, path, name=parent)
        except CorruptCheckpointError as error:  # later ones of the attempt can be gone on from
            self._tell_once(parent, error)
            return
        place.put(path / MANIFEST_NAME, f"checkpoints/{parent}/{MANIFEST_NAME}")

    def _parent(self) -> str | None:
        """Return the name of this run's checkpoint from which its last attempt began, if any."""
        parent = attempt_parent(self._folder.lineage)
        return parent if parent is not None and CHECKPOINT_NAME.fullmatch(parent) else None

    def _purge(self, place: Place) -> None:
        """Delete all but the newest that are whole and the permanent ones; manifests go first.

        What the last attempt began from stays: it may have no checkpoint yet.
        """
        for name in list(published(place))[_KEPT:]:
            path = f"checkpoints/{name}/{MANIFEST_NAME}"
            if name != self._parent() and not self._is_permanent(place, path):
                place.remove(path)
                place.remove(f"checkpoints/{name}")

    def _is_permanent(self, place: Place, manifest: str) -> bool:
        """Tell whether a checkpoint there must stay; so does one that nobody knows this of."""
        try:
            return bool(_read_json(place, manifest).get("permanent", True))
        except CorruptCheckpointError as error:
            self._tell_once(manifest, error)
            return True

    def _tell_once(self, what: str, error: CorruptCheckpointError) -> None:
        if what not in self._told:
            self._told.add(what)
            self._say(f"mirror: {error}; it is left as it is")


def _put_files(place: Place, checkpoint: Path, *, name: str) -> None:
    """Copy all files but the manifest, and read each one back.

    One that is not what the manifest says here either is a `CorruptCheckpointError`.
    """
    manifest = read_json(checkpoint / MANIFEST_NAME)
    for file, about in sorted(manifest["files"].items()):
        path = f"checkpoints/{name}/{file}"
        if not place.holds(path, size=about["bytes"], sha256=about["sha256"]):
            place.put(checkpoint / file, path)
        if not place.holds(path, size=about["bytes"], sha256=about["sha256"]):
            verify_file(checkpoint / file, about)
            raise OSError(f"{path} came to be other bytes than were sent")


def refuse_own_folder(address: str, folder: RunFolder) -> None:
    """Raise a `UsageError` where the copy would lie in the run folder, or the run in its copy.

    It would be copied with the run's files, into itself and larger each time, and checkpoints here
    would be deleted as those of a copy are.
    """
    place, root = Place(address).folder, folder.root.resolve()
    if place is None:
        return
    parts = (place / "run", place / "checkpoints")
    if place.is_relative_to(root) or any(root.is_relative_to(part) for part in parts):
        # Left there it would be copied as rows of the run's.
        is_left = root in place.parents and parts[0].is_dir()
        also = f", and delete or move the copy that lies at {place}" if is_left else ""
        raise UsageError(
            f"checkpoint.mirror {address} and the run folder {folder.root} lie in one another; "
            f"name a folder outside it, at best on another disk{also}"
        )


def published(place: Place, *, attempt: int | None = None) -> Iterator[str]:
    """Yield the names of the checkpoints there that have a manifest, the newest first.

    Of one attempt or of all.
    """
    parts = (name.split("/") for name in place.names())
    found = {p[1] for p in parts if len(p) == 3 and (p[0], p[2]) == ("checkpoints", MANIFEST_NAME)}
    names = sorted(filter(CHECKPOINT_NAME.fullmatch, found), key=_age, reverse=True)
    return (name for name in names if attempt in (None, _age(name)[0]))


def holds_run(place: Place) -> bool:
    """Tell whether a run lies there to go on with: its rows are there before its checkpoints."""
    return any(True for _ in published(place))


def holds_attempt(place: Place, attempt: int) -> bool:
    """Tell whether a checkpoint of that attempt lies there."""
    return any(True for _ in published(place, attempt=attempt))


def other_copy(address: str, folder: RunFolder) -> str | None:
    """Say so if a run lies there that is not the one in the folder, as far as it has come here.

    Rows of what was spent are only ever added, and no two are alike, so the last one there is one
    of those here, unless another run wrote it, or this one on a machine that took this one's place.
    Rows before it may be damaged here: whoever reads them names them. None = it is, or there is no
    run.
    """
    place, inside = Place(address), f"run/{folder.spending.name}"
    if not holds_run(place) or not place.exists(inside):
        return None
    here = folder.spending.read_bytes() if folder.spending.is_file() else b""
    rows = place.read(inside, largest=len(here) + _LARGEST_ROW_BYTES)
    whole = rows[: rows.rfind(b"\n") + 1]  # the last one may have been copied half
    if not whole or whole.splitlines()[-1] in here.splitlines():
        return None
    return (
        f"at {address} lies another run, or this one as another machine has gone on with it: going "
        f"on in {folder.root} would replace it. Another --out goes on from there, and another "
        f"checkpoint.mirror takes a copy of what is here. Or {folder.spending} has lost its last "
        f"rows: then {inside} there is a good copy of it"
    )


def _rows_now(root: Path) -> list[tuple[Path, int, int]]:
    """Return (path, time of its last change, size) of the files of a run that are copied."""
    try:
        rows = [p for p in run_files(root) if p.relative_to(root).as_posix() not in LEFT_OUT]
        found = [(path, path.stat()) for path in rows]
    except FileNotFoundError as error:
        raise InfrastructureError(f"{error.filename} was gone before it could be copied") from error
    return [(path, stat.st_mtime_ns, stat.st_size) for path, stat in found]


def _read_json(place: Place, path: str) -> dict[str, Any]:
    try:
        value = json.loads(place.read(path, largest=LARGEST_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise CorruptCheckpointError(f"{path} at the address is no manifest") from error
    if not isinstance(value, dict):
        raise CorruptCheckpointError(f"{path} at the address is no manifest")
    return value


def _age(name: str) -> tuple[int, int]:
    """Return (attempt, step): a later attempt is newer whatever its steps."""
    match = CHECKPOINT_NAME.fullmatch(name)
    assert match is not None  # names are matched before
    return int(match[2]), int(match[1])
