"""What a prepared folder holds: the manifest, written last and trusted only after a check.

The one idea: OUT/manifest.json names every file with its size and sha256, so a folder without it
is unfinished and a folder that differs from it is damaged. A stage is the unit: each has the hash
of the settings that shaped its tokens, and stages can be added. The file is outside bytes: loading
is strict about keys, kinds, counts and paths, and every fault is a `CorruptShardError` that names
the place. Reading tokens is in `yxanul.data.prepared.shards`.

Layout: OUT/<source>/<split>-00000.bin (little-endian uint16 token ids),
OUT/<source>/<split>.documents.jsonl (one line per document), OUT/<source>/<split>.signatures.bin
(only where near duplicates are looked for), OUT/<source>/dropped.jsonl, OUT/manifest.json.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from yxanul.data.files import refuse_checkpoint
from yxanul.data.strict import PREPARE_AGAIN, Fields, Sha256, names, parse_json
from yxanul.errors import CorruptShardError, UsageError
from yxanul.runfolder.durable import refuse_absent_disk, seal, write_atomic

FORMAT_VERSION = 2
MANIFEST_NAME = "manifest.json"
TOKEN_BYTES = 2
SPLITS = ("train", "validation")
KINDS = ("hub", "embedded", "documentation", "folder")
LARGEST_MANIFEST_BYTES = 64 << 20
_OWN_KEYS = {"tokenizer_sha256", "stages", "sources"}
_MOVE_AWAY = "if the folder holds texts, move that file away"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A file of token ids; `path` is relative to the prepared folder, `bytes` its size."""

    path: str
    sha256: Sha256
    bytes: int
    tokens: int


@dataclass(frozen=True, slots=True)
class IndexFile:
    """A file beside the shards, e.g. the list of a split's documents in stream order."""

    path: str
    sha256: Sha256
    bytes: int


