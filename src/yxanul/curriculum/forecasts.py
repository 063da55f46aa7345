"""What a finished run lets the next one expect: its curves, fitted, as settings for gate.level."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from yxanul.curriculum.checks.level import fit_forecast
from yxanul.curriculum.recompute import read_asked
from yxanul.curriculum.stages import StagePlan
from yxanul.errors import UsageError
from yxanul.runfolder.exits import begun_run
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import current_branch
from yxanul.runfolder.scores import domain_course
from yxanul.runfolder.verdicts import read_verdicts


def forecast_levels(root: Path, *, stage: str | None = None) -> dict[str, dict[str, Any]]:
    """Return {stage: gate.level} of a run, as settings, fitted to its scores within the stage.

    Tokens are those of the stage; stage: only this one's. A folder without the verdict, or a stage
    with fewer than 4 scores of a domain, is a `UsageError`, a damaged one a `CorruptDataError`.
    """
    folder = begun_run(root)
    rows = read_verdicts(folder)
    if not rows or stage not in (None, *rows):
        raise UsageError(
            f"{root}: {stage or 'no stage'} has not ended, so no curve is there to go by"
        )
    levels: dict[str, dict[str, Any]] = {}
    for name, row in rows.items():
        if stage not in (None, name):
            continue
        plan, asked = read_asked(folder, row)
        curves = {
            domain: fit_forecast(_points(folder, plan, domain=domain), of=f"{name}, {domain}")
            for domain in asked.own_domains
        }
        levels[name] = {
            "forecast": {domain: curve.model_dump() for domain, curve in curves.items()}
        }
    return levels


def levels_yaml(levels: Mapping[str, dict[str, Any]]) -> str:
    """Return {stage: gate.level} as YAML, to be copied into the stage files."""
    return "\n".join(
        f"# {name}.yaml\n{yaml.safe_dump({'gate': {'level': level}}, sort_keys=False)}"
        for name, level in levels.items()
    )


def _points(folder: RunFolder, plan: StagePlan, *, domain: str) -> list[tuple[float, float]]:
    """Return (tokens of the stage, bits per byte) of the stage's own scores."""
    batch = plan.config.training.batch_tokens
    return [
        ((score.step - plan.first_step) * batch, score.bpb)
        for score in domain_course(folder.scores, domain, branch=current_branch(folder.lineage))
        if plan.first_step < score.step <= plan.last_step
    ]
