"""Live curves: every metric row goes to TensorBoard, and by switch to W&B and Trackio.

RUN/metrics.jsonl is the record of a run; what is written here is only looked at. So a tracker that
fails is said once and dropped, and the run goes on. Nothing here waits for a network: W&B and
Trackio write to this machine unless their own environment variables say otherwise.
"""

import io
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from importlib.util import find_spec
from typing import Any, Protocol

from yxanul.errors import MissingExtraError, first_line
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.rows import Row

# Columns that say where a row stands; the step is the axis of every curve.
_CLOCK = ("step", "attempt", "stage_step")


class Tracker(Protocol):
    """One program that draws curves."""

    name: str
    hint: str
    """The command that shows the curves."""

    def begin(self, step: int) -> None:
        """Go on after `step`: what was drawn beyond it is void."""

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add one point to every curve."""

    def close(self) -> None:
        """Write out what is left."""


class TensorBoard:
    """Event files in RUN/tensorboard, one per start, each row flushed as it comes.

    torch's SummaryWriter would import TensorFlow where that is installed, and write from a thread
    whose errors come late; the file format is a few lines on TensorBoard's own record writer.
    """

    name = "tensorboard"

    def __init__(self, folder: RunFolder) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._session = event_pb2.Event, event_pb2.SessionLog
        self._summary = summary_pb2.Summary
        place = folder.root / "tensorboard"
        self.hint = f"tensorboard --logdir {shlex.quote(str(place))}"
        place.mkdir(exist_ok=True)
        # TensorBoard reads the files in the order of their names.
        found = [re.fullmatch(r".*\.tfevents\.(\d{6})", path.name) for path in place.iterdir()]
        number = 1 + max((int(match[1]) for match in found if match), default=0)
        name = f"events.out.tfevents.{number:06d}"
        self._file = (place / name).open("xb", buffering=0)  # seen by readers at once
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")

    def begin(self, step: int) -> None:
        """Let readers drop what earlier files hold from the step after `step` on."""
        self._write(step=step + 1, session_log=self._session(status=self._session.START))

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write one event."""
        values = [self._summary.Value(tag=t, simple_value=v) for t, v in scalars.items()]
        self._write(step=step, summary=self._summary(value=values))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, **content: Any) -> None:
        event = self._event(wall_time=time.time(), **content)
        self._records.write(event.SerializeToString())


class GroupedRuns:
    """W&B or Trackio, whose functions have the same names: one of their runs per start.

    What they have drawn cannot be taken back, so a start or a rollback begins a new run of theirs,
    named by its first step, in a group named like the run folder.
    """

    def __init__(
        self,
        module: Any,
        folder: RunFolder,
        *,
        hint: str,
        options: Mapping[str, Any],
    ) -> None:
        self.name, self.hint = module.__name__, hint
        self._module, self._options = module, options
        self._project, self._group = _names(folder)
        self._is_running = False

    def begin(self, step: int) -> None:
        """End their run, if there is one, and begin the next."""
        self.close()
        name = f"{self._group} from step {step}"
        with _quietly():
            self._module.init(project=self._project, group=self._group, name=name, **self._options)
        self._is_running = True

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add a row to their run."""
        self._module.log(dict(scalars), step=step)

    def close(self) -> None:
        """End their run; it writes out what is left."""
        if self._is_running:
            self._is_running = False
            with _quietly():
                self._module.finish()


def _wandb(folder: RunFolder) -> GroupedRuns:
    """W&B in RUN/wandb, offline unless WANDB_MODE says otherwise."""
    import wandb

    place = folder.root.resolve()
    mode = os.environ.get("WANDB_MODE", "offline")
    hint = f"WANDB_MODE={mode}"
    if mode == "offline":
        hint = f"wandb sync {shlex.quote(str(place / 'wandb'))}/offline-run-*"
    settings = wandb.Settings(silent=True, console="off")
    return GroupedRuns(
        wandb,
        folder,
        hint=hint,
        options={"dir": str(place), "mode": mode, "settings": settings},
    )


def _trackio(folder: RunFolder) -> GroupedRuns:
    """Trackio in the user's own database, as TRACKIO_DIR says."""
    import trackio

    return GroupedRuns(
        trackio,
        folder,
        hint=f"trackio show --project {_names(folder)[0]}",
        options={"embed": False, "auto_log_gpu": False, "auto_log_cpu": False},
    )