@dataclass(frozen=True, slots=True)
class SplitRecord:
    """One side of a source: `tokens` count a 50256 per document, `bytes` are UTF-8 of the texts."""

    tokens: int
    documents: int
    bytes: int
    files: tuple[ShardFile, ...]
    index: IndexFile
    signatures: IndexFile | None

    @property
    def sha256(self) -> str:
        """Hash over the hashes of its shards: equal for the same tokens in the same order."""
        return hashlib.sha256("".join(file.sha256 for file in self.files).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """A source of one stage: where its text comes from, and what became of it.

    `settings` are the source's own, as configured; `tools` are the versions of the libraries that
    treated its texts; `decontaminated` is {benchmark: sha256 of the items looked for}; `dropped` is
    {rule: documents}, those that the source itself left out included, and `dropped_list` names the
    others one by one.
    """

    stage: str
    domain: str
    licence: str | None
    attribution: str | None
    version: str
    kind: str
    settings: dict[str, object]
    tools: dict[str, str]
    decontaminated: dict[str, str]
    train: SplitRecord
    validation: SplitRecord
    dropped: dict[str, int]
    dropped_list: IndexFile

    def split(self, name: str) -> SplitRecord:
        """Return the side `train` or `validation`."""
        return {"train": self.train, "validation": self.validation}[name]


@dataclass(frozen=True, slots=True)
class StageRecord:
    """What a stage was prepared with; weights are not part of it, as they shape no token."""

    settings_sha256: Sha256
    code_version: str
    python_version: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A whole prepared folder; `stages` and `sources` are in the order they were prepared in."""

    format_version: int
    tokenizer_sha256: Sha256
    stages: dict[str, StageRecord]
    sources: dict[str, SourceRecord]

    @property
    def sha256(self) -> str:
        """The sum over its content, as it stands in the file."""
        return seal(dataclasses.asdict(self))

    def source(self, name: str) -> SourceRecord:
        """Return one source; raise `UsageError` if there is none of that name."""
        if name not in self.sources:
            known = ", ".join(self.sources)
            raise UsageError(f"The prepared data has no source {name}; it has {known}.")
        return self.sources[name]

    def sources_of(self, *stages: str) -> dict[str, SourceRecord]:
        """Return the sources of these stages by name, in the order of the manifest."""
        return {name: one for name, one in self.sources.items() if one.stage in stages}

    def files(self) -> Iterator[ShardFile | IndexFile]:
        """Yield every file that the folder must hold, besides the manifest."""
        for source in self.sources.values():
            for split in (source.train, source.validation):
                yield from split.files
                yield split.index
                if split.signatures is not None:
                    yield split.signatures
            yield source.dropped_list


def require_stages(manifest: Manifest, stages: Iterable[str]) -> None:
    """Raise `UsageError` if a stage is not among the prepared ones; settings are not compared."""
    for name in stages:
        if name not in manifest.stages:
            raise UsageError(
                f"The prepared data has no stage {name}, only {', '.join(manifest.stages)}; "
                "prepare it with that stage."
            )


def shard_path(source: str, split: str, *, number: int) -> str:
    """Return the path of a shard within the prepared folder."""
    return f"{source}/{split}-{number:05d}.bin"


def index_path(source: str, split: str) -> str:
    """Return the path of a split's list of documents within the prepared folder."""
    return f"{source}/{split}.documents.jsonl"


def signatures_path(source: str, split: str) -> str:
    """Return the path of a split's MinHash signatures within the prepared folder."""
    return f"{source}/{split}.signatures.bin"


def dropped_path(source: str) -> str:
    """Return the path of the list of dropped documents within the prepared folder."""
    return f"{source}/dropped.jsonl"


def is_plain_name(name: str) -> bool:
    """Return whether a name can be a folder or begin a file's: letters, digits, `_` and `-`."""
    return _PLAIN_NAME.fullmatch(name) is not None


def write_manifest(manifest: Manifest, out: Path) -> None:
    """Write OUT/manifest.json, whole or not at all."""
    write_atomic(out / MANIFEST_NAME, manifest_text(manifest))


def manifest_text(manifest: Manifest) -> str:
    """Return what stands in manifest.json: the same manifest gives the same text."""
    content = {**dataclasses.asdict(manifest), "sha256": manifest.sha256}
    return json.dumps(content, indent=1) + "\n"


def has_manifest(folder: Path) -> bool:
    """Tell whether a manifest lies in a folder and may be read; a private folder has none for us.

    Raises nothing, as `Path.is_file` does for a folder that may not be looked into.
    """
    try:
        with (folder / MANIFEST_NAME).open("rb"):
            return True
    except OSError:
        return False


def load_manifest(path: Path) -> Manifest:
    """Read the manifest of a prepared folder (or the file itself).

    Raises `UsageError` if there is none or it is a checkpoint's, `CorruptShardError` if anything in
    it is not as `prepare` writes it, `BrokenDiskError` if its disk is away. The files it names are
    not looked at: that is `verify`.
    """
    refuse_checkpoint(path)
    place = path / MANIFEST_NAME if path.is_dir() else path
    try:
        if place.stat().st_size > LARGEST_MANIFEST_BYTES:
            raise CorruptShardError(f"{place} is larger than 64 MiB, so it is no manifest.")
        content = place.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(
            f"{place} does not exist, so {place.parent} is no prepared folder (or was not "
            "finished); run `yxanul prepare` first."
        ) from error
    except OSError as error:
        refuse_absent_disk(error, place)
        raise CorruptShardError(f"{place} cannot be read: {error.strerror or error}.") from error
    return parse_manifest(content, str(place))


def parse_manifest(content: bytes, where: str) -> Manifest:
    """Return the manifest that `content` is; raise as `load_manifest`, naming `where`."""
    value = parse_json(content, where, way_on=f"{_MOVE_AWAY}, else {PREPARE_AGAIN}")
    if not isinstance(value, dict) or _OWN_KEYS.isdisjoint(value):
        raise CorruptShardError(f"{where} is no manifest that `prepare` wrote: {_MOVE_AWAY}.")
    return _manifest(value, where)


def _manifest(value: dict[str, object], where: str) -> Manifest:
    # The version comes first: another version may well have other keys.
    if value.get("format_version", FORMAT_VERSION) != FORMAT_VERSION:
        found = str(value["format_version"])[:20]
        raise CorruptShardError(
            f"{where} has format_version {found}, this program reads {FORMAT_VERSION}; "
            f"{PREPARE_AGAIN}, or use the program that wrote it."
        )
    fields = Fields(value, where, keys=names(Manifest) | {"sha256"})
    stages, sources = fields.table("stages"), fields.table("sources")
    if not sources:
        raise fields.wrong("sources is empty")
    manifest = fields.record(
        Manifest,
        stages={name: _stage(name, stages[name], where=where) for name in stages},
        sources={name: parse_source(name, sources[name], where=where) for name in sources},
    )
    used = {source.stage for source in manifest.sources.values()}
    for name in sorted(used ^ manifest.stages.keys()):
        place = "sources, but not in stages" if name in used else "stages, but has no source"
        raise fields.wrong(f"the stage {name[:80]!r} is in {place}")
    if fields.sha256("sha256") != seal(value):
        raise CorruptShardError(
            f"{where} is not what was written: its own sha256 differs; {PREPARE_AGAIN}."
        )
    return manifest


def _stage(name: str, value: object, *, where: str) -> StageRecord:
    where = f"{where}: stages.{name[:80]}"
    return Fields(value, where, keys=names(StageRecord)).record(StageRecord)


def parse_source(
    name: str, value: object, *, where: str, way_on: str = PREPARE_AGAIN
) -> SourceRecord:
    """Return one source from its JSON; raise `CorruptShardError` from `where` to `way_on`."""
    where = f"{where}: sources.{name[:80]}"
    fields = Fields(value, where, keys=names(SourceRecord), way_on=way_on)
    # Cards are files of a stage, scores of a domain, and tasks are told on a terminal.
    plain = (name, fields.text("stage"), fields.text("domain"), *fields.texts("decontaminated"))
    for one in plain:
        if not is_plain_name(one):
            raise fields.wrong(f"the name {one[:80]!r} may hold only letters, digits, _ and -")
    if fields.text("kind") not in KINDS:
        raise fields.wrong(f"kind must be one of {', '.join(KINDS)}")
    train, validation = (
        _split(name, split, parent=fields, where=where, way_on=way_on) for split in SPLITS
    )
    dropped = fields.table("dropped_list")
    return fields.record(
        SourceRecord,
        train=train,
        validation=validation,
        dropped_list=_index(dropped, where, path=dropped_path(name), way_on=way_on),
    )


def _split(source: str, split: str, *, parent: Fields, where: str, way_on: str) -> SplitRecord:
    where = f"{where}.{split}"
    fields = Fields(parent.table(split), where, keys=names(SplitRecord), way_on=way_on)
    files = tuple(
        parse_shard(
            item,
            f"{where}.files[{number}]",
            path=shard_path(source, split, number=number),
            way_on=way_on,
        )
        for number, item in enumerate(fields.items("files"))
    )
    if sum(file.tokens for file in files) != fields.count("tokens"):
        raise fields.wrong("tokens is not the sum over files")
    signatures = None
    if fields.has("signatures"):
        path = signatures_path(source, split)
        signatures = _index(fields.table("signatures"), where, path=path, way_on=way_on)
    index = fields.table("index")
    return fields.record(
        SplitRecord,
        files=files,
        index=_index(index, where, path=index_path(source, split), way_on=way_on),
        signatures=signatures,
    )


def _index(value: object, where: str, *, path: str, way_on: str) -> IndexFile:
    fields = Fields(value, f"{where}: {path}", keys=names(IndexFile), way_on=way_on)
    return fields.record(IndexFile, path=_expected_path(fields, path))


def parse_shard(value: object, where: str, *, path: str, way_on: str = PREPARE_AGAIN) -> ShardFile:
    """Return one shard from its JSON, which must be at `path`; raise as `parse_source`."""
    fields = Fields(value, where, keys=names(ShardFile), way_on=way_on)
    shard = fields.record(ShardFile, path=_expected_path(fields, path))
    if shard.bytes != TOKEN_BYTES * shard.tokens:
        raise fields.wrong("bytes is not twice tokens")
    return shard


def _expected_path(fields: Fields, path: str) -> str:
    # Only one path is right at each place, so no path can lead out of the folder.
    if fields.text("path") != path:
        raise fields.wrong(f"path must be {path}, not {fields.text('path')[:80]!r}")
    return path
