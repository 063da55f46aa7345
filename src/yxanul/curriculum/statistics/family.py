"""Several guards at once: with many of them, one fails by chance more often than any alone.

Failures of a family are found by Holm's step-down (1979), so that a family of harmless changes
fails with 5 % at most. A family passes when every member does, and that needs no correction: a
model that is bad in one respect passes there with 5 % at most (intersection-union test, Berger
1982).
"""

from collections.abc import Callable, Sequence

ERROR = 0.05
"""Chance that a family of harmless changes has a failure."""


def failing(members: Sequence[Callable[[float], bool]]) -> frozenset[int]:
    """Return the indices of the members that fail as a family, by Holm's step-down.

    A member answers whether it fails at a confidence; one that fails at some confidence fails at
    every lower one. With k members left, those fail whose bound at 1 - 5 % / k is beyond its limit:
    the same ones that the ordered p-values give.
    """
    found: set[int] = set()
    while True:
        left = [index for index in range(len(members)) if index not in found]
        confidence = 1 - ERROR / max(1, len(left))
        more = {index for index in left if members[index](confidence)}
        if not more:
            return frozenset(found)
        found |= more