def _quietly() -> AbstractContextManager[object]:
    """Keep their greetings off stdout, where --json promises one object."""
    return redirect_stdout(io.StringIO())


_KINDS: dict[str, Callable[[RunFolder], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": _wandb,
    "trackio": _trackio,
}


class Trackers:
    """All trackers of a run; those that fail are dropped, each with one line."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._open: list[Tracker] = []
        self._last = 0

    def open(self, name: str, folder: RunFolder, *, step: int) -> None:
        """Open the tracker called `name` for a run that stands at `step`."""
        self._last = step
        try:
            tracker = _KINDS[name](folder)
        except Exception as error:  # noqa: BLE001  (told; a package may raise anything)
            self._say(_dropped(name, error))
            return
        self._open.append(tracker)
        self._each(lambda one: one.begin(step) if one is tracker else None)
        if tracker in self._open:
            self._say(f"live curves: {tracker.hint}")

    def log(self, row: Row) -> None:
        """Draw a metric row; one at an earlier step than the last takes back what follows it."""
        step = int(row["step"])
        if step <= self._last:
            self.forget_after(step - 1)
        self._last = step
        scalars = scalars_of(row)
        self._each(lambda tracker: tracker.log(step, scalars))

    def forget_after(self, step: int) -> None:
        """Take back what was drawn beyond `step`, from which the run goes on."""
        self._last = step
        self._each(lambda tracker: tracker.begin(step))

    def close(self) -> None:
        """Close all of them."""
        self._each(lambda tracker: tracker.close())
        self._open.clear()

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for tracker in list(self._open):
            try:
                act(tracker)
            except Exception as error:  # noqa: BLE001  (told; a package may raise anything)
                self._open.remove(tracker)
                told = _dropped(tracker.name, error)
                try:
                    tracker.close()
                except Exception as other:  # noqa: BLE001  (likewise)
                    told += f"; nor could it be closed: {first_line(other)}"
                self._say(told)


@contextmanager
def open_trackers(
    names: Sequence[str], folder: RunFolder, *, step: int, say: Callable[[str], None]
) -> Iterator[Trackers]:
    """Give the trackers of a run that stands at `step`, and close them at the end.

    Only the main rank names any. `say` prints a line of news.
    """
    trackers = Trackers(say)
    try:
        for name in dict.fromkeys(names):
            trackers.open(name, folder, step=step)
        yield trackers
    finally:
        trackers.close()


def refuse_missing_trackers(names: Sequence[str]) -> None:
    """Raise a `MissingExtraError` for a tracker whose package is not installed."""
    for name in names:
        if find_spec(name) is None:
            package = "tensorboard" if name == "tensorboard" else '"yxanul[track]"'
            raise MissingExtraError(
                f"logging.trackers names {name}, which is not installed: pip install {package}, or "
                "take it out with --set 'logging.trackers=[]'"
            )


def scalars_of(row: Row) -> dict[str, float]:
    """Return the numbers of a metric row by curve: {"loss": 3.1, "bpb/math": 1.9, ...}."""
    scalars: dict[str, float] = {}
    for key, value in row.items():
        inner = value if isinstance(value, dict) else {"": value}
        for name, number in inner.items():
            if isinstance(number, int | float) and not isinstance(number, bool):
                scalars[f"{key}/{name}" if name else key] = float(number)
    return {key: value for key, value in scalars.items() if key not in _CLOCK}


def _names(folder: RunFolder) -> tuple[str, str]:
    """Return the names of project and group: runs/first is the group first of the project runs."""
    place = folder.root.resolve()
    project, group = (re.sub(r"[^\w.-]+", "-", part) for part in (place.parent.name, place.name))
    return project or "yxanul", group or "run"


def _dropped(name: str, error: Exception) -> str:
    return f"{name} is dropped, the run goes on without its curves: {first_line(error)}"
