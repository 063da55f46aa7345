"""Scores of a task, item by item: RUN/scores/skills, a file per step, attempt and task.

Kept per item so that every later comparison is paired; a file is written once, whole.
`yxanul evaluate` writes the same files for any model.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from yxanul.runfolder.durable import write_json
from yxanul.runfolder.scores import damaged_score, paths_at

NATS, BYTES = "gold_nats", "gold_bytes"
"""Measures of the right answer's text; gold_bpb follows from their sums."""


@dataclass(frozen=True)
class TaskScore:
    """What a model reached in one task, (items,) per measure."""

    task: str
    version: str
    """Of the task's definition, lm-evaluation-harness's number where it has the task."""
    shots: int
    origin: str
    """Where the items came from: a hub id and revision, a file, a package and its version."""
    prompts_sha256: str
    """Over all that the model read: other prompts are another task."""
    items_sha256: str
    """Over the items in order."""
    ids: list[str]
    measures: dict[str, list[float]]
    """{acc, acc_norm, exact_match, pass_at_1, gold_nats, gold_bytes ...: a value per item}."""
    clusters: list[str] | None = None
    """What items have in common (a paragraph, a template), where they are not independent."""
    texts: list[str] | None = None
    """What the model wrote, where it wrote."""
    max_new_tokens: int | None = None
    """Tokens of a written answer at most, where one was written: fewer are another task."""
    cut_prompts: int = 0
    """Prompts that were longer than the model has positions for, and lost their beginning."""
    sandbox: str | None = None
    """Level of the sandbox in which written programs ran."""
    lacked_module: int = 0
    """Programs that failed since they import a module beside the standard library."""
    not_run: dict[str, str] = field(default_factory=dict)
    """{measure: why it was not taken}."""
    kin: list[str] | None = None
    """Sources of the model's training text that are made from the same problems or their kin; None
    = not known, or a run's own score, whose gate knows them."""
    weights: str | None = None
    """What was scored: a commit of the hub, else the sha256 of the weights; None = not recorded, as
    of a run's own score, which has its step."""

    def rate(self, measure: str) -> float:
        """Return the mean over the items."""
        values = self.measures[measure]
        return math.fsum(values) / len(values)

    def gold_bpb(self) -> float:
        """Return the bits per byte of the right answers: ratio of sums."""
        return math.fsum(self.measures[NATS]) / (math.log(2) * math.fsum(self.measures[BYTES]))

    def value(self, measure: str) -> float:
        """Return the figure that stands for a measure, gold_bpb included."""
        return self.gold_bpb() if measure == "gold_bpb" else self.rate(measure)

    def has(self, measure: str) -> bool:
        """Tell whether a measure, gold_bpb included, was taken."""
        return (NATS if measure == "gold_bpb" else measure) in self.measures


def skill_path(folder: Path, *, step: int, attempt: int, task: str) -> Path:
    """Return where a task's score at one step of a run lies; folder is RUN/scores."""
    return folder / "skills" / f"step-{step:08d}-a{attempt}-{task}.json"


def write_task_score(path: Path, score: TaskScore) -> None:
    """Write one score, whole or not at all; NaN and infinity are refused by a ValueError."""
    write_json(path, asdict(score))


def read_task_score(path: Path) -> TaskScore:
    """Read one score; a damaged file is a `CorruptDataError`."""
    try:
        score = TaskScore(**json.loads(path.read_text(encoding="utf-8")))
        columns: list[Sequence[Any]] = [score.ids, *score.measures.values()]
        columns += [column for column in (score.clusters, score.texts) if column is not None]
        numbers = [value for values in score.measures.values() for value in values]
        counts = (score.shots, score.cut_prompts, score.lacked_module)
        is_whole = (
            isinstance(score.task, str)
            and isinstance(score.origin, str)
            and isinstance(score.max_new_tokens, int | None)
            and all(isinstance(one, int) for one in counts)
            and all(isinstance(one, list) for one in columns)
        )
        is_even = len(set(map(len, columns))) == 1
        if is_whole and is_even and math.isfinite(math.fsum(numbers)):
            return score
    # OverflowError: a whole number that no float can hold.
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise damaged_score(path) from error
    raise damaged_score(path)


def skills_at(folder: Path, step: int, *, branch: Mapping[int, float]) -> dict[str, TaskScore]:
    """Return {task: score} that the run's branch took at `step`; the later attempt counts.

    branch {attempt: last step of it that counts} is `lineage.current_branch`.
    """
    scores = map(read_task_score, paths_at(folder / "skills", step, branch=branch))
    return {score.task: score for score in scores}
