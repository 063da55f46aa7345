"""What rollbacks and extensions have made of a stage.

The one idea: the settings of a run never change; what its gates changed is a small value beside
them, written into lineage.jsonl before the attempt that it describes begins. Everything that a
resumed run must know follows from the settings and this value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from yxanul.config.schema import GateConfig, StageConfig


@dataclass(frozen=True)
class Segment:
    """Steps `first` .. `end` - 1 of a stage, which read their data in one order of their own."""

    first: int
    end: int
    attempt: int
    """The attempt whose number keys the order."""
    left_out: int = 0
    """Steps from `first` on whose text, as the segments before had it, is not read here."""
    keeps_line: bool = True
    """Whether it goes on along the stage's data.ramp_fraction; those of earlier versions read
    data.replay_share throughout."""


@dataclass(frozen=True)
class StageChanges:
    """How a stage differs from its settings."""

    replay_share: float | None = None
    """Share of tokens from earlier stages; None = as the settings say."""
    rate_factor: float = 1.0
    """All peak learning rates are multiplied by this."""
    rollbacks: int = 0
    extensions: int = 0
    segments: tuple[Segment, ...] = ()
    """In the order of their attempts; one is read up to where a later one begins. Empty = one, the
    whole stage."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any] | None) -> "StageChanges":
        """Read what `as_row` wrote; None = no changes. A wrong row is a TypeError or KeyError."""
        if row is None:
            return cls()
        segments = tuple(Segment(**{"keeps_line": False, **one}) for one in row["segments"])
        if not all(isinstance(number, int) for one in segments for number in asdict(one).values()):
            raise TypeError("a segment's steps are not whole numbers")
        return cls(**{**row, "segments": segments})

    def as_row(self) -> dict[str, Any]:
        """Return plain values for a row of lineage.jsonl."""
        return {**asdict(self), "segments": [asdict(segment) for segment in self.segments]}

    def with_segments(self, segments: tuple[Segment, ...]) -> "StageChanges":
        """Return the same changes of a stage that is read in these segments."""
        return replace(self, segments=segments)

    def applied(self, stage: StageConfig) -> StageConfig:
        """Return the stage's settings with this replay share and these learning rates."""
        training = stage.training
        peaks = ("learning_rate", "embedding_learning_rate", "norm_learning_rate")
        scaled = {
            name: rate * self.rate_factor
            for name in peaks
            if (rate := getattr(training, name)) is not None
        }
        share = stage.data.replay_share if self.replay_share is None else self.replay_share
        return stage.model_copy(
            update={
                "training": training.model_copy(update=scaled),
                "data": stage.data.model_copy(update={"replay_share": share}),
            }
        )


def rolled_back(
    changes: StageChanges, stage: StageConfig, *, can_replay: bool, steps: int, attempt: int
) -> StageChanges:
    """Return what the next attempt at a stage of `steps` steps changes: more replay, lower rates.

    The stage begins again from its entry, so extensions are gone. A stage without earlier ones
    cannot replay.
    """
    rules = stage.gate.rollback
    before = stage.data.replay_share if changes.replay_share is None else changes.replay_share
    more = min(0.5, max(before * rules.replay_factor, rules.min_replay_share))
    return StageChanges(
        replay_share=more if can_replay else before,
        rate_factor=changes.rate_factor * rules.rate_factor,
        rollbacks=changes.rollbacks + 1,
        segments=(Segment(0, steps, attempt),),
    )


def extended(changes: StageChanges, *, first: int, end: int, attempt: int) -> StageChanges:
    """Return the changes of a stage that goes on from step `first` to `end`, in a new order.

    changes.segments must not be empty: the steps before `first` keep the order they were read in.
    """
    kept = read_before(changes.segments, first)
    lengthened = changes.with_segments((*kept, Segment(first, end, attempt)))
    return replace(lengthened, extensions=changes.extensions + 1)


def read_before(segments: Sequence[Segment], step: int) -> tuple[Segment, ...]:
    """Return the segments that say what the steps before `step` have read.

    One that itself read none of them stays where a later one leaves out its text.
    """
    own = [number for number, one in enumerate(segments, start=1) if one.first < step]
    return tuple(segments[: max(own, default=0)])


def parts_read(segments: Sequence[Segment]) -> list[tuple[int, int]]:
    """Return from which step and up to which each segment is read; of some that is nothing."""
    parts, end = [], segments[-1].end
    for segment in reversed(segments):
        parts.append((segment.first, max(segment.first, end)))
        end = min(end, segment.first)
    return parts[::-1]


def extension_steps(gate: GateConfig, base_steps: int) -> int:
    """Return the steps that one extension adds, at least one."""
    return max(1, round(gate.extension.fraction * base_steps))
