"""The files of one side of the split (train or validation) while a source is written.

The one idea: a side can say at any moment how far its files go, and go on from there later.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from yxanul.data.documents import DocumentRecord, IndexWriter
from yxanul.data.manifest import SplitRecord
from yxanul.data.shards import ShardWriter
from yxanul.data.unfinished import SideState


class Side:
    """The shards and the list of documents of one side while they are written."""

    def __init__(
        self,
        folder: Path,
        split: str,
        *,
        shard_tokens: int,
        state: SideState | None,
        stack: ExitStack,
    ) -> None:
        """Begin them, or go on where `state` says; `stack` closes them after an error."""
        begun = state or SideState(0, 0, 0, 0, ())
        full = begun.shards
        shards = ShardWriter(
            folder,
            split,
            shard_tokens=shard_tokens,
            full=full,
            tokens=begun.tokens - sum(shard.tokens for shard in full),
        )
        self._index = stack.enter_context(IndexWriter(folder, split, size=begun.index_bytes))
        self._shards = stack.enter_context(shards)
        self.documents, self.tokens, self.bytes = begun.documents, begun.tokens, begun.bytes

    def append(self, record: DocumentRecord, ids: Sequence[int]) -> None:
        """Write one document and its token ids, which begin with a 50256."""
        self._shards.append(np.array(ids, dtype=np.uint16))
        self._index.append(record)
        self.documents += 1
        self.tokens += record.tokens
        self.bytes += record.bytes

    def sync(self) -> SideState:
        """Put everything on the disk; return how far it goes."""
        index_bytes, shards = self._index.sync(), self._shards.sync()
        return SideState(self.documents, self.tokens, self.bytes, index_bytes, shards)

    def finish(self) -> SplitRecord:
        """Give the files their final names; return their record."""
        files = self._shards.finish()
        return SplitRecord(self.tokens, self.documents, self.bytes, files, self._index.finish())
