"""A look at a run as plain values, for `--json`."""

from dataclasses import asdict
from typing import Any

from yxanul.runfolder.rows import finite
from yxanul.watch.snapshot import Snapshot


def snapshot_json(seen: Snapshot) -> dict[str, Any]:
    """Return plain values; what is not known yet is None."""
    forecast, price = seen.forecast, seen.usd_per_hour
    usd = forecast.usd(price) if forecast is not None and price is not None else None
    told = {
        "run": seen.name,
        "model": seen.config.model.name,
        "parameters": seen.parameters,
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
        "seconds": None if forecast is None else asdict(forecast),
        "usd": None if usd is None else asdict(usd),
        "limit_s": seen.limit_s,
        "incidents": [asdict(incident) for incident in seen.incidents],
    }
    return {key: finite(value) for key, value in told.items()}


def _ending(seen: Snapshot) -> dict[str, Any] | None:
    return None if seen.ending is None else {"word": seen.ending.word, **asdict(seen.ending)}
