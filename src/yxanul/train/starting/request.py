"""What was asked for on the command line, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunRequest:
    """A run, or one stage of one, as a person asks for it."""

    config_dir: Path
    stage: str | None = None
    """One stage; None = every stage in order."""
    model: str | None = None
    """A name in models/ or a file; None = model_config.yaml."""
    data: str | None = None
    """hub, embedded or a folder; None = as the stages say."""
    bench_dir: Path | None = None
    """Folder with a file per benchmark; None = evaluation.bench, as the stages say."""
    out: Path | None = None
    """The run folder; None = runs/<config>-<model>."""
    overrides: tuple[str, ...] = ()
    resume: str = "auto"
    """auto, never, or a checkpoint's folder or name."""
    fresh: bool = False
    max_steps: int | None = None
    num_epochs: float | None = None
    init_from: str | None = None
    """A folder of weights, or owner/name on the hub, and then the folder where it was brought."""
    strict: bool = False
    """Whether something that was asked for and is not active is an error."""
    command: str = ""
    """The command line, for RUN/environment.json."""

    @property
    def names_checkpoint(self) -> bool:
        """Whether --resume names a checkpoint."""
        return self.resume not in ("auto", "never")

    @property
    def asks_for_empty_folder(self) -> bool:
        """Whether --fresh is about the run folder, and not about a checkpoint in it."""
        return self.fresh and not self.names_checkpoint


@dataclass(frozen=True)
class StageOutcome:
    """How one stage ended."""

    name: str
    verdict: str
    why: str
    bpb_before: dict[str, float] | None
    bpb_after: dict[str, float] | None
    attempt: int
    """The attempt of the run that the verdict was given in."""
    skills: tuple[str, ...] = ()
    """What the gate said of each skill, and of items that stand in the training text."""

    @classmethod
    def from_row(cls, row: dict[str, Any], *, checks: Sequence[dict[str, Any]]) -> "StageOutcome":
        """Return what a verdict row of RUN/gates.jsonl and its rows of checks say."""
        keys = ("verdict", "why", "bpb_before", "bpb_after", "attempt")
        told = [c for c in checks if c["id"] == "G4" or (c["id"] == "G7" and c["result"] == "warn")]
        skills = tuple(check["why"] for check in told if check["subject"] is not None)
        return cls(row["stage"], **{key: row[key] for key in keys}, skills=skills)


@dataclass
class RunOutcome:
    """What a command reached, in this process; the fields of `--json`."""

    run_folder: Path
    steps: int = 0
    tokens_seen: int = 0
    tokens_per_s: float | None = None
    mfu: float | None = None
    stages: list[StageOutcome] = field(default_factory=list)
    training_s: float = 0.0
    evaluation_s: float = 0.0
    already_complete: bool = False
    report: str | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether a gate has said stop of its last stage."""
        return bool(self.stages) and self.stages[-1].verdict == "stop"

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return {
            "run_folder": str(self.run_folder),
            "steps": self.steps,
            "tokens_seen": self.tokens_seen,
            "tokens_per_s": self.tokens_per_s,
            "mfu": self.mfu,
            "stages": [
                {
                    "name": stage.name,
                    "verdict": stage.verdict,
                    "why": stage.why,
                    "bpb_before": stage.bpb_before,
                    "bpb_after": stage.bpb_after,
                    "attempt": stage.attempt,
                    "skills": list(stage.skills),
                }
                for stage in self.stages
            ],
            "training_s": self.training_s,
            "evaluation_s": self.evaluation_s,
            "already_complete": self.already_complete,
            "report": self.report,
        }
