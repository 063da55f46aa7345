"""Best-fit decreasing: pieces of many lengths into as few bins of one size as is easy.

The longest piece first, each into the fullest bin that still takes it (Johnson 1974, doi
10.1016/S0022-0000(74)80026-7; for documents of a language model: arXiv 2404.10830). The one idea:
pieces of one length are alike, and so are bins with the same room, so they are placed by groups:
the time depends on how many different lengths there are, hardly on how many pieces.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_INT64 = npt.NDArray[np.int64]


def best_fit(lengths: _INT64, capacity: int) -> tuple[_INT64, int]:
    """Return (bin of each piece, number of bins); lengths (pieces,) are 1 to `capacity`.

    Of equal pieces the earlier is placed first; of bins with the same room the newest is taken.
    """
    order = np.argsort(-lengths, kind="stable")
    values, firsts = np.unique(-lengths[order], return_index=True)
    ends = np.append(firsts, len(lengths))[1:]
    placed = np.empty(len(lengths), dtype=np.int64)
    bins = _Bins(capacity)
    for value, first, end in zip(values.tolist(), firsts.tolist(), ends.tolist(), strict=True):
        placed[order[first:end]] = bins.place(-value, end - first)
    return placed, bins.count


class _Bins:
    """Bins by the room that is left in them, and which rooms there are as bits of one number."""

    def __init__(self, capacity: int) -> None:
        self.count = 0
        self._capacity = capacity
        self._with_room: dict[int, list[int]] = {}
        self._rooms = 0

    def place(self, length: int, pieces: int) -> _INT64:
        """Return the bins of so many pieces of one length, (pieces,), in their order."""
        parts: list[_INT64] = []
        while pieces:
            room = self._smallest_room(length)
            # A bin that has taken one piece of this length is the fullest for the next as well.
            each = room // length
            chosen = self._take(room, -(-pieces // each))
            full = min(len(chosen), pieces // each)
            parts.append(np.repeat(chosen[:full], each))
            self._give_back(room - each * length, chosen[:full])
            pieces -= full * each
            if full < len(chosen):
                parts.append(np.repeat(chosen[full:], pieces))
                self._give_back(room - pieces * length, chosen[full:])
                pieces = 0
        return np.concatenate(parts).astype(np.int64)

    def _smallest_room(self, length: int) -> int:
        """Return the room of the fullest bin that takes so much; a new one's if there is none."""
        bits = self._rooms >> length
        return length + (bits & -bits).bit_length() - 1 if bits else self._capacity

    def _take(self, room: int, most: int) -> list[int]:
        """Return bins with this room, at most so many; as many new ones if it is a new one's."""
        if room == self._capacity:
            self.count += most
            return list(range(self.count - most, self.count))
        bins = self._with_room[room]
        taken = bins[-most:]
        del bins[-most:]
        if not bins:
            self._rooms ^= 1 << room
        return taken

    def _give_back(self, room: int, bins: list[int]) -> None:
        if room and bins:
            self._with_room.setdefault(room, []).extend(bins)
            self._rooms |= 1 << room
