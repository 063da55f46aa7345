"""Token ids on disk: written once in shards, read back as one long stream.

The one idea: a split is a single array of uint16 that happens to be cut into files, so that
position N means the same whatever the cut. Writing streams and hashes as it goes; reading maps the
files read-only. What the tokens mean is not known here.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from yxanul.data.files import TEMPORARY, close_unfinished, regular_file, reopen
from yxanul.data.prepared.manifest import TOKEN_BYTES, Manifest, ShardFile, shard_path
from yxanul.data.strict import PREPARE_AGAIN
from yxanul.data.tokenizer import VOCAB_SIZE
from yxanul.errors import CorruptShardError
from yxanul.runfolder.durable import publish, refuse_absent_disk, writing

SHARD_TOKENS = 50_000_000
Tokens = npt.NDArray[np.uint16]


class ShardWriter:
    """Writes `folder/<split>-00000.bin` and so on, each of at most `shard_tokens` tokens.

    A file has a temporary name until it is full and synced. Use it in a `with` block, which closes
    a half-written file after an error; `finish` must be called for the last shard to exist. With
    `full` shards and `tokens` in the next, as `sync` returned them, it writes on from there.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        *,
        shard_tokens: int = SHARD_TOKENS,
        full: Sequence[ShardFile] = (),
        tokens: int = 0,
    ) -> None:
        self._folder = folder
        self._split = split
        self._shard_tokens = shard_tokens
        self._files = list(full)
        self._handle: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._tokens = tokens
        if tokens:
            final = folder.parent / self._path()
            self._handle, self._digest = reopen(final, TOKEN_BYTES * tokens)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._handle is not None:
            close_unfinished(self._handle, error)

    def append(self, tokens: Tokens) -> None:
        """Add token ids to the stream, any number; raise `DiskError`."""
        while len(tokens):
            part = tokens[: self._shard_tokens - self._tokens]
            content = part.astype("<u2").tobytes()
            with writing(self._folder):
                self._opened().write(content)
            self._digest.update(content)
            self._tokens += len(part)
            tokens = tokens[len(part) :]
            if self._tokens == self._shard_tokens:
                self._close_shard()

    def sync(self) -> tuple[ShardFile, ...]:
        """Put all that was appended on the disk; return the records of the full shards."""
        if self._handle is not None:
            with writing(self._folder):
                self._handle.flush()
                os.fsync(self._handle.fileno())
        return tuple(self._files)

    def finish(self) -> tuple[ShardFile, ...]:
        """Close the last shard and return the records of all."""
        if self._tokens:
            self._close_shard()
        return tuple(self._files)

    def _opened(self) -> BinaryIO:
        if self._handle is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder.parent / self._path()
            self._handle = path.with_name(path.name + TEMPORARY).open("wb", buffering=1 << 20)
        return self._handle

    def _path(self) -> str:
        return shard_path(self._folder.name, self._split, number=len(self._files))

    def _close_shard(self) -> None:
        handle = self._opened()
        final = self._folder.parent / self._path()
        with writing(final):
            handle.flush()
            os.fsync(handle.fileno())
            handle.close()
            publish(final.with_name(final.name + TEMPORARY), final)
        size = TOKEN_BYTES * self._tokens
        self._files.append(ShardFile(self._path(), self._digest.hexdigest(), size, self._tokens))
        self._handle, self._digest, self._tokens = None, hashlib.sha256(), 0


class TokenStream:
    """The tokens of several shard files in a row; files are mapped when first read."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Take the files in stream order; raise `CorruptShardError` for a file of odd size."""
        self._files = tuple(files)
        self._maps: list[Tokens | None] = [None] * len(self._files)
        self._ends = list(accumulate(_tokens_in(file) for file in self._files))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def read(self, start: int, count: int) -> Tokens:
        """Return a copy of tokens start .. start + count - 1, shape (count,), uint16.

        Raises `IndexError` outside the stream, and `CorruptShardError` for an id outside the
        vocabulary: on a GPU it would end in an unreadable device error.
        """
        if start < 0 or count < 0 or start + count > len(self):
            raise IndexError(
                f"tokens {start}..{start + count} are outside the stream of {len(self)}"
            )
        result = np.empty(count, dtype=np.uint16)
        done = 0
        shard = bisect_right(self._ends, start)
        while done < count:
            begin = self._ends[shard - 1] if shard else 0
            part = self._mapped(shard)[start + done - begin : start + count - begin]
            if part.size and int(part.max()) >= VOCAB_SIZE:
                raise CorruptShardError(
                    f"{self._files[shard]} holds the token id {int(part.max())}, outside the "
                    f"vocabulary of {VOCAB_SIZE:,}; run `yxanul inspect --verify` on its folder."
                )
            result[done : done + len(part)] = part
            done += len(part)
            shard += 1
        return result

    def _mapped(self, shard: int) -> Tokens:
        mapped = self._maps[shard]
        if mapped is None:
            begin = self._ends[shard - 1] if shard else 0
            if self._ends[shard] == begin:  # an empty file cannot be mapped
                mapped = np.empty(0, dtype=np.uint16)
            else:
                # As a plain array: slices of a memmap cost ten times as much.
                mapped = np.memmap(self._files[shard], dtype="<u2", mode="r").view(np.ndarray)
            self._maps[shard] = mapped
        return mapped


def open_stream(manifest: Manifest, root: Path, *, source: str, split: str) -> TokenStream:
    """Open one side of a source; `split` is `train` or `validation`.

    Raises `CorruptShardError` if a file is missing, a link or of another size than recorded,
    `BrokenDiskError` if its disk is away. Contents are checked by
    `yxanul.data.prepared.verify.verify`.
    """
    files = manifest.source(source).split(split).files
    places = [regular_file(root, file.path) for file in files]
    for file, place in zip(files, places, strict=True):
        if _tokens_in(place) != file.tokens:
            raise CorruptShardError(
                f"{place} holds {_tokens_in(place):,} tokens, the manifest says "
                f"{file.tokens:,}; put the right file back, or {PREPARE_AGAIN}."
            )
    return TokenStream(places)


def _tokens_in(file: Path) -> int:
    try:
        size = file.stat().st_size
    except OSError as error:
        refuse_absent_disk(error, file)
        raise CorruptShardError(
            f"{file} cannot be read: {error.strerror or error}; {PREPARE_AGAIN}."
        ) from error
    if size % TOKEN_BYTES:
        raise CorruptShardError(
            f"{file} has {size:,} bytes, which is no whole number of tokens; put the right file "
            f"back, or {PREPARE_AGAIN}."
        )
    return size // TOKEN_BYTES
