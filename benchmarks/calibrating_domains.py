"""Rows of G3: a family of older domains, judged by the margins of two configurations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from benchmarks.planting import HeldOutText, trained_on, with_weight_noise
from benchmarks.trials import Generator, Pair, Table, Trial, drawn, sizes_that_find, tossed
from yxanul.config.schema import GateConfig
from yxanul.curriculum.checks.check import Check
from yxanul.curriculum.checks.retention import retention_checks
from yxanul.curriculum.statistics.bootstrap import relative_change
from yxanul.model.transformer import Transformer

PLANTED, WRONG = "wikipedia", "code"


def calibrate_retention(
    table: Table, text: HeldOutText, *, models: Sequence[Transformer], gates: Sequence[GateConfig]
) -> None:
    """Print the rows; the planted domain is one of the older ones, the hardest to find."""
    sizes = text.judged
    pools = {d: (text.nats(models[0], d), text.nats(models[1], d)) for d in sizes}
    before = pools[PLANTED][0]
    for gate in gates:
        margin, limit = gate.retention_margin, gate.retention_limit
        label = f"G3 {margin:.0%}, {limit:.0%}: "
        for how, factor in (
            ("identical", 1.0),
            ("all at the margin", 1 + margin),
            ("all at the limit", 1 + limit),
        ):
            table.row(f"{label}{how}", _unchanged(pools, sizes, gate=gate, factor=factor))
        # Twice the margin is no more than the limit of the default gate: twice that as well.
        for rise in (2 * margin, 2 * limit) if 2 * margin <= limit else (2 * margin,):
            for how, after in _worse(text, models[0], before=before, rise=rise):
                change = relative_change(before.tolist(), after.tolist())
                gap = change.value - limit
                family, own = len(sizes), sizes[PLANTED]
                for n in sizes_that_find(change, gap=gap, family=family, own=own):
                    told = f"{label}{PLANTED} {change.value:+.2%} by {how}, {n:,} documents"
                    pair = (before, after)
                    trial = _planted(pools, sizes, gate=gate, planted=pair, documents=n)
                    table.row(told, trial, items=n)


def _worse(
    text: HeldOutText, model: Transformer, *, before: np.ndarray, rise: float
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (how, nats per document) of models whose bits per byte rose by `rise`."""

    def risen(worse: Transformer) -> float:
        return float(text.nats(worse, PLANTED).sum() / before.sum() - 1)

    yield "noise", text.nats(with_weight_noise(model, risen, target=rise), PLANTED)
    rows = text.training_rows(WRONG)
    pupil = trained_on(model, risen, target=rise, rows=rows)
    if pupil is not None:
        yield WRONG, text.nats(pupil, PLANTED)


def _unchanged(
    pools: Mapping[str, Pair], sizes: Mapping[str, int], *, gate: GateConfig, factor: float
) -> Trial:
    def trial(generator: Generator) -> list[Check]:
        pairs = tossed(pools, sizes, generator=generator)
        return _judged({d: (old, new * factor) for d, (old, new) in pairs.items()}, gate=gate)

    return trial


def _planted(
    pools: Mapping[str, Pair],
    sizes: Mapping[str, int],
    *,
    gate: GateConfig,
    planted: Pair,
    documents: int,
) -> Trial:
    others = {domain: pool for domain, pool in pools.items() if domain != PLANTED}

    def trial(generator: Generator) -> list[Check]:
        pairs = tossed(others, sizes, generator=generator)
        pairs |= drawn({PLANTED: planted}, {PLANTED: documents}, generator=generator)
        return _judged(pairs, gate=gate)

    return trial


def _judged(pairs: Mapping[str, Pair], *, gate: GateConfig) -> list[Check]:
    changes = {d: relative_change(old.tolist(), new.tolist()) for d, (old, new) in pairs.items()}
    return retention_checks(changes, gate=gate, noise={})
