"""A look at a run as plain values, for `--json`."""

from dataclasses import asdict
from typing import Any

from yxanul.runfolder.rows import finite
from yxanul.watch.snapshot import Snapshot


def snapshot_json(seen: Snapshot) -> dict[str, Any]:
    """Return plain values; what is not known yet is None."""
    outlook = seen.outlook
    usd = None if outlook is None else outlook.usd
    told = {
        "run": seen.name,
        "model": seen.config.model.name,
        "parameters": seen.parameters,
        "is_mirror": seen.is_mirror,
        "is_running": seen.is_running,
        "ending": _ending(seen),
        "starts": seen.starts,
        "attempt": seen.attempt,
        "stages": [asdict(stage) for stage in seen.stages],
        "total_tokens": seen.total_tokens,
        "newest": seen.newest,
        "row_age_s": seen.row_age_s,
        "bpb": {domain: [values[0], values[-1]] for domain, values in seen.scores.items()},
        "memory_bytes": seen.memory_bytes,
        "seconds": None if outlook is None else asdict(outlook.seconds),
        "usd": None if usd is None else asdict(usd),
        "budget": {"hours": seen.budget.hours, "usd": seen.budget.usd, "share": seen.budget_share},
        "incidents": [asdict(incident) for incident in seen.incidents],
    }
    return {key: finite(value) for key, value in told.items()}


def _ending(seen: Snapshot) -> dict[str, Any] | None:
    return None if seen.ending is None else {"word": seen.ending.word, **asdict(seen.ending)}
