"""A data set of the hub as documents: nothing is stored but the shards that `prepare` writes.

A set that cannot be reached, or is not there, is an error that names it and the ways on; there is
no other source to fall back to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from yxanul.config.schema import SourceConfig
from yxanul.data.bookmark import Mark
from yxanul.data.document import Document
from yxanul.data.sources.hub.client import patient_client
from yxanul.data.sources.hub.failures import failure, missing_package
from yxanul.data.sources.hub.part import TRAIN_WITHOUT, HubPart
from yxanul.data.sources.hub.patience import Line
from yxanul.data.sources.hub.rows import Row, RowStream
from yxanul.data.sources.hub.template import Template, UnfitRow
from yxanul.data.strict import Fields
from yxanul.data.tokenizer import Tokenizer, load_tokenizer
from yxanul.errors import UsageError, YxanulError

_MARK = ("file", "row", "number", "taken", "files", "dropped")
# So many rows in a row, from the first on, that give no text are the template's fault.
_MISFITS = 100


def resolve_revision(part: HubPart, line: Line) -> str:
    """Return the commit of the data set that `part` names; contacts the hub.

    Raises HubUnreachableError (an outage), UsageError (the set or the revision does not exist, or
    may not be read) or MissingExtraError (package datasets).
    """
    try:
        from huggingface_hub import HfApi, get_token  # comes with the optional extra
    except ImportError as error:
        raise missing_package(part.without) from error
    if part.private and get_token() is None:
        raise UsageError(
            f"The data set {part.hub_id} is private and HF_TOKEN is not set: set it to a token "
            f"that may read the set, or use {part.without}."
        )
    try:
        with patient_client(line):
            found = HfApi().dataset_info(part.hub_id, revision=part.revision)
    except YxanulError:
        raise  # of whoever hears the news: a stop is no outage
    except Exception as error:  # the client's errors have no common base; none is swallowed
        raise failure(part, error) from error
    return str(found.sha)


def reader_version() -> str:
    """Return the library that decides the order of a set's files."""
    try:
        import datasets
    except ImportError as error:
        raise missing_package(TRAIN_WITHOUT) from error
    return f"datasets {datasets.__version__}"


@dataclass(slots=True)
class _Place:
    """The next row to read, and the counts before it."""

    file: int = 0
    row: int = 0
    number: int = 0
    taken: int = 0


class HubReader:
    """Reads one split as documents, in the set's own order, from its beginning or from a mark."""

    def __init__(
        self, config: SourceConfig, *, revision: str, line: Line, dropped: Counter[str]
    ) -> None:
        """Take the set as it is at `revision`; what is left out is counted in `dropped`."""
        self._config = config
        self._revision = revision
        self._line = line
        self._dropped = dropped
        self._template = Template(config)
        self._place = _Place()
        self._files: int | None = None

    def documents(self) -> Iterator[Document]:
        """Read from the beginning.

        Raises HubUnreachableError when the hub fails for good, UsageError when it refuses the set,
        ConfigError for a wrong hub_config, hub_split or text_template, CorruptDataError for files
        of other columns. Dropped: rows under min_tokens, empty ones, and those without their text.
        """
        self._dropped.clear()
        return self._read(_Place())

    def mark(self) -> Mark:
        """Return where the latest reading stands: after the document that it gave last."""
        place = self._place
        return {
            "file": place.file,
            "row": place.row,
            "number": place.number,
            "taken": place.taken,
            "files": self._files,
            "dropped": dict(self._dropped),
        }

    def resume(self, mark: Mark) -> Iterator[Document]:
        """Read on from a mark; raises as `documents`, and CorruptShardError for a wrong mark."""
        fields = Fields(mark, f"the mark of {self._config.name}", keys=_MARK)
        self._dropped.clear()
        self._dropped.update(fields.counts("dropped"))
        self._files = fields.count("files")
        return self._read(
            _Place(*(fields.count(key) for key in ("file", "row", "number", "taken")))
        )

    def _read(self, place: _Place) -> Iterator[Document]:
        self._place = place
        limit = self._config.max_documents
        if limit is not None and place.taken >= limit:
            return  # begun again after its last document
        with patient_client(self._line):
            stream = RowStream(HubPart.of(self._config), self._revision, line=self._line)
            self._check_files(stream.files)
            for file, row, content in stream.read(place.file, place.row):
                place.file, place.row = file, row + (content is not None)
                if content is None:
                    continue
                text = self._text(content, fits=bool(place.taken))
                number, place.number = place.number, place.number + 1
                if text is None:
                    continue
                place.taken += 1
                yield self._document(text, content, number=number)
                if place.taken == limit:
                    return

    def _check_files(self, files: int) -> None:
        if self._files not in (None, files):
            raise UsageError(
                f"The data set {self._config.hub_id} had {self._files} files when it was begun and "
                f"has {files} now; choose another --out to read it anew."
            )
        self._files = files

    def _document(self, text: str, row: Row, *, number: int) -> Document:
        config, url = self._config, row.get("url")
        return Document(
            text=text,
            source=config.name,
            id=f"{config.hub_id}/{config.hub_config or 'default'}/{config.hub_split}/{number}",
            url=url if isinstance(url, str) else None,
        )

    def _text(self, row: Row, *, fits: bool) -> str | None:
        try:
            text = self._template.fill(row)
        except UnfitRow as unfit:
            self._drop(str(unfit))
            if not fits and self._dropped[str(unfit)] == _MISFITS == sum(self._dropped.values()):
                raise self._template.misfit(str(unfit)) from unfit
            return None
        reason = self._unfit(text)
        if reason is not None:
            self._drop(reason)
        return text if reason is None else None

    def _drop(self, reason: str) -> None:
        self._dropped[reason] += 1

    def _unfit(self, text: str) -> str | None:
        if not text:
            return "empty"
        least = self._config.min_tokens
        if least is None:
            return None
        # A token has at least one byte, so most short texts need no tokeniser. The others are
        # counted by whoever writes them, unless the number of documents depends on it.
        if len(text.encode()) < least:
            return "too_short"
        if self._config.max_documents is None:
            return None
        return "too_short" if len(self._tokenizer.encode(text)) < least else None

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        # Loading reads and checks the vocabulary's files: not for every row.
        return load_tokenizer()
