"""Do all ranks train the same run, with the same weights?

The one idea: what must be equal everywhere is hashed, and the hashes are compared by every rank,
so that all of them leave with the same words. A gradient exchange between ranks that differ raises
nothing: it trains a model that nobody asked for.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping

import torch

from yxanul.errors import CorruptDataError, UsageError
from yxanul.parallel.processes import Processes

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def refuse_disagreement(
    mine: Mapping[str, str], processes: Processes, *, device: torch.device
) -> None:
    """Raise a `UsageError` on every rank where `mine`, {what: a text that says it}, differs."""
    if processes.world_size == 1:
        return
    digests = b"".join(hashlib.sha256(text.encode()).digest() for text in mine.values())
    rows = torch.frombuffer(bytearray(digests), dtype=torch.uint8).view(len(mine), -1)
    everywhere = processes.gathered(rows.to(device))
    for place, what in enumerate(mine):
        other = [
            rank
            for rank, found in enumerate(everywhere)
            if not torch.equal(found[place], everywhere[0][place])
        ]
        if other:
            raise UsageError(
                f"the processes of this run do not agree on {what}: {_ranks(other)} from rank 0; "
                "start all of them with the same command, configuration, data and program"
            )


def refuse_other_weights(
    model: torch.nn.Module, processes: Processes, *, device: torch.device, step: int
) -> None:
    """Raise a `CorruptDataError` on every rank if the weights are not the same bit for bit.

    The ranks that most others differ from are named; of two ranks nobody can tell which is right.
    """
    if processes.world_size == 1:
        return
    parameters = dict(model.named_parameters())
    # The sum of the bits as integers changes with any one of them.
    bits = [p.detach().view(_INTEGERS[p.element_size()]) for p in parameters.values()]
    sums = [integers.sum(dtype=torch.int64) for integers in bits]
    everywhere = processes.gathered(torch.stack(sums).to(device))
    rows = [tuple(found.tolist()) for found in everywhere]
    usual, count = Counter(rows).most_common(1)[0]
    if count == len(rows):
        return
    others = [rank for rank, row in enumerate(rows) if row != usual]
    differs = next(
        name
        for place, name in enumerate(parameters)
        if any(rows[rank][place] != usual[place] for rank in others)
    )
    raise CorruptDataError(
        f"after step {step} the weights are not the same on all processes: {_ranks(others)} from "
        f"{count} of {len(rows)} (first in {differs}). Memory or a link has changed a bit; go on "
        "from the last checkpoint, on another machine"
    )


def _ranks(ranks: list[int]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]} differs"
    return f"ranks {', '.join(map(str, ranks))} differ"
