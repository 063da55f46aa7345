"""The rows of a data set, one file after the other, from any row on.

The one idea: a place in a set is (file, row in that file). The files of one revision never change
and are read in one order, so a place means the same row at every start. A shuffle buffer would
break that, so there is none. A file that cannot be read to its end is opened again and its first
rows are skipped; finished files are not fetched again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from yxanul.data.sources.hub.failures import (
    failure,
    has_status,
    missing_package,
    unreachable,
    wrong_part,
)
from yxanul.data.sources.hub.part import HubPart
from yxanul.data.sources.hub.patience import Again, GaveUp, Line
from yxanul.errors import CorruptDataError, YxanulError

Row = Mapping[str, Any]


class RowStream:
    """A split of a data set at one revision; reading is inside `client.patient_client`."""

    def __init__(self, part: HubPart, revision: str, *, line: Line) -> None:
        """Find the split's files; raises what `failure` and `wrong_part` return."""
        self._part = part
        self._line = line
        try:
            self._stream = line.call(lambda: _open(part, revision))
        except GaveUp as gave_up:
            raise unreachable(part, str(gave_up)) from gave_up
        self.files: int = self._stream.num_shards

    def read(self, file: int, row: int) -> Iterator[tuple[int, int, Row | None]]:
        """Yield (file, row, content) from a place on, both numbers from 0.

        A file is ended by content None, at the first place of the next one. Raises
        HubUnreachableError when a file stays unreadable, CorruptDataError for one whose columns
        are not those of the set.
        """
        for number in range(file, self.files):
            yield from self._read_file(number, row if number == file else 0)
            yield number + 1, 0, None

    def _read_file(self, file: int, start: int) -> Iterator[tuple[int, int, Row]]:
        row, failures, started = start, 0, time.monotonic()
        rows = self._rows(file, row)
        while True:
            try:
                found = next(rows, None)
            except YxanulError:
                raise  # of whoever hears the news
            except Exception as error:  # noqa: BLE001  (the libraries' errors have no common base)
                started = time.monotonic() if not failures else started
                failures += 1
                self._pause(error, file, failures=failures, started=started)
                rows = self._rows(file, row)
                continue
            if found is None:
                return
            yield file, row, found
            row, failures = row + 1, 0

    def _rows(self, file: int, row: int) -> Iterator[Row]:
        one = self._stream.shard(num_shards=self.files, index=file)
        return iter(one.skip(row) if row else one)

    def _pause(self, error: Exception, file: int, *, failures: int, started: float) -> None:
        """Wait before a file is opened again; raise if that cannot help."""
        from datasets.table import CastError

        place = f"file {file + 1} of {self.files}"
        if has_status(error):
            raise failure(self._part, error) from error
        if isinstance(error, CastError):
            raise CorruptDataError(
                f"The data set {self._part.hub_id} cannot be read on: {place} does not have the "
                "columns of the first; choose another hub_revision, or limit max_documents."
            ) from error
        again = Again(f"sent {place} damaged or not to its end ({type(error).__name__})")
        try:
            self._line.pause(again, failures=failures, started=started)
        except GaveUp as gave_up:
            raise unreachable(self._part, str(gave_up)) from error


def _open(part: HubPart, revision: str) -> Any:
    try:
        import datasets  # an optional extra, and slow to import
        import pyarrow
    except ImportError as error:
        raise missing_package(part.without) from error
    if "torch" not in sys.modules:
        # It would load torch, 180 MB and two seconds, to make each stream a data set of torch's.
        datasets.config.TORCH_AVAILABLE = False
    # What they would say stands in our own news and errors.
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(
            # A bare name would be a folder of this machine, if there is one of that name.
            f"hf://datasets/{part.hub_id}",
            part.config,
            split=part.split,
            revision=revision,
            streaming=True,
        )
    except YxanulError:
        raise  # of whoever hears the news: a stop is no outage
    except Exception as error:  # see _read_file
        if has_status(error):
            raise failure(part, error) from error
        if isinstance(error, pyarrow.ArrowException):
            # The columns are read from the first file.
            raise Again(f"sent a file damaged ({type(error).__name__})") from error
        if isinstance(error, ValueError):
            raise wrong_part(part, error) from error
        raise failure(part, error) from error
