"""What a finished run lets the next one expect: its curves, fitted, as settings for gate.level."""

from pathlib import Path

import yaml

from yxanul.curriculum.checks.level import fit_forecast
from yxanul.curriculum.course import read_course, read_frozen_config
from yxanul.curriculum.evidence import Asked
from yxanul.curriculum.stages import StagePlan
from yxanul.errors import UsageError
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import current_attempt, current_branch
from yxanul.runfolder.scores import domain_course
from yxanul.runfolder.verdicts import read_verdicts


def forecast_yaml(root: Path) -> str:
    """Return gate.level of every stage of a run as YAML, fitted to its scores within the stage.

    Tokens count from the run's beginning. A folder without verdicts, or a stage with fewer than 4
    scores of a domain, is a `UsageError`.
    """
    folder = RunFolder(root)
    if not folder.config.is_file():
        raise UsageError(f"{root} is not a run folder: it has no config.yaml; name one of runs/")
    attempt = current_attempt(folder.lineage)
    plans = {
        plan.name: plan for plan in read_course(read_frozen_config(folder), folder, attempt=attempt)
    }
    parts = []
    for stage, row in read_verdicts(folder).items():
        curves = {
            domain: fit_forecast(
                _points(folder, plans[stage], domain=domain), of=f"{stage}, {domain}"
            )
            for domain in Asked.from_row(row).own_domains
        }
        level = {"forecast": {domain: curve.model_dump() for domain, curve in curves.items()}}
        setting = yaml.safe_dump({"gate": {"level": level}}, sort_keys=False)
        parts.append(f"# {stage}.yaml\n{setting}")
    if not parts:
        raise UsageError(f"{root}: no stage has ended yet, so there is no curve to go by")
    return "\n".join(parts)


def _points(folder: RunFolder, plan: StagePlan, *, domain: str) -> list[tuple[float, float]]:
    """Return (tokens of the run, bits per byte) of the stage's own scores."""
    batch = plan.config.training.batch_tokens
    return [
        (plan.first_token + (score.step - plan.first_step) * batch, score.bpb)
        for score in domain_course(folder.scores, domain, branch=current_branch(folder.lineage))
        if plan.first_step < score.step <= plan.last_step
    ]
