"""The stages whose gates have compared scores, with the bits per byte at both ends of each.

The one idea: values of one domain are of the same documents, those of its newest score. Text of a
stage that has not begun may be prepared anew: what gates found of it before is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from yxanul.report.reading.course import own_domains, own_scores, stage_names, stage_verdict
from yxanul.report.reading.gather import Run
from yxanul.report.reading.records import Record
from yxanul.report.reading.traced import Traced

ENDS = ("bpb_before", "bpb_after")
"""Where a verdict has what its gate compared."""


@dataclass(frozen=True)
class ClosedStage:
    """A stage and its gate's last verdict, with {domain: bits per byte} before and after it."""

    stage: Traced
    verdict: Record
    own: tuple[str, ...]
    before: dict[str, Traced]
    after: dict[str, Traced]
    """Of domains that its gate did not know, or of other documents, what the next stage found."""


def closed_stages(run: Run) -> list[ClosedStage]:
    """Return the stages of the run's branch whose gates have compared scores, in order."""
    found = [
        (name, verdict)
        for name in stage_names(run)
        if (verdict := stage_verdict(run, str(name.value))) and verdict.table(ENDS[1])
    ]
    before, after = ([_compared(run, verdict, key=key) for _, verdict in found] for key in ENDS)
    # The next stage scored the same weights at its start; there is none after the last.
    starts = [*before, {}][1:]
    return [
        ClosedStage(name, verdict, own_domains(run, str(name.value)), first, {**start, **last})
        for (name, verdict), first, last, start in zip(found, before, after, starts, strict=True)
    ]


def _compared(run: Run, verdict: Record, *, key: str) -> dict[str, Traced]:
    found = {}
    for domain in verdict.table(key):
        value = verdict.number(key, domain)
        said = {score.find("bpb") for score in own_scores(run, domain)}
        # A score that was taken again over other documents has replaced what the gate compared.
        if value is not None and (not said or value.value in said):
            found[domain] = value
    return found
