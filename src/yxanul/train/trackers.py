"""Live curves: every metric row goes to TensorBoard, and by switch to W&B and Trackio.

RUN/metrics.jsonl is the record of a run; what is written here is only looked at. So a tracker that
fails is said once and dropped, and the run goes on. Nothing here waits for a network: W&B and
Trackio write to this machine unless their own environment variables say otherwise.
"""

import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from yxanul.errors import MissingExtraError
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.rows import Row

# Columns that say where a row stands; the step is the axis of every curve.
_CLOCK = ("step", "attempt", "stage_step")


class Tracker(Protocol):
    """One program that draws curves."""

    name: str
    hint: str
    """The command that shows the curves."""
    failures: tuple[type[Exception], ...]
    """What it raises when it cannot write."""

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
    failures: tuple[type[Exception], ...] = (OSError,)

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


class WeightsAndBiases:
    """One W&B run per start, grouped by run folder; offline unless WANDB_MODE says otherwise."""

    name = "wandb"

    def __init__(self, folder: RunFolder) -> None:
        import wandb

        self._wandb, self._place = wandb, folder.root.resolve()
        self.failures: tuple[type[Exception], ...] = (OSError, wandb.Error)
        place = self._place / "wandb" / "offline-run-*"
        self.hint = f"wandb sync {shlex.quote(str(place.parent))}/{place.name}"
        self._run: Any = None

    def begin(self, step: int) -> None:
        """Begin a W&B run: points of the one before cannot be taken back."""
        self.close()
        project, name = _names(self._place)
        with redirect_stdout(sys.stderr):
            self._run = self._wandb.init(
                project=project,
                group=name,
                name=f"{name} from step {step}",
                dir=str(self._place),
                mode=os.environ.get("WANDB_MODE", "offline"),
                settings=self._wandb.Settings(silent=True, console="off"),
            )

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add a row to the W&B run."""
        self._run.log(dict(scalars), step=step)

    def close(self) -> None:
        """End the W&B run."""
        if self._run is not None:
            with redirect_stdout(sys.stderr):
                self._run.finish()
            self._run = None


class Trackio:
    """One Trackio run per start, grouped by run folder, in the user's own Trackio database."""

    name = "trackio"
    failures: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, folder: RunFolder) -> None:
        with redirect_stdout(sys.stderr):
            import trackio

        self._trackio, self._place = trackio, folder.root.resolve()
        self.hint = f"trackio show --project {_names(self._place)[0]}"
        self._run: Any = None

    def begin(self, step: int) -> None:
        """Begin a Trackio run: points of the one before cannot be taken back."""
        self.close()
        project, name = _names(self._place)
        with redirect_stdout(sys.stderr):
            self._run = self._trackio.init(
                project=project,
                group=name,
                name=f"{name} from step {step}",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add a row to the Trackio run."""
        self._run.log(dict(scalars), step=step)

    def close(self) -> None:
        """End the Trackio run."""
        if self._run is not None:
            with redirect_stdout(sys.stderr):
                self._run.finish()
            self._run = None


_KINDS: dict[str, Callable[[RunFolder], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "trackio": Trackio,
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
        except OSError as error:
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
            except tracker.failures as error:
                self._open.remove(tracker)
                with suppress(*tracker.failures):  # it has failed already
                    tracker.close()
                self._say(_dropped(tracker.name, error))


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


def _names(place: Path) -> tuple[str, str]:
    """Return the names of project and run: runs/first belongs to the project runs as first."""
    project, name = (re.sub(r"[^\w.-]+", "-", part) for part in (place.parent.name, place.name))
    return project or "yxanul", name or "run"


def _dropped(name: str, error: Exception) -> str:
    reason = str(error).strip() or type(error).__name__
    return f"{name} is dropped, the run goes on without its curves: {reason}"
