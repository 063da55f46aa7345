"""Where a text ends that is written token by token: before the first of its stop texts.

A stop text may begin in one token and end in another. The stop texts are looked for one after
another, each in what the one before has left, as lm-evaluation-harness does when a text is done;
where two of them overlap, writing goes on until what is left can no longer change.
"""

from collections.abc import Sequence

from yxanul.errors import UsageError

_HALF_CHARACTER = "\ufffd"


def refuse_empty_stops(stop_texts: Sequence[str]) -> None:
    """Raise `UsageError` for a stop text that would end every text."""
    if "" in stop_texts:
        raise UsageError("a stop text is empty; give it a character, or leave it out")


class Stops:
    """The stop texts of one request; an empty one is a `UsageError`."""

    def __init__(self, texts: Sequence[str]) -> None:
        refuse_empty_stops(texts)
        self._texts = tuple(texts)
        self._lasts = frozenset(text[-1] for text in texts)

    def cut(self, text: str) -> str:
        """Return what the stop texts leave of a text."""
        for stop in self._texts:
            text = text.split(stop, 1)[0]
        return text

    def may_end_in(self, piece: str) -> bool:
        """Return whether a stop text can end in a token that says `piece` when it stands alone."""
        # Tokenizers may drop the white space around a token that stands alone.
        is_plain = piece.strip() == piece != "" and _HALF_CHARACTER not in piece
        return not is_plain or not self._lasts.isdisjoint(piece)

    def are_final(self, text: str) -> bool:
        """Return whether a stop text is in the text and nothing that follows can change the cut."""
        cut = self.cut(text)
        if len(cut) == len(text):
            return False
        return len(text) - longest_beginning(text, self._texts) >= len(cut)


def longest_beginning(text: str, stop_texts: Sequence[str]) -> int:
    """Return the length of the longest ending of a text that may begin one of the stop texts."""
    lengths = (
        length
        for stop in stop_texts
        for length in range(1, len(stop))
        if text.endswith(stop[:length])
    )
    return max(lengths, default=0)
