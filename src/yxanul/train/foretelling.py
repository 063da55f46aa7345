"""What the gates of a run will not be able to tell, said before the first step is paid for."""

from __future__ import annotations

from collections.abc import Iterator

from yxanul.curriculum.bootstrap import FEWEST_DOCUMENTS
from yxanul.train.session import Session


def unprovable(session: Session) -> Iterator[str]:
    """Yield a sentence for every domain of which no gate will be able to judge anything."""
    for domain, documents in session.scorer.documents.items():
        if documents < FEWEST_DOCUMENTS:
            yield (
                f"{domain} has {documents} held-out documents, fewer than {FEWEST_DOCUMENTS}, "
                "which prove nothing: no gate will judge whether it was learned or kept; prepare "
                "more text, or raise data.validation_fraction"
            )
