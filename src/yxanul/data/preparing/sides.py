"""The files of one side of the split (train or validation) while a source is written.

The one idea: a side can say at any moment how far its files go, and go on from there later.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np

from yxanul.data.duplicates.minhash import Signature
from yxanul.data.duplicates.signatures import signature_row
from yxanul.data.prepared.appended import AppendedFile
from yxanul.data.prepared.documents import DocumentRecord, document_line
from yxanul.data.prepared.manifest import SplitRecord, index_path, signatures_path
from yxanul.data.prepared.shards import ShardWriter
from yxanul.data.prepared.unfinished import SideState
from yxanul.data.tokenizer import EOT
from yxanul.data.treating.encoders import Ids

_BEGIN = np.array([EOT], dtype=np.uint16)
_MOST_WAITING = 1 << 18


class Side:
    """The shards, the list of documents and perhaps their signatures of one side."""

    def __init__(
        self,
        folder: Path,
        split: str,
        *,
        shard_tokens: int,
        state: SideState | None,
        has_signatures: bool,
        stack: ExitStack,
    ) -> None:
        """Begin them, or go on where `state` says; `stack` closes them after an error."""
        begun = state or SideState(0, 0, 0, 0, 0, ())
        full = begun.shards
        root, source = folder.parent, folder.name
        shards = ShardWriter(
            folder,
            split,
            shard_tokens=shard_tokens,
            full=full,
            tokens=begun.tokens - sum(shard.tokens for shard in full),
        )
        index = AppendedFile(root, index_path(source, split), size=begun.index_bytes)
        self._index = stack.enter_context(index)
        self._signatures: AppendedFile | None = None
        if has_signatures:
            path = signatures_path(source, split)
            signatures = AppendedFile(root, path, size=begun.signature_bytes)
            self._signatures = stack.enter_context(signatures)
        self._shards = stack.enter_context(shards)
        self.documents, self.tokens, self.bytes = begun.documents, begun.tokens, begun.bytes
        self._waiting: list[Ids] = []
        self._waiting_tokens = 0

    def append(self, record: DocumentRecord, ids: Ids) -> None:
        """Write one document and its token ids; a 50256 is put before them."""
        self._waiting += (_BEGIN, ids)
        self._waiting_tokens += record.tokens
        if self._waiting_tokens >= _MOST_WAITING:
            self._write()
        self._index.append(document_line(record))
        self.documents += 1
        self.tokens += record.tokens
        self.bytes += record.bytes

    def sign(self, signature: Signature, *, number: int) -> None:
        """Write the signature of the document that was just written, the source's `number`-th."""
        assert self._signatures is not None  # whoever has a signature opened a file for it
        self._signatures.append(signature_row(signature, number))

    def _write(self) -> None:
        if self._waiting:
            self._shards.append(np.concatenate(self._waiting))
        self._waiting, self._waiting_tokens = [], 0

    def sync(self) -> SideState:
        """Put everything on the disk; return how far it goes."""
        self._write()
        return SideState(
            documents=self.documents,
            tokens=self.tokens,
            bytes=self.bytes,
            index_bytes=self._index.sync(),
            signature_bytes=self._signatures.sync() if self._signatures else 0,
            shards=self._shards.sync(),
        )

    def finish(self) -> SplitRecord:
        """Give the files their final names; return their record."""
        self._write()
        return SplitRecord(
            tokens=self.tokens,
            documents=self.documents,
            bytes=self.bytes,
            files=self._shards.finish(),
            index=self._index.finish(),
            signatures=self._signatures.finish() if self._signatures else None,
        )
