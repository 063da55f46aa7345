"""Why a document is left out: the rule, and how far the document is from passing it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Drop:
    """`value` broke the rule, whose threshold is `limit`; None where there is no such number.

    `detail` says more in words: the item that was found, the document that is nearly equal.
    """

    rule: str
    value: float | None = None
    limit: float | None = None
    detail: str | None = None
