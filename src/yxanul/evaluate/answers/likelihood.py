"""What continuations cost after their contexts: the numbers of lm-evaluation-harness, in less time.

A context is read once, however many continuations it has; the head is applied where something is
scored and nowhere else; batches hold rows of like length.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from yxanul.errors import NumericsError
from yxanul.evaluate.answers.pairs import Ids, Pair, encode_pairs, in_windows, share_contexts
from yxanul.evaluate.answers.requests import Continuations, Likelihood
from yxanul.evaluate.models.language_model import LanguageModel, in_parts, most_scored
from yxanul.model.cache import KeyValueCache

# A row this much shorter than its batch's longest opens a batch of its own, once the batch has some
# tokens: HellaSwag's endings are then padded by 8 to 20 %, else by 23 to 80 %.
_ALIKE = 0.85
_ENOUGH_TOKENS = 256


@dataclass(frozen=True)
class _Row:
    """What the model reads in one row, and what is scored there."""

    inputs: Ids
    first: int
    """Column of `inputs` whose logits score the first of each of the targets."""
    scored: tuple[tuple[int, Ids], ...]
    """Pairs of a continuation's number and targets of it."""
    context: int = 0
    """Of a row that goes on from a cached context: the context's row in its batch."""
    cached: int = 0
    """And its tokens."""

    @property
    def picks(self) -> int:
        """Columns whose logits are needed."""
        return max(len(targets) for _, targets in self.scored)


def likelihoods(
    model: LanguageModel, requests: Sequence[Continuations], *, batch_tokens: int = 4096
) -> list[tuple[Likelihood, ...]]:
    """Return for each request a likelihood per text, in its order.

    A forward pass takes at most `batch_tokens` tokens, padding counted, but always one row. A text
    without a token is a `UsageError`, a score that is not finite a `NumericsError`.
    """
    pairs = encode_pairs(model, requests)
    found = iter(score_pairs(model, pairs, owners=len(pairs), batch_tokens=batch_tokens))
    return [tuple(next(found) for _ in request.texts) for request in requests]


def score_pairs(
    model: LanguageModel, pairs: Sequence[Pair], *, owners: int, batch_tokens: int = 4096
) -> list[Likelihood]:
    """Return a likelihood for each of so many owners of pairs; errors as in `likelihoods`."""
    scorer = _Scorer(model, owners, batch_tokens=batch_tokens)
    alone, shared = share_contexts(in_windows(pairs, max_length=model.max_length))
    scorer.score_alone(alone)
    scorer.score_shared(shared)
    if not np.isfinite(scorer.nats).all():
        raise NumericsError(f"{model.name} gives a probability that is not a number")
    found = (scorer.nats.tolist(), scorer.tokens.tolist(), scorer.is_greedy.tolist())
    return [Likelihood(*one) for one in zip(*found, strict=True)]


