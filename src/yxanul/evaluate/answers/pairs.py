"""Contexts and continuations as ids, split and cut off as lm-evaluation-harness 0.4.13 does it.

Context and continuation are encoded together, and the context's trailing spaces belong to the
continuation; a text without a context follows the model's prefix token; what exceeds the window is
cut off on the left. A continuation longer than the window, which lm-evaluation-harness refuses, is
scored in windows with the previous half as context, every token once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from yxanul.errors import UsageError
from yxanul.evaluate.answers.requests import Continuations
from yxanul.evaluate.models.language_model import LanguageModel, with_opening

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Pair:
    """A context of at least one token, and what is scored after it."""

    owner: int
    """Number of what the score belongs to; windows of one continuation share it."""
    context: Ids
    targets: Ids


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
                "a continuation is empty or part of its context's last token, so it has no token "
                f"of its own to score: {rest!r} after {context[-40:]!r}"
            )
        pairs.append(Pair(owner, begin, targets))
    return pairs


def rolling_pairs(model: LanguageModel, texts: Sequence[str]) -> list[Pair]:
    """Return the windows in which lm-evaluation-harness scores whole texts, in order of the texts.

    They do not overlap, and each but the last goes on from one token only. A text without a token
    has none. The harness scores what a tokenizer adds before a text (`<s>` after the prefix token,
    which is `<s>`) as well; here a text costs its own tokens, as an export of ours does there.
    """
    length = model.max_length
    pairs = []
    for owner, ids in enumerate(model.encode(texts)):
        if ids:
            pairs.append(Pair(owner, _prefix(model), tuple(ids[:length])))
        for begin in range(length, len(ids), length):
            end = min(begin + length, len(ids))
            context = tuple(ids[end - length - 1 : begin])
            pairs.append(Pair(owner, context, tuple(ids[begin:end])))
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


def share_contexts(pairs: Iterable[Pair]) -> tuple[list[Pair], dict[Ids, list[Pair]]]:
    """Return the pairs whose context is theirs alone, and the others by context."""
    groups: dict[Ids, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.context, []).append(pair)
    alone = [members[0] for members in groups.values() if len(members) == 1]
    return alone, {context: some for context, some in groups.items() if len(some) > 1}


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
