"""How a source that takes long to read is laid down and taken up again.

The one idea: a mark is plain JSON that says how far a reading came, and is understood only by the
source that made it. Keeping marks on the disk is the business of `yxanul.data.prepared.unfinished`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from yxanul.data.document import Document

Mark = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bookmark:
    """What a source offers that can be read on from the middle.

    `mark()` says where the latest reading stands, after the document that it gave last;
    `resume(mark)` starts a new reading there. `reader` names what marks depend on besides the
    source's version: another reader starts anew.
    """

    reader: str
    mark: Callable[[], Mark]
    resume: Callable[[Mark], Iterator[Document]]
