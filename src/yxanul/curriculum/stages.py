"""The course of a run: how many steps each stage has, and where in it a step lies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from yxanul.config.schema import RunConfig, StageConfig, TrainingConfig
from yxanul.curriculum.changes import Segment, StageChanges
from yxanul.curriculum.statistics.noise import FEWEST_SCORES

_PLATEAU_FROM, _PLATEAU_TO = 0.8, 0.95
_NOISE_SCORES = 5


@dataclass(frozen=True)
class StagePlan:
    """One stage's place in the run, in steps."""

    index: int
    config: StageConfig
    """The stage's settings, with what its gates have changed of replay and learning rates."""
    first_step: int
    """Global number of the stage's first step."""
    base_steps: int
    """Steps by the settings, extensions left out."""
    first_token: int
    """tokens_seen when the stage begins."""
    changes: StageChanges = field(default_factory=StageChanges)

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.config.name

    @property
    def total_steps(self) -> int:
        """Steps of the stage, extensions included."""
        segments = self.changes.segments
        return segments[-1].end if segments else self.base_steps

    @property
    def last_step(self) -> int:
        """Global number of steps done when the stage ends."""
        return self.first_step + self.total_steps

    @property
    def tokens(self) -> int:
        """Tokens the stage really trains on: whole steps only."""
        return self.total_steps * self.config.training.batch_tokens

    @property
    def decay_start(self) -> int | None:
        """Stage step at which the final decay begins; None where the schedule has no stable part.

        A stage is lengthened before its decay, so this place must be kept.
        """
        if self.config.training.schedule != "wsd":
            return None
        return self.total_steps - wsd_decay_steps(self.config.training, self.base_steps)

    @property
    def plateau_asked_at(self) -> int | None:
        """Stage step at which it is asked whether the stage still falls: where its decay begins.

        None where that is asked at the stage's end, or never.
        """
        return self.decay_start if self.config.gate.extension.when == "falling" else None

    @property
    def extension_ends(self) -> tuple[int, ...]:
        """Stage steps at which the extensions end, in order."""
        ends = {segment.end for segment in self.changes.segments}
        return tuple(sorted(end for end in ends if end > self.base_steps))

    @property
    def cycle_start(self) -> int:
        """Stage step at which the last cycle of the learning rates begins.

        Under `linear_to_zero` each extension is one; under `wsd` the stage stays a single one.
        """
        if self.config.training.schedule == "wsd":
            return 0
        return (0, self.base_steps, *self.extension_ends)[-2]

    def before_last_cycle(self) -> "StagePlan":
        """Return the stage as it was before the last cycle was added: the same where none was."""
        kept = tuple(one for one in self.changes.segments if one.end <= self.cycle_start)
        return replace(self, changes=self.changes.with_segments(kept)) if self.cycle_start else self

    def segments(self, entry_attempt: int) -> tuple[Segment, ...]:
        """Return the parts with an order each; `entry_attempt` began a stage without changes."""
        return self.changes.segments or (Segment(0, self.base_steps, entry_attempt),)


def plan_stages(
    config: RunConfig, changes: Mapping[str, StageChanges] | None = None
) -> tuple[StagePlan, ...]:
    """Return the stages in order, with the changes {stage name: what its gates have changed}.

    A budget is rounded down to whole steps, at least one.
    """
    plans: list[StagePlan] = []
    step = token = 0
    for index, stage in enumerate(config.stages):
        steps = stage.training.steps
        changed = (changes or {}).get(stage.name, StageChanges())
        plan = StagePlan(index, changed.applied(stage), step, steps, token, changed)
        plans.append(plan)
        step, token = step + plan.total_steps, token + plan.tokens
    return tuple(plans)


def wsd_decay_steps(training: TrainingConfig, base_steps: int) -> int:
    """Return the steps of the final decay under `wsd`, of a stage of `base_steps` steps."""
    warmup_steps = round(training.warmup_fraction * base_steps)
    return max(1, min(base_steps - warmup_steps, round(training.decay_fraction * base_steps)))


def seq_len_at(training: TrainingConfig, step: int, *, total_steps: int) -> int:
    """Return the sequence length, in tokens, of the stage's step number `step` (from 0).

    `total_steps` are those of the settings: an extension goes on at the last phase's length.
    """
    reached = [
        phase.seq_len
        for phase in training.seq_len_curriculum
        if step >= round(phase.from_fraction * total_steps)
    ]
    return reached[-1]


def steps_by_seq_len(plan: StagePlan, begin: int = 0) -> dict[int, int]:
    """Return {sequence length: steps that the stage trains with it} from step `begin` on."""
    training = plan.config.training
    phases = training.seq_len_curriculum
    starts = [round(phase.from_fraction * plan.base_steps) for phase in phases]
    ends = [*starts[1:], plan.total_steps]
    found: dict[int, int] = {}
    for phase, start, end in zip(phases, starts, ends, strict=True):
        steps = end - max(start, begin)
        if steps > 0:
            found[phase.seq_len] = found.get(phase.seq_len, 0) + steps
    return found


def longest_seq_len(stages: Sequence[StageConfig]) -> int:
    """Return the longest sequence length of any stage, in tokens."""
    return max(phase.seq_len for stage in stages for phase in stage.training.seq_len_curriculum)


def score_steps(plan: StagePlan) -> frozenset[int]:
    """Return the stage steps after which the own domains are scored, the stage's end left out.

    Those that a plateau is told by are among them, where a stage that still falls is lengthened.
    """
    fraction = plan.config.evaluation.every_fraction
    if fraction is None:
        return frozenset()
    steps = {round(k * fraction * plan.total_steps) for k in range(1, int(1 / fraction) + 1)}
    if plan.config.gate.extension.when == "falling":
        steps.update(plateau_steps(plan))
    return frozenset(step for step in steps if 0 < step < plan.total_steps)


def plateau_steps(plan: StagePlan) -> tuple[int, int]:
    """Return the stage steps from and to which a plateau is looked for, about the last fifth.

    With a final decay, that is before it: a decay lowers the loss by itself. Without one, it is the
    last fifth of the last cycle, for an extension's rates rise again before they fall, and the
    stage's end is left out: a worse end would look flatter, and so be better judged.
    """
    if plan.decay_start is not None:
        return round(_PLATEAU_FROM * plan.decay_start), plan.decay_start
    begin, steps = plan.cycle_start, plan.total_steps - plan.cycle_start
    return begin + round(_PLATEAU_FROM * steps), begin + round(_PLATEAU_TO * steps)


def noise_steps(plan: StagePlan) -> tuple[int, ...]:
    """Return the stage steps whose scores tell how much a score wavers from one to the next.

    The last five of the phase that the plateau is looked for in, the stage's end left out: scores
    at a falling rate and at a steady one, or of two cycles, do not belong together. Where an
    extension has too few, those of the newest cycle before it that has enough.
    """
    begin, end = plan.cycle_start, plateau_steps(plan)[1]
    within = sorted(step for step in score_steps(plan) if begin < step <= end)
    if begin and len(within) < FEWEST_SCORES:
        # Of the stage as it was then: it was scored by its length of then.
        return noise_steps(plan.before_last_cycle())
    return tuple(within[-_NOISE_SCORES:])