class _Scorer:
    """Adds up what the tokens of each continuation cost, batch by batch."""

    def __init__(self, model: LanguageModel, owners: int, *, batch_tokens: int) -> None:
        self.nats = np.zeros(owners, dtype=np.float64)
        self.tokens = np.zeros(owners, dtype=np.int64)
        self.is_greedy = np.ones(owners, dtype=np.bool_)
        self._model = model
        self._batch_tokens = batch_tokens

    def score_alone(self, pairs: Sequence[Pair]) -> None:
        """Score pairs whose context nobody shares: context and targets in one pass."""
        rows = [
            _Row(p.context + p.targets[:-1], len(p.context) - 1, ((p.owner, p.targets),))
            for p in pairs
        ]
        for batch in self._batches(rows):
            self._score(batch, None)

    def score_shared(self, groups: Mapping[Ids, Sequence[Pair]]) -> None:
        """Read each context once, which scores all first targets; then the rest of each pair."""
        contexts = [
            _Row(context, len(context) - 1, tuple((p.owner, p.targets[:1]) for p in pairs))
            for context, pairs in groups.items()
        ]
        for batch in self._batches(contexts):
            cache = self._model.new_cache(len(batch), max(len(row.inputs) for row in batch))
            self._score(batch, cache)
            rests = [
                _Row(p.targets[:-1], 0, ((p.owner, p.targets[1:]),), number, len(row.inputs))
                for number, row in enumerate(batch)
                for p in groups[row.inputs]
                if len(p.targets) > 1
            ]
            for rows in self._batches(rests):
                self._score(rows, self._continued(cache, rows))

    def _continued(self, contexts: KeyValueCache, rows: list[_Row]) -> KeyValueCache:
        """Return a cache in which each row has read its context."""
        longest = max(row.cached for row in rows)
        columns = longest + max(len(row.inputs) for row in rows)
        cache = self._model.new_cache(len(rows), columns)
        cache.adopt(contexts, [(row.context, row.cached) for row in rows], first=0)
        return cache

    def _score(self, rows: list[_Row], cache: KeyValueCache | None) -> None:
        """Read rows, and add what their targets cost to the sums of their continuations."""
        width = max(len(row.inputs) for row in rows)
        tokens = torch.tensor([row.inputs + (0,) * (width - len(row.inputs)) for row in rows])
        places: list[int] = []
        ids: list[int] = []
        owners: list[int] = []
        for number, row in enumerate(rows):
            for owner, targets in row.scored:
                begin = number * width + row.first
                places += range(begin, begin + len(targets))
                ids += targets
                owners += [owner] * len(targets)
        picks, at = torch.unique(torch.tensor(places), return_inverse=True)
        nats, is_greedy = _token_costs(
            self._model.logits(tokens, picks, cache=cache), at, ids=torch.tensor(ids)
        )
        np.add.at(self.nats, owners, nats.double().numpy())
        np.add.at(self.tokens, owners, 1)
        np.logical_and.at(self.is_greedy, owners, is_greedy.numpy())

    def _batches(self, rows: Sequence[_Row]) -> Iterator[list[_Row]]:
        """Group rows of like length, the longest first, in an order fixed by the rows.

        A batch keeps within its tokens, twice as many columns of cache, the model's positions, and
        the logits that the memory is to hold.
        """
        limit, positions = self._batch_tokens, self._model.max_length
        most_picks = most_scored(self._model)
        batch: list[_Row] = []
        width = cached = picks = 0
        for row in sorted(rows, key=lambda row: (-len(row.inputs), -row.cached)):
            longest, count = max(cached, row.cached), len(batch) + 1
            is_full = (
                count * width > limit
                or count * (longest + width) > 2 * limit
                or longest + width > positions
                or picks + row.picks > most_picks
                or (len(row.inputs) < _ALIKE * width and len(batch) * width >= _ENOUGH_TOKENS)
            )
            if batch and is_full:
                yield batch
                batch = []
            if not batch:
                width, longest, picks = len(row.inputs), row.cached, 0
            cached, picks = longest, picks + row.picks
            batch.append(row)
        if batch:
            yield batch


def _token_costs(blocks: Iterator[Tensor], at: Tensor, *, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nats, fp32, of each id at its row of the logits, and whether it is the likeliest.

    Blocks of (rows, vocab) logits come one after another; `at` and `ids` are (n,).
    """
    nats = torch.zeros(len(ids))
    is_greedy = torch.zeros(len(ids), dtype=torch.bool)
    begin = 0
    for part in in_parts(blocks):
        inside = ((at >= begin) & (at < begin + len(part))).nonzero().squeeze(1)
        rows, wanted = (at[inside] - begin).to(part.device), ids[inside].to(part.device)
        is_greedy[inside] = _are_likeliest(part, rows, wanted=wanted).cpu()
        # Normalised in place where the logits are fp32: nobody reads them again.
        wide = part.float()
        torch.log_softmax(wide, dim=1, out=wide)
        nats[inside] = -wide[rows, wanted].cpu()
        begin += len(part)
    return nats, is_greedy


def _are_likeliest(logits: Tensor, rows: Tensor, *, wanted: Tensor) -> Tensor:
    """Return for each of `rows` whether `wanted` is the likeliest id; of equal ones, the first."""
    found = logits[rows, wanted] == logits.amax(dim=1)[rows]
    # Which id is the likeliest takes six times as long as how likely it is.
    found[found.clone()] = logits[rows[found]].max(dim=1).indices == wanted[found]
    return found
