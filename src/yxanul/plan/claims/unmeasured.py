"""Promises that no arithmetic can judge: speed of kernels, learning, benchmark scores.

Each carries what the field has measured, so that a reader knows what to expect until a run of this
project says more.
"""

from __future__ import annotations

from yxanul.plan.claims.claim import Claim
from yxanul.plan.expected import EXPECTATIONS, Expectation

_RUN = "must be measured on a trained model"
_LAB = "is a question for an experiment at equal compute"
_Promise = tuple[str, "float | None", str, str]
"""Claim, promised, unit, why."""


def unmeasured_claims() -> tuple[Claim, ...]:
    """Return the promises that are left to measurements, each with the reason."""
    promises = (*_OF_KERNELS, *map(_of_scores, EXPECTATIONS), *_OF_LEARNING)
    return tuple(
        Claim(claim, promised, unit, computed=None, holds=None, why=why)
        for claim, promised, unit, why in promises
    )


def _of_scores(one: Expectation) -> _Promise:
    """Say what others reached: until a run of this project says more, that is what is known."""
    why = one.why
    if one.public:
        why = (
            f"{_RUN}; {one.verdict} by what others reached: {one.anchors}; realistic: "
            f"{one.realistic} (estimate)"
        )
    return one.claim, one.promised, one.unit, why


_OF_KERNELS: tuple[_Promise, ...] = (
    (
        "FlashAttention 3: 2.5x faster attention",
        2.5,
        "x",
        "must be measured on the card; its own figure for head_dim 64 has 1.2-1.5x over "
        "FlashAttention 2 on an H100, forward pass; it does not run on an A100",
    ),
    (
        "linear decay to zero: 60 % of compute saved",
        60.0,
        "%",
        "depends on learning; in arXiv 2502.15938 (610M parameters) decay to zero at 80 tokens per "
        "parameter beat decay to a tenth at 200, which is that 60 %; arXiv 2511.18903 finds that "
        "decay undoes the gain of a curriculum",
    ),
    (
        "GEGLU: 15 % better than GELU",
        15.0,
        "%",
        f"{_LAB}; arXiv 2002.05202 has log-perplexity 1.942 against 1.983, 2 % less",
    ),
)

_OF_LEARNING: tuple[_Promise, ...] = (
    ("4B curated tokens match 12B random ones", 3.0, "x", _LAB),
    (
        "28 layers are better than 12 of equal size",
        None,
        "",
        f"{_LAB}; public findings disagree (arXiv 2402.14905 for, arXiv 2310.19956 against)",
    ),
    (
        "stages in order beat a random shuffle",
        None,
        "",
        f"{_LAB}; public findings disagree (arXiv 2506.11300 for, arXiv 2511.18903 against)",
    ),
)
