"""Do all ranks train the same run, with the same weights?

The one idea: what must be equal everywhere is told to every rank, and compared by every rank, so
that all of them leave with the same words. A gradient exchange between ranks that differ raises
nothing: it trains a model that nobody asked for.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import yxanul
from yxanul.config.load import flat_config
from yxanul.config.schema import OptimizationConfig, RunConfig
from yxanul.errors import CorruptDataError, UsageError, YxanulError
from yxanul.hardware.device import DeviceKind, device_kind
from yxanul.parallel.processes import Processes

_NAMED, _SHOWN = 3, 40
"""Keys that differ are named up to so many, each with so many characters of its values."""
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def refuse_disagreement(mine: Mapping[str, Mapping[str, Any]], processes: Processes) -> None:
    """Raise a `UsageError` on every rank where `mine`, {what: {key: value}}, differs in anything.

    The keys that differ are named, with their values.
    """
    own = {what: {k: str(v) for k, v in values.items()} for what, values in mine.items()}
    everywhere = processes.told_by_all(own)
    for what in mine:
        main, *_ = found = [told[what] for told in everywhere]
        other = [rank for rank, values in enumerate(found) if values != main]
        if other:
            keys = _differences(main, found[other[0]], rank=other[0])
            raise UsageError(
                f"the processes of this run do not agree on {what}: {_ranks(other)} from rank 0 "
                f"({keys}); start all of them with the same command, configuration, data and "
                "program"
            )


def common_program() -> dict[str, Any]:
    """Return {key: value} of the program that all ranks must be, edited files of a checkout too."""
    source = source_sha256(Path(yxanul.__file__).parent)
    return {"yxanul": yxanul.__version__, "source": source[:12], "torch": torch.__version__}


def source_sha256(package: Path) -> str:
    """Return a hash of the names and contents of a package's modules.

    What editors and systems leave beside them, under hidden names, is none.
    """
    digest = hashlib.sha256()
    found = ((path.relative_to(package), path) for path in package.rglob("*.py"))
    for name, path in sorted(found):
        if not any(part.startswith(".") for part in name.parts):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{name.as_posix()}\0{content}\0".encode())
    return digest.hexdigest()


def common_settings(config: RunConfig) -> dict[str, Any]:
    """Return {key: value} of the settings that all ranks must have."""
    settings = flat_config(config)
    del settings["compute.threads"]  # machines may have different numbers of cores
    return settings


def device_kinds(processes: Processes, *, device: torch.device) -> list[DeviceKind]:
    """Return the kind of every rank's device, by rank; all ranks call it."""
    return processes.told_by_all(device_kind(device))


def refuse_unlike_devices(optimization: OptimizationConfig, kinds: Sequence[DeviceKind]) -> None:
    """Raise a `UsageError` where the ranks, whose weights must be the same, would drift apart.

    Each rank clips and moves all weights for itself unless the optimizer is shared. Another kind of
    card or CPU adds Muon's products in another order, and another CPU the gradients' norm.
    """
    if optimization.compute.zero1 or optimization.compute.engine == "deepspeed":
        return  # each weight is moved by one rank for all, which DeepSpeed always does
    other = next((rank for rank, kind in enumerate(kinds) if kind.order != kinds[0].order), None)
    is_muon = optimization.optimizer.name == "muon"
    if other is None or not (is_muon or any(kind.type == "cpu" for kind in kinds)):
        return
    sums = "Muon's products" if is_muon else "the norm of the gradients"
    raise UsageError(
        f"the processes of this run are on devices of different kinds ({kinds[0]} on rank 0, "
        f"{kinds[other]} on rank {other}), which round {sums} differently; set "
        "compute.zero1=true, by which one process moves each weight for all, or take machines of "
        "one kind"
    )


@contextmanager
def refusing_together(processes: Processes, *, device: torch.device) -> Iterator[None]:
    """Raise on every rank the `YxanulError` that the block raises on any, and name the rank.

    One that left alone would let the others work on, for hours where data is prepared, and what
    ends them then is no reason that a person or a supervisor could read.
    """
    own: YxanulError | None = None
    try:
        yield
    except YxanulError as error:
        if processes.world_size == 1:
            raise
        own = error
    if not processes.anyone(own is not None, device):
        return
    told = processes.told_by_all(None if own is None else (type(own), str(own)))
    rank, (failure, sentence) = next((i, one) for i, one in enumerate(told) if one is not None)
    alike = all(one == told[0] for one in told)
    raise failure(sentence if alike else f"rank {rank}: {sentence}") from own


def _differences(main: dict[str, str], other: dict[str, str], *, rank: int) -> str:
    """Name the first keys that differ, with both values, and how many more there are."""
    keys = [k for k in main | other if main.get(k) != other.get(k)]
    told = [
        f"{k}: {main.get(k, 'nothing')[:_SHOWN]} on rank 0, "
        f"{other.get(k, 'nothing')[:_SHOWN]} on rank {rank}"
        for k in keys[:_NAMED]
    ]
    more = [f"{len(keys) - _NAMED} more"] if len(keys) > _NAMED else []
    return "; ".join([*told, *more])


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
