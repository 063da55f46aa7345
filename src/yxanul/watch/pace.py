"""What a run has cost so far tells what the rest will: hours to the end, with an interval.

The one idea: seconds go to training, which is paid by token, and to what is done at the borders of
stages: scores, and what a new sequence length or stage takes beyond its tokens (compiling, samples,
a checkpoint). Tokens of a length that the run has not come to yet cost as many operations per
second as those it has trained (`yxanul.plan.flops`). What precedes a process's first row,
preparation and the compiling of its first step, is spent but tells nothing of the rest. On another
machine the pace is found anew; a border is as many operations there as it was. Restarts that are
still to come are not foreseen.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from yxanul.config.schema import ModelConfig
from yxanul.curriculum.stages import StagePlan, score_steps, steps_by_seq_len
from yxanul.plan.flops import flops_per_token
from yxanul.runfolder.spending import Payment, Spent
from yxanul.units import HOUR_S

# Rows are kept as blocks that follow one another, which tell how much the speed wavers: few ones,
# since what disturbs a machine lasts, and rows beside one another are disturbed alike.
_MOST_BLOCKS = 16
# Shares by which a part may be wrong however steady the run is: a machine that others share may be
# a sixth slower for the rest of the hour. Ours, held against embedded runs (docs/costs.md).
_STEADY = 0.10
_UNSEEN_LENGTH = 0.15
_BORDERS_BEFORE_A_GATE = 0.5
_BORDERS_AFTER_A_GATE = 0.2


@dataclass(frozen=True)
class Forecast:
    """What a whole run costs: spent by all its processes, and left, with an interval.

    In seconds of wall clock, or in dollars.
    """

    spent: float
    left: float
    left_low: float
    left_high: float

    @property
    def whole(self) -> float:
        """Spent and left."""
        return self.spent + self.left


@dataclass(frozen=True)
class Outlook:
    """A forecast in both currencies."""

    seconds: Forecast
    usd: Forecast | None
    """None: the machine has no price."""


@dataclass
class _Block:
    """Rows that follow one another: their seconds without scoring, and their operations."""

    seconds: float
    flops: float


@dataclass
class _Paid:
    """What the tokens of one sequence length have cost, scoring left out."""

    seconds: float = 0.0
    tokens: int = 0


class Pace:
    """Counts what the rows of RUN/spending.jsonl say, row by row."""

    def __init__(self, model: ModelConfig) -> None:
        self._model = model
        self.trained_s = 0.0
        """What the tokens between rows of one process have cost, on all machines."""
        self._last: Payment | None = None
        self._ended = Spent()
        self._border_s = 0.0
        self._border_flops = 0.0
        """Borders on machines before this one, as operations."""
        self._by_length: dict[int, _Paid] = {}
        self._blocks: list[_Block] = []
        self._rows_per_block = 1
        self._rows = 0

    def add(self, payment: Payment) -> None:
        """Count a row, in the order of the file."""
        last, self._last = self._last, payment
        if last is None or payment.process != last.process:
            self._begin(payment, after=last)
            return
        scoring_s = payment.scoring_s - last.scoring_s
        self._border_s += scoring_s
        tokens = payment.tokens_spent - last.tokens_spent
        seconds = max(0.0, payment.seconds - last.seconds - scoring_s)
        if tokens <= 0:  # before a gate, or at a process's end: a checkpoint, samples
            self._border_s += seconds
            return
        if payment.seq_len is None:
            return
        if payment.seq_len == last.seq_len:
            self._count(seconds, tokens=tokens, seq_len=payment.seq_len)
        elif self._blocks:
            usual_s = tokens * self._s_per_token(payment.seq_len)
            self.trained_s += min(seconds, usual_s)
            self._border_s += max(0.0, seconds - usual_s)

    @property
    def spent(self) -> Spent:
        """What all processes have cost up to the newest row."""
        last = self._last
        return self._ended if last is None else _with(self._ended, last)

    def forecast(
        self,
        course: Sequence[StagePlan],
        *,
        stage: int,
        stage_step: int,
        is_scored: bool = False,
    ) -> Forecast | None:
        """Return what a run costs that has done `stage_step` steps of `course[stage]`.

        `course` begins with the stage that the run was begun at; `is_scored`: the scores at the
        end of `course[stage]` are taken and paid for. None before there are two rows of one length
        and machine to compare.
        """
        if not self._blocks:
            return None
        trained_s, trained_error_s = self._training_left(course, stage=stage, done=stage_step)
        closed = stage + 1 if is_scored else stage
        border_s, border_error_s = self._borders_left(
            course, stage=stage, done=stage_step, closed=closed
        )
        error_s = math.hypot(trained_error_s, border_error_s)
        left_s = trained_s + border_s
        return Forecast(self.spent.seconds, left_s, max(0.0, left_s - error_s), left_s + error_s)

    def outlook(self, found: Forecast, *, usd_per_hour: float | None) -> Outlook:
        """Return a forecast with its dollars: spent at the prices of then, left at this one."""
        if usd_per_hour is None:
            return Outlook(found, None)
        left = (found.left, found.left_low, found.left_high)
        usd = (seconds * usd_per_hour / HOUR_S for seconds in left)
        return Outlook(found, Forecast(self.spent.usd_at(usd_per_hour), *usd))

    def seconds_of(self, plan: StagePlan, steps: int) -> float:
        """Return what so many more steps at the end of a stage would take."""
        training = plan.config.training
        seq_len = training.seq_len_curriculum[-1].seq_len
        return steps * training.batch_tokens * self._s_per_token(seq_len)

    def _begin(self, payment: Payment, *, after: Payment | None) -> None:
        """Count the first row of a process; on another machine all but the borders is new."""
        if after is not None:
            self._ended = _with(self._ended, after)
            if None not in (payment.machine, after.machine) and payment.machine != after.machine:
                self._leave_machine()
        self._border_s += payment.scoring_s

    def _leave_machine(self) -> None:
        if self._blocks:
            self._border_flops += self._border_s / self._s_per_flop()
            self._border_s = 0.0
        self._by_length, self._blocks = {}, []
        self._rows, self._rows_per_block = 0, 1

    def _count(self, seconds: float, *, tokens: int, seq_len: int) -> None:
        paid = self._by_length.setdefault(seq_len, _Paid())
        self.trained_s += seconds
        paid.seconds += seconds
        paid.tokens += tokens
        flops = float(tokens * flops_per_token(self._model, seq_len))
        if self._rows % self._rows_per_block == 0:
            self._blocks.append(_Block(0.0, 0.0))
        self._rows += 1
        self._blocks[-1].seconds += seconds
        self._blocks[-1].flops += flops
        if len(self._blocks) > _MOST_BLOCKS:
            self._blocks = [
                _Block(sum(b.seconds for b in pair), sum(b.flops for b in pair))
                for pair in _pairs(self._blocks)
            ]
            self._rows_per_block *= 2
            self._rows = len(self._blocks) * self._rows_per_block

    def _training_left(
        self, course: Sequence[StagePlan], *, stage: int, done: int
    ) -> tuple[float, float]:
        """Return the seconds of the tokens that are left, and how far they may be wrong."""
        wavering = self._wavering()
        seconds = error_s = 0.0
        for plan in course[stage:]:
            begin = done if plan is course[stage] else 0
            for seq_len, steps in steps_by_seq_len(plan, begin).items():
                tokens = steps * plan.config.training.batch_tokens
                part_s = tokens * self._s_per_token(seq_len)
                unsure = 0.0 if seq_len in self._by_length else _UNSEEN_LENGTH
                seconds += part_s
                error_s += part_s * max(wavering, _STEADY, unsure)
        return seconds, error_s

    def _s_per_token(self, seq_len: int) -> float:
        """Return what a token of a length costs; of one that is new, what its operations do."""
        paid = self._by_length.get(seq_len)
        if paid is not None:
            return paid.seconds / paid.tokens
        return flops_per_token(self._model, seq_len) * self._s_per_flop()

    def _s_per_flop(self) -> float:
        return sum(b.seconds for b in self._blocks) / sum(b.flops for b in self._blocks)

    def _wavering(self) -> float:
        """Return the 95 % bound of the relative error of the speed, as its blocks tell it."""
        seconds, count = sum(block.seconds for block in self._blocks), len(self._blocks)
        if count == 1 or not seconds:
            return 1.0
        rate = self._s_per_flop()
        squares = sum((block.seconds - rate * block.flops) ** 2 for block in self._blocks)
        return 2.0 * math.sqrt(squares * count / (count - 1)) / seconds

    def _borders_left(
        self, course: Sequence[StagePlan], *, stage: int, done: int, closed: int
    ) -> tuple[float, float]:
        """Return the seconds of the borders that are left, and how far they may be wrong.

        The unit is all that is done at a border. The scores of the run's opening were one; a score
        within a stage takes the stage's own domains, one part in as many as there are stages, those
        before the run's beginning included.
        """
        inside = 1.0 / (1 + course[-1].index)
        at = [score_steps(plan) for plan in course]
        before = sum(len(steps) for steps in at[:stage]) + sum(s <= done for s in at[stage])
        units_done = 1.0 + closed + inside * before
        units_left = len(course) - closed + inside * (sum(map(len, at)) - before)
        done_s = self._border_s + self._border_flops * self._s_per_flop()
        seconds = units_left * done_s / units_done
        return seconds, seconds * (_BORDERS_AFTER_A_GATE if closed else _BORDERS_BEFORE_A_GATE)


def _with(spent: Spent, last: Payment) -> Spent:
    return spent.plus(last.seconds, usd_per_hour=last.usd_per_hour)


def _pairs(blocks: list[_Block]) -> Iterator[list[_Block]]:
    for at in range(0, len(blocks), 2):
        yield blocks[at : at + 2]
