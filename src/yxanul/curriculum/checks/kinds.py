"""In which unit the figures of a check are: what a table of checks says, on a page or a terminal.

How a kind of number is written is `yxanul.report.reading.words`.
"""

from __future__ import annotations

from yxanul.config.evaluation import GOLD, TASKS

NAMES = {
    "G0": "integrity",
    "G1": "stability",
    "G2": "progress",
    "G3": "retention",
    "G4": "skills",
    "G5": "level",
    "G6": "plateau",
    "G7": "contamination",
    "G8": "budget",
}
_SHARES = {"G1": "small share", "G8": "share"}
_CHANGES = {"G2": "change", "G3": "change", "G5": "change", "G6": "small change"}
_SIZES = {"change": "share", "small change": "small share", "points": "points size"}


def kinds(check: str, subject: str) -> tuple[str, str]:
    """Return how a check's figures are written, signed (value, bounds, margin) and unsigned (MDE).

    G4 and G7 name a task and its measure. A rate moves by percentage points; gold_bpb relatively in
    G4, by nats per byte in G7. What does not gate is told in G4 as it stands, not as a change.
    """
    kind = _SHARES.get(check, _CHANGES.get(check, "plain"))
    task, _, measure = subject.rpartition(" ")
    if check in ("G4", "G7") and task:
        kind = "points" if measure != GOLD else "change" if check == "G4" else "plain"
        if check == "G4" and not gates(task, measure):
            return "share", "points size"
    return kind, _SIZES.get(kind, kind)


def gates(task: str, measure: str) -> bool:
    """Tell whether a measure is the one by which a task may stop a stage."""
    facts = TASKS.get(task)
    return facts is not None and facts.gates_by == measure
