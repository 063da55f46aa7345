"""Texts that were treated elsewhere, in files: what many machines write and one joins.

The one idea: a task (a rank of `world_size`) writes its texts in the order it read them, and its
`done` file last, with the sha256 of the others and the name of the source. Read back in the order
of the ranks they are that source, and nothing of a task that was killed is ever taken for whole,
nor another source's texts for its own. Files are reached through fsspec, so they may lie on object
storage.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import numpy as np
from pydantic import ValidationError

from yxanul.config.treatment import TreatmentConfig
from yxanul.data.document import Document
from yxanul.data.drop import Drop
from yxanul.data.duplicates.minhash import SIGNATURE_BYTES
from yxanul.data.prepared.manifest import SourceRecord
from yxanul.data.sources.found import PART_FILE
from yxanul.data.strict import Fields, names, parse_json
from yxanul.data.treating.treatment import Recipe, Treated, Treatment
from yxanul.errors import CorruptDataError, CorruptShardError, UsageError
from yxanul.runfolder.durable import refuse_absent_disk
from yxanul.runfolder.storage import Place, is_address, reaching

_FILES = ("texts.jsonl", "ids.bin", "signatures.bin")
_DONE = "done.json"
_DONE_KEYS = ("world_size", "made_with", "provenance", "sha256", "documents", "left_out")
_KEYS = ("id", "url", "split_key", "digest", "bytes", "tokens", "drop", "is_signed", "text")
_VERSION = re.compile(r"\d+ parts, ")
_AGAIN = "run that task again"
_ALL_AGAIN = "run all of its tasks again with this version"
_PUT_BACK = "put it back as it was, or move it away: it is joined already"
_TEXT_CHARACTERS = 300
_BATCH = 1024


@dataclass(frozen=True, slots=True)
class Provenance:
    """The source that texts are of, its stage, licence and whom to name; None = not stated."""

    stage: str
    source: str
    licence: str | None = None
    attribution: str | None = None


class PartWriter:
    """Writes one task's texts below `place`; use it in a `with` block, and call `finish`.

    What the task left there before is written anew; entering the block raises UsageError where it
    is of another source.
    """

    def __init__(self, place: str, rank: int, *, provenance: Provenance) -> None:
        self._place = place.rstrip("/")
        self._rank = rank
        self._provenance = provenance
        self._files: dict[str, BinaryIO] = {}
        self._digests = {name: hashlib.sha256() for name in _FILES}
        self._documents = 0
        self.left_out: Counter[str] = Counter()
        """Rows that gave no text, by reason."""

    def __enter__(self) -> PartWriter:
        filesystem, path = fsspec.core.url_to_fs(self._place)
        filesystem.makedirs(path, exist_ok=True)
        done = f"{path}/{_name(self._rank, _DONE)}"
        if filesystem.exists(done):
            self._refuse_other_source()
            filesystem.rm(done)  # what it says is about to be untrue
        self._files = {
            name: fsspec.open(f"{self._place}/{_name(self._rank, name)}", "wb").open()
            for name in _FILES
        }
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files.values():
            file.close()

    def append(self, document: Document, text: Treated) -> None:
        """Add a text."""
        line = {
            "id": document.id,
            "url": document.url,
            "split_key": document.split_key,
            "digest": text.digest.hex(),
            "bytes": text.bytes,
            "tokens": len(text.ids),
            "drop": asdict(text.drop) if text.drop else None,
            "is_signed": text.signature is not None,
            "text": document.text[:_TEXT_CHARACTERS],
        }
        self._write("texts.jsonl", json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self._write("ids.bin", text.ids.astype("<u2").tobytes())
        if text.signature is not None:
            self._write("signatures.bin", text.signature.astype("<u2").tobytes())
        self._documents += 1

    def finish(self, recipe: Recipe, *, world_size: int) -> None:
        """Close the files and say that they are whole, and of what source."""
        for file in self._files.values():
            file.close()
        done = {
            "world_size": world_size,
            "made_with": recipe.as_json(),
            "provenance": asdict(self._provenance),
            "sha256": {name: digest.hexdigest() for name, digest in self._digests.items()},
            "documents": self._documents,
            "left_out": dict(self.left_out),
        }
        with fsspec.open(f"{self._place}/{_name(self._rank, _DONE)}", "wb").open() as file:
            file.write(json.dumps(done, sort_keys=True).encode())

    def _write(self, name: str, content: bytes) -> None:
        self._files[name].write(content)
        self._digests[name].update(content)

    def _refuse_other_source(self) -> None:
        try:
            before = _provenance(_read_done(self._place, self._rank), self._place)
        except CorruptShardError:
            return  # nobody can join it as it is
        _refuse_other_source(before, self._provenance, place=self._place)


@dataclass(frozen=True)
class Parts:
    """All parts of a source, every task of it done."""

    place: str
    recipe: Recipe
    version: str
    sha256: tuple[dict[str, str], ...]
    provenance: Provenance
    left_out: dict[str, int]
    """Rows that gave no text, by reason, of all tasks."""
    documents: int

    def read(self) -> Iterator[tuple[list[Document], list[Treated]]]:
        """Yield (documents, the texts as treated) in batches, in the order of the tasks.

        A document has the beginning of its text only. Raises CorruptDataError for a file that is
        not as its task left it, and what `reaching` says of an address.
        """
        for rank in range(len(self.sha256)):
            yield from self._read_rank(rank)

    def _read_rank(self, rank: int) -> Iterator[tuple[list[Document], list[Treated]]]:
        digests = {name: hashlib.sha256() for name in _FILES}
        with self._reading(rank), ExitStack() as stack:
            opened: dict[str, BinaryIO] = {
                name: stack.enter_context(
                    fsspec.open(f"{self.place}/{_name(rank, name)}", "rb").open()
                )
                for name in _FILES
            }
            documents: list[Document] = []
            texts: list[Treated] = []
            for number, line in enumerate(opened["texts.jsonl"], start=1):
                digests["texts.jsonl"].update(line)
                where = f"{self.place}/{_name(rank, 'texts.jsonl')} line {number}"
                document, text = _parse(line, where, opened=opened, digests=digests)
                documents.append(document)
                texts.append(text)
                if len(texts) == _BATCH:
                    yield documents, texts
                    documents, texts = [], []
            self._compare(rank, digests)
            if texts:
                yield documents, texts

    @contextmanager
    def _reading(self, rank: int) -> Iterator[None]:
        """Say in one sentence that the files of a task are gone, or why they cannot be read."""
        # At an address anything else may be an outage, and says nothing of the files.
        damage = FileNotFoundError if is_address(self.place) else OSError
        with _reaching(self.place):
            try:
                yield
            except damage as error:
                refuse_absent_disk(error, Path(self.place))
                raise CorruptDataError(
                    f"The files of task {rank} in {self.place} cannot be read "
                    f"({error.strerror or error}); {_AGAIN}."
                ) from error

    def _compare(self, rank: int, digests: dict[str, Any]) -> None:
        for name, digest in digests.items():
            if digest.hexdigest() != self.sha256[rank][name]:
                raise CorruptDataError(
                    f"{self.place}/{_name(rank, name)} is not as its task left it (sha256); "
                    f"{_AGAIN}."
                )


def open_parts(place: str) -> Parts | None:
    """Return the parts below `place`, None = there are none.

    Raises UsageError if tasks are missing or differ in what they treated texts with, and what
    `reaching` says of an address.
    """
    place = place.rstrip("/")
    with _reaching(place):
        return _open_parts(place)


def holds_parts(folder: Path, version: str) -> bool | None:
    """Tell whether the parts in a folder are those of `version`, which are joined already.

    None = there are none. What the tasks left is compared by its sums alone: who wrote it, and what
    lies there of other tasks, mattered when it was joined. Raises CorruptDataError for what cannot
    be read.
    """
    try:
        if not any(map(PART_FILE.fullmatch, Place(str(folder)).top_names())):
            return None
        first = _read_done(str(folder), 0, way_on=_PUT_BACK)
        others = range(1, first.count("world_size"))
        done = [first, *(_read_done(str(folder), rank, way_on=_PUT_BACK) for rank in others)]
    except FileNotFoundError:
        return False
    except OSError as error:
        refuse_absent_disk(error, folder)
        raise CorruptDataError(
            f"What the tasks of a cluster left in {folder} cannot be read "
            f"({error.strerror or error}); {_PUT_BACK}."
        ) from error
    return version.endswith(_sums_name([one.texts("sha256") for one in done]))


def is_of_parts(record: SourceRecord) -> bool:
    """Tell whether a prepared source was joined from the parts of a cluster."""
    return record.kind == "folder" and _VERSION.match(record.version) is not None


def _reaching(place: str) -> AbstractContextManager[None]:
    return reaching(place) if is_address(place) else nullcontext()


def _open_parts(place: str) -> Parts | None:
    names = Place(place).top_names()
    begun = sorted(filter(PART_FILE.fullmatch, names))
    ranks = sorted(int(name.partition(".")[0]) for name in begun if name.endswith(_DONE))
    if not begun:
        return None
    if 0 not in ranks:
        raise UsageError(
            f"{place} holds what the tasks of a cluster write ({begun[0]}), but task 0 is not "
            "done; run the tasks that are missing, with the same executor."
        )
    done = [_read_done(place, rank) for rank in ranks]
    _check_together(done, ranks, place=place)
    first = done[0]
    hashes = tuple(one.texts("sha256") for one in done)
    documents = sum(one.count("documents") for one in done)
    return Parts(
        place,
        _recipe(first, place),
        f"{len(done)} parts, {documents} documents, {_sums_name(hashes)}",
        hashes,
        _provenance(first, place),
        dict(sum((Counter(one.counts("left_out")) for one in done), Counter())),
        documents,
    )


def _sums_name(hashes: Sequence[dict[str, str]]) -> str:
    """Return how a version names the sums of its files, in the order of the tasks."""
    return f"sha256 {hashlib.sha256(json.dumps(hashes).encode()).hexdigest()[:16]}"


def _check_together(done: Sequence[Fields], ranks: Sequence[int], *, place: str) -> None:
    """Refuse what is not the whole work of one run of one source; task 0 is there."""
    first = done[0]
    of, tasks = _provenance(first, place), first.count("world_size")
    for one in done:
        _refuse_other_source(of, _provenance(one, place), place=place)
    for rank, one in zip(ranks, done, strict=True):
        if rank >= tasks or one.count("world_size") != tasks:
            raise UsageError(
                f"{place} mixes the work of {tasks:,} tasks with that of "
                f"{one.count('world_size'):,} (task {rank}), so texts would be there twice or "
                "not at all; empty it and run all tasks again."
            )
    missing = next((n for n, rank in enumerate(ranks) if rank != n), len(ranks))
    if missing < tasks:
        raise UsageError(
            f"{place} holds the first of {tasks:,} tasks, but task {missing} "
            "is not done; run the tasks that are missing, with the same executor."
        )
    for key in ("made_with", "provenance"):
        if any(one.table(key) != first.table(key) for one in done):
            raise UsageError(
                f"The tasks in {place} treated their texts differently ({key}); run all of them "
                "with the same settings and libraries."
            )


def _provenance(done: Fields, place: str) -> Provenance:
    told = done.table("provenance")
    if "source" not in told:
        raise UsageError(
            f"{place} holds what tasks of an earlier version wrote, which does not tell their "
            f"source: empty it, and {_ALL_AGAIN}."
        )
    where = f"{place}: provenance"
    fields = Fields(told, where, keys=names(Provenance), way_on=_ALL_AGAIN)
    return fields.record(Provenance)


def _refuse_other_source(one: Provenance, other: Provenance, *, place: str) -> None:
    if (one.stage, one.source) != (other.stage, other.source):
        raise UsageError(
            f"{place} cannot hold texts of {one.source} ({one.stage}) and of {other.source} "
            f"({other.stage}): give each source a place of its own."
        )


def _recipe(done: Fields, place: str) -> Recipe:
    value = Fields(
        done.table("made_with"),
        f"{place}: made_with",
        keys=("config", "min_tokens", "tools", "decontaminated"),
        way_on=_ALL_AGAIN,
    )
    least = value.number("min_tokens")
    try:
        config = TreatmentConfig.model_validate_json(json.dumps(value.table("config")))
    except ValidationError as error:
        raise value.wrong(f"config is no treatment of this version ({error.title})") from error
    treatment = Treatment(config, min_tokens=None if least is None else int(least))
    return Recipe(treatment, value.texts("decontaminated"), value.texts("tools"))


def _read_done(place: str, rank: int, *, way_on: str = _AGAIN) -> Fields:
    where = f"{place}/{_name(rank, _DONE)}"
    with fsspec.open(where, "rb").open() as file:
        value = parse_json(file.read(), where, way_on=way_on)
    return Fields(value, where, keys=_DONE_KEYS, way_on=way_on)


def _parse(
    line: bytes, where: str, *, opened: dict[str, BinaryIO], digests: dict[str, Any]
) -> tuple[Document, Treated]:
    take = partial(_take, where=where, opened=opened, digests=digests)
    fields = Fields(parse_json(line, where, way_on=_AGAIN), where, keys=_KEYS, way_on=_AGAIN)
    drop = None
    if fields.has("drop"):
        found = Fields(fields.table("drop"), where, keys=names(Drop), way_on=_AGAIN)
        drop = found.record(Drop)
    signature = None
    if fields.flag("is_signed"):
        signature = take("signatures.bin", SIGNATURE_BYTES)
    document = Document(
        fields.text("text"),
        "",
        fields.text("id"),
        fields.optional_text("url"),
        fields.optional_text("split_key"),
    )
    ids = take("ids.bin", 2 * fields.count("tokens"))
    text = Treated(
        bytes.fromhex(fields.sha256("digest")), fields.count("bytes"), ids, drop, signature
    )
    return document, text


def _take(
    name: str, size: int, *, where: str, opened: dict[str, BinaryIO], digests: dict[str, Any]
) -> Any:
    """Return the next numbers of a file, which has `size` bytes of them for the text at `where`."""
    content = opened[name].read(size)
    if len(content) < size:
        raise CorruptDataError(f"{where}: {name} is cut short there; {_AGAIN}.")
    digests[name].update(content)
    return np.frombuffer(content, dtype="<u2")


def _name(rank: int, name: str) -> str:
    return f"{rank:05d}.{name}"
