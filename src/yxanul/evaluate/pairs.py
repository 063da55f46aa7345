"""Contexts and continuations as ids, split and cut off as lm-evaluation-harness 0.4.13 does it.

Context and continuation are encoded together, and the context's trailing spaces belong to the
continuation; a text without a context follows the model's prefix token; what exceeds the window is
cut off on the left. A continuation longer than the window, which lm-evaluation-harness refuses, is
scored in windows with the previous half as context, every token once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from yxanul.errors import UsageError
from yxanul.evaluate.language_model import LanguageModel, with_opening
from yxanul.evaluate.requests import Continuations

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Pair:
    """A context of at least one token, and what is scored after it."""

    owner: int
    """Number of the continuation, counted through all requests; windows of one share it."""
    context: Ids
    targets: Ids


@dataclass(frozen=True)
class Group:
    """Continuations of the same context."""

    context: Ids
    pairs: list[Pair]


def encode_pairs(model: LanguageModel, requests: Sequence[Continuations]) -> list[Pair]:
    """Return a pair for each text of each request; one without a token is a `UsageError`."""
    texts = [_split(r.context, text) for r in requests for text in r.texts]
    both = (text for context, rest in texts for text in (context, context + rest))
    distinct = list(dict.fromkeys(both))
    ids = dict(zip(distinct, model.encode(distinct), strict=True))
    pairs = []
    for owner, (context, rest) in enumerate(texts):
        before, whole = ids[context], ids[context + rest]
        targets = tuple(whole[len(before) :])
        begin = tuple(with_opening(model, before)) if before else _prefix(model)
        if not before and targets[:1] == begin:
            # The text begins with the prefix token itself: it is not doubled.
            targets = targets[1:]
        if not targets:
            raise UsageError(
                f"a continuation has no token of its own to score: {rest!r} after {context[-40:]!r}"
            )
        pairs.append(Pair(owner, begin, targets))
    return pairs


def in_windows(pairs: Iterable[Pair], *, max_length: int) -> Iterator[Pair]:
    """Cut pairs so that the model has a position for every input; every target stays once."""
    for pair in pairs:
        ids, context = pair.context + pair.targets, len(pair.context)
        done = 0
        while done < len(pair.targets):
            step = max(1, max_length // 2) if done else max_length
            end = min(done + step, len(pair.targets))
            kept = ids[max(0, context + end - max_length - 1) : context + end]
            yield Pair(pair.owner, kept[: done - end], pair.targets[done:end])
            done = end


def share_contexts(pairs: Iterable[Pair]) -> tuple[list[Pair], list[Group]]:
    """Return the pairs whose context nobody shares, and the others by context."""
    groups: dict[Ids, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.context, []).append(pair)
    alone = [members[0] for members in groups.values() if len(members) == 1]
    shared = [Group(context, members) for context, members in groups.items() if len(members) > 1]
    return alone, shared


def _split(context: str, text: str) -> tuple[str, str]:
    """Move a context's trailing white space to the continuation."""
    kept = context.rstrip()
    return kept, context[len(kept) :] + text


def _prefix(model: LanguageModel) -> Ids:
    if model.prefix_token is None:
        raise UsageError(
            f"{model.name} has no token for the beginning or the end of a text, so a text without "
            "a context cannot be scored"
        )
    return (model.prefix_token,)
