"""The one thing that every source hands over: a document.

A document is a text with its provenance. It is not cleaned, tokenised or split here; that is
`prepare`'s work.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """A text, where it comes from, and what it must not be separated from.

    `id` is unique within its source and stable from run to run. `split_key` decides the side of the
    held-out split: documents of one source with the same key go to the same side, so that a
    held-out text is never a variant of a training text. None means that the hash of the text
    itself decides.
    """

    text: str
    source: str
    id: str
    url: str | None = None
    split_key: str | None = None
