"""Decide by hash which documents are held out for validation.

The one idea: the side is a function of the document alone, so it stays when the set grows, when
the order changes and when other sources join. The key is the sha256 of the cleaned text, or the
document's `split_key` where whole families belong together (a template, an article). Keys are not
tied to a source: two sources that share a family put it on the same side.

Sources with keys may hold few of them (gsm_symbolic has 100 templates): with 1 % held out, one
such source in three would have no validation side at all. Taking the keys of the lowest hashes
instead would always fill it, but a new key could then push an old one from validation into
training. So keyed documents are held out at no less than 5 %: with 100 keys the validation side
is empty in 0.6 % of cases, and then `prepare` says so instead of guessing.
"""

from __future__ import annotations

import hashlib

KEYED_FRACTION = 0.05


def is_validation(text_sha256: str, *, split_key: str | None, fraction: float) -> bool:
    """Return whether a document is held out.

    `text_sha256` is the hexadecimal sha256 of the cleaned text, `fraction` (0 to 1) the share of
    documents to hold out; with a `split_key` the larger of `fraction` and 5 % of the keys.
    """
    if split_key is None:
        return unit_interval(f"text/{text_sha256}") < fraction
    return unit_interval(f"key/{split_key}") < max(fraction, KEYED_FRACTION)


def unit_interval(key: str) -> float:
    """Return a number in [0, 1) that depends on `key` only, from the top 53 bits of its sha256."""
    digest = hashlib.sha256(f"yxanul split/{key}".encode("utf-8", "backslashreplace")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
