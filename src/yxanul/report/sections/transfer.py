"""What later stages did to earlier domains, and earlier stages to later ones.

All three are shares of bits per byte. With R[i, j] the bits per byte of domain j after stage i, and
j also its own stage: backward transfer after stage i is the mean over older domains of
1 - R[i, j] / R[j, j], negative when the model forgets; forward transfer is 1 - R[j-1, j] / R[0, j],
positive when what came before helped (Lopez-Paz and Ranzato, arXiv 1706.08840); forgetting is
R[now, j] over the least that it ever was, minus one (Chaudhry et al., arXiv 1801.10112).
"""

from __future__ import annotations

from dataclasses import dataclass

from yxanul.report.reading.closed import ClosedStage, closed_stages
from yxanul.report.reading.gather import Run
from yxanul.report.reading.traced import Traced, change, gain, mean_gain


@dataclass(frozen=True)
class Backward:
    """The mean over all older domains after one stage."""

    stage: Traced
    value: Traced


@dataclass(frozen=True)
class DomainTransfer:
    """One domain: what came before its stage did for it, and what became of it since."""

    domain: Traced
    stage: Traced
    """The last stage that it was an own domain of."""
    forward: Traced | None
    """None for a domain of the first stage, before which nothing was learned, and where other
    documents, or none, were scored at the start."""
    best: Traced
    now: Traced
    forgetting: Traced | None


@dataclass(frozen=True)
class Transfer:
    """Backward transfer stage by stage, and the domains."""

    backward: tuple[Backward, ...]
    domains: tuple[DomainTransfer, ...]


def transfer(run: Run) -> Transfer | None:
    """Return what stages did to one another's domains; None before two stages are done."""
    closed = closed_stages(run)
    if len(closed) < 2:
        return None
    backward = tuple(
        Backward(closed[index].stage, value)
        for index in range(1, len(closed))
        if (value := _backward(closed[: index + 1])) is not None
    )
    rows = [_domain(closed, domain, index=index) for domain, index in _owners(closed).items()]
    return Transfer(backward, tuple(row for row in rows if row is not None))


def _owners(closed: list[ClosedStage]) -> dict[str, int]:
    """Return {domain: index of the last stage that it was an own domain of}."""
    return {domain: index for index, stage in enumerate(closed) for domain in stage.own}


def _backward(closed: list[ClosedStage]) -> Traced | None:
    """Return backward transfer after the last of these stages, over the domains of the others."""
    gains = []
    for domain, index in _owners(closed).items():
        now, then = (stage.after.get(domain) for stage in (closed[-1], closed[index]))
        if index + 1 < len(closed) and now is not None and then is not None:
            gains.append(gain(now, then))
    told = [share for share in gains if share is not None]
    return mean_gain(told) if told else None


def _domain(closed: list[ClosedStage], domain: str, *, index: int) -> DomainTransfer | None:
    told = [stage.after.get(domain) for stage in closed]
    now, before = told[-1], told[index - 1] if index else None
    if now is None:
        return None
    # Where stages were trained one by one, a domain's first score is at a later stage's start.
    befores = [stage.before.get(domain) for stage in closed]
    values = [value for value in (*told, *befores) if value is not None]
    best = min(values, key=lambda value: value.number)
    key = closed[-1].verdict.source("bpb_after", domain)
    start = befores[0]
    return DomainTransfer(
        domain=Traced(domain, (key,), "key"),
        stage=closed[index].stage,
        forward=gain(before, start) if before is not None and start is not None else None,
        best=best,
        now=now,
        forgetting=change(now, best),
    )
