"""What is scored while a stage trains and when it ends: held-out text, and skills.

The one idea: what a skill's gate judges by is a fact of the task (`TASKS`), what it may lose is a
setting. Prompts and scoring live in `yxanul.evaluate`, items in `yxanul.data.benchmarks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from yxanul.config.base import PositiveFloat, PositiveInt, Section, refuse

GOLD = "gold_bpb"
"""The name of the bits per byte of right answers among a task's measures."""


@dataclass(frozen=True)
class TaskFacts:
    """What holds for a task wherever it is scored."""

    gates_by: str
    """The measure that may stop a stage: a rate per item (acc, acc_norm, exact_match), or
    gold_bpb, the bits per byte of the right answer."""
    margin: float
    """Default of SkillConfig.margin: absolute for a rate, relative for gold_bpb."""
    headline: str
    """The measure that stands for the task in a table."""
    shots: int
    """Worked examples before each item, as lm-evaluation-harness has them by default."""
    max_new_tokens: int = 256
    """Of a written answer; 256 is lm-evaluation-harness' default."""

    @property
    def is_rate(self) -> bool:
        """Whether the gating measure is a share of items, larger is better."""
        return self.gates_by != GOLD


TASKS = {
    "hellaswag": TaskFacts("acc_norm", 0.01, "acc_norm", 0),
    "triviaqa": TaskFacts("exact_match", 0.005, "exact_match", 0),
    "gsm8k": TaskFacts(GOLD, 0.02, "exact_match", 5),
    "humaneval": TaskFacts(GOLD, 0.02, "pass_at_1", 0, max_new_tokens=1024),
    "cloze": TaskFacts("acc", 0.02, "acc", 0),
    "gsm_symbolic": TaskFacts(GOLD, 0.02, "exact_match", 0),
}

_SAME_PROBLEMS = ("gsm8k", "gsm_symbolic")
KIN = {"gsm8k": _SAME_PROBLEMS, "gsm_symbolic": _SAME_PROBLEMS}
"""{task: sources of training text that is made from the same problems or their kin}."""

TaskName = Literal["hellaswag", "triviaqa", "gsm8k", "humaneval", "cloze", "gsm_symbolic"]


class SkillConfig(Section):
    """A task that is scored before and after a stage."""

    task: TaskName = Field(description="Which one; cloze, gsm_symbolic and humaneval work offline.")
    items: PositiveInt | None = Field(
        default=None, description="Score the first so many items; null = all."
    )
    shots: int | None = Field(
        default=None,
        ge=0,
        le=64,
        description="Worked examples before each item; null = as lm-evaluation-harness (gsm8k 5, "
        "others 0).",
    )
    margin: PositiveFloat | None = Field(
        default=None,
        description="G4: what the skill may lose over the stage; a share of the items (0.01 = one "
        "point) for hellaswag, triviaqa and cloze, relative bits per byte of the right answer for "
        "the others. null = 0.01, 0.005, 0.02 and 0.02.",
    )
    training_noise: PositiveFloat | None = Field(
        default=None,
        description="Standard deviation, between seeds, of the skill's change over the stage, in "
        "the unit of margin; it widens the interval. null = not measured.",
    )
    answers: bool = Field(
        default=True,
        description="Let the model write answers to gsm8k, gsm_symbolic and humaneval at the "
        "stage's end; they are reported and never gate.",
    )
    max_new_tokens: PositiveInt | None = Field(
        default=None,
        description="Tokens of a written answer at most, fewer than max_position_embeddings; null "
        "= the task's own (humaneval 1024, others 256), or half of the model's positions where "
        "those are fewer.",
    )

    @property
    def shots_used(self) -> int:
        """Worked examples before each item, with null resolved."""
        return TASKS[self.task].shots if self.shots is None else self.shots

    @property
    def writes(self) -> bool:
        """Whether the model writes answers: to be judged by them, or as `answers` asks."""
        facts = TASKS[self.task]
        return facts.gates_by == "exact_match" if facts.is_rate else self.answers

    @property
    def loss_allowed(self) -> float:
        """The margin, with null resolved."""
        return TASKS[self.task].margin if self.margin is None else self.margin


class EvaluationConfig(Section):
    """What is scored of a stage, on held-out text and in skills."""

    every_fraction: Annotated[float, Field(ge=0.001, le=1)] | None = Field(
        default=0.1,
        description="Share of the stage's tokens between scores of its own domains; null = only "
        "before and after the stage.",
    )
    tokens_per_domain: PositiveInt = Field(
        default=100_000,
        description="Held-out tokens scored per domain, in equal parts of its sources; a document "
        "is cut at an eighth of its source's part.",
    )
    seq_len: PositiveInt | None = Field(
        default=None,
        description="Tokens per window; null = the smaller of 1024 and max_position_embeddings.",
    )
    skills: tuple[SkillConfig, ...] = Field(
        default=(),
        strict=False,
        description="Tasks scored before and after the stage and judged by G4; [] = none.",
    )
    bench: str = Field(
        default="hub",
        min_length=1,
        description="Where hellaswag, triviaqa, gsm8k and humaneval come from: hub, embedded "
        "(humaneval only), or a folder with a file per set. --bench_dir sets it.",
    )

    @model_validator(mode="after")
    def _skills_differ(self) -> EvaluationConfig:
        names = [skill.task for skill in self.skills]
        twice = sorted({name for name in names if names.count(name) > 1})
        refuse([f"skills names {name} twice; keep one" for name in twice])
        return self
