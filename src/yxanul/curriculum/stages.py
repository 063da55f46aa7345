"""The course of a run: how many steps each stage has, and where in it a step lies."""

from collections.abc import Sequence
from dataclasses import dataclass

from yxanul.config.schema import RunConfig, StageConfig, TrainingConfig


@dataclass(frozen=True)
class StagePlan:
    """One stage's place in the run, in steps."""

    index: int
    config: StageConfig
    first_step: int
    """Global number of the stage's first step."""
    total_steps: int
    first_token: int
    """tokens_seen when the stage begins."""

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.config.name

    @property
    def last_step(self) -> int:
        """Global number of steps done when the stage ends."""
        return self.first_step + self.total_steps

    @property
    def tokens(self) -> int:
        """Tokens the stage really trains on: whole steps only."""
        return self.total_steps * self.config.training.batch_tokens


def plan_stages(config: RunConfig) -> tuple[StagePlan, ...]:
    """Return the stages in order; a budget is rounded down to whole steps, at least one."""
    plans: list[StagePlan] = []
    step = token = 0
    for index, stage in enumerate(config.stages):
        steps = max(1, stage.training.total_tokens // stage.training.batch_tokens)
        plans.append(StagePlan(index, stage, step, steps, token))
        step, token = step + steps, token + plans[-1].tokens
    return tuple(plans)


def seq_len_at(training: TrainingConfig, step: int, *, total_steps: int) -> int:
    """Return the sequence length, in tokens, of the stage's step number `step` (from 0)."""
    reached = [
        phase.seq_len
        for phase in training.seq_len_curriculum
        if step >= round(phase.from_fraction * total_steps)
    ]
    return reached[-1]


def longest_seq_len(stages: Sequence[StageConfig]) -> int:
    """Return the longest sequence length of any stage, in tokens."""
    return max(phase.seq_len for stage in stages for phase in stage.training.seq_len_curriculum)
