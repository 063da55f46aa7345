"""Trials of a gate's checks on documents drawn again, counted, a row of a table for each kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from yxanul.curriculum.checks.check import Check
from yxanul.curriculum.statistics.bootstrap import MDE_FACTOR, Change
from yxanul.curriculum.statistics.intervals import wilson

Generator = np.random.Generator
Pair = tuple[np.ndarray, np.ndarray]
"""Scores before and after, (items,) each."""
Trial = Callable[[Generator], Iterable[Check]]
_SEED = 7
_POWER = 0.95
_MOST = 20_000  # items; what needs more is not to be found
_MOST_DRAWN = 1_000_000  # items of a row in all


@dataclass
class Tally:
    """How many trials ended how."""

    trials: int = 0
    not_passed: int = 0
    again: int = 0
    """Rolled back now, or at a second such warning in a row."""
    rolled_back: int = 0

    def add(self, checks: Iterable[Check]) -> None:
        """Count one trial by its checks."""
        found = list(checks)
        is_lost = any(check.action == "rollback" for check in found)
        self.trials += 1
        self.not_passed += any(check.result != "pass" for check in found)
        self.rolled_back += is_lost
        self.again += is_lost or any(_counts_twice(check) for check in found)

    def __str__(self) -> str:
        shares = (self.not_passed, self.again, self.rolled_back)
        low, high = wilson(self.rolled_back, self.trials)
        columns = "".join(f"{count / self.trials:>10.1%}" for count in shares)
        return f"{columns}  [{low:.1%}, {high:.1%}]{self.trials:>7,}"


@dataclass(frozen=True)
class Table:
    """Runs as many trials a row, and prints what they came to."""

    trials: int

    def head(self) -> None:
        """Print the names of the columns."""
        print(
            f"{'':<64}{'not pass':>10}{'again':>10}{'rollback':>10}  95 %            trials",
            flush=True,
        )

    def row(self, name: str, trial: Trial, *, items: int = 0) -> None:
        """Print a row; its draws are the same in every run. Very many items get fewer trials."""
        generator, tally = np.random.default_rng(_SEED), Tally()
        for _ in range(min(self.trials, _MOST_DRAWN // max(1, items))):
            tally.add(trial(generator))
        print(f"{name:<64}{tally}", flush=True)


def drawn(
    pools: Mapping[str, Pair], sizes: Mapping[str, int], *, generator: Generator
) -> dict[str, Pair]:
    """Draw {name: pair of n items} from every pool."""
    found = {}
    for name, (before, after) in pools.items():
        chosen = generator.integers(len(before), size=sizes[name])
        found[name] = (before[chosen], after[chosen])
    return found


def tossed(
    pools: Mapping[str, Pair], sizes: Mapping[str, int], *, generator: Generator
) -> dict[str, Pair]:
    """Draw as `drawn`, and for each item by a coin which score came first: nothing changed."""
    found = {}
    for name, (before, after) in drawn(pools, sizes, generator=generator).items():
        swap = generator.random(len(before)) < 0.5
        found[name] = (np.where(swap, after, before), np.where(swap, before, after))
    return found


def sizes_that_find(change: Change, *, gap: float, family: int, own: int) -> list[int]:
    """Return a gate's own number of items, and where it is larger the one that finds the change.

    gap: how far the change lies beyond what fails. It is found when the first of a family, whose
    bound lies at 1 - 5 % / family, fails in 95 of 100 trials.
    """
    normal = NormalDist()
    apart = normal.inv_cdf(1 - 0.05 / family) + normal.inv_cdf(_POWER)
    error = change.minimal_detectable / MDE_FACTOR
    if gap <= 0 or math.isinf(error):
        return [own]
    needed = math.ceil(change.documents * (apart * error / gap) ** 2)
    return [own, needed] if own < needed <= _MOST else [own]


def _counts_twice(check: Check) -> bool:
    """Tell whether a second warning of this kind in a row is a failure (yxanul.curriculum.gate)."""
    if check.result != "warn" or check.low is None or check.high is None or check.margin is None:
        return False
    return check.high < check.margin if check.id == "G4" else check.low > check.margin
