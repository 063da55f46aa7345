"""What a stage reads: the order of its chunks, its batches, and the ledger of its tokens.

A stage is read in segments: one, unless its gate lengthened it or a person went back into it. Each
has an order of its own, a pure function of (seed, stage, attempt, length).
"""

from collections.abc import Iterator, Sequence

import numpy as np

from yxanul.config.schema import chunk_tokens
from yxanul.curriculum.changes import Segment, parts_read
from yxanul.curriculum.stages import StagePlan, seq_len_at
from yxanul.data.batches.loader import StageLoader, StepRows
from yxanul.data.batches.mixture import mixed_order
from yxanul.data.batches.order import OrderKey, StageOrder, after_ramp
from yxanul.data.packing.chunks import ChunkTable
from yxanul.runfolder.lineage import attempt_at, branch_of, current_attempt
from yxanul.train.running.session import Session


def stage_segments(
    session: Session, plan: StagePlan, *, attempt: int | None = None
) -> tuple[Segment, ...]:
    """Return the parts of a stage as the current attempt, or another, stands on them.

    Steps are done in the last.
    """
    lineage = session.folder.lineage
    branch = branch_of(lineage, current_attempt(lineage) if attempt is None else attempt)
    return plan.segments(attempt_at(branch, plan.first_step))


class StageRows:
    """This rank's rows of a stage, step after step.

    The next step's may be read ahead, while the host waits for a card: packed ones of 524,288
    tokens take 40 ms. They are a pure function of the step, so none is lost if they are not taken.
    """

    def __init__(self, session: Session, plan: StagePlan, *, first: int) -> None:
        """Open the stage's texts; the step of the stage `first` is the next."""
        self._loader, self._loader_starts = stage_loader(session, plan)
        self._plan, self._ranks = plan, session.engine.processes
        self._next = first
        self._ahead: tuple[int, StepRows] | None = None

    def take(self) -> tuple[int, StepRows]:
        """Return the sequence length and the rows of the next step, and go on to the one after."""
        found = self._ahead or self._read()
        self._next, self._ahead = self._next + 1, None
        return found

    def read_ahead(self) -> None:
        """Read the next step's rows, if the stage has one and they are not there."""
        if self._ahead is None and self._next < self._plan.total_steps:
            self._ahead = self._read()

    def _read(self) -> tuple[int, StepRows]:
        training, total_steps = self._plan.config.training, self._plan.base_steps
        seq_len = seq_len_at(training, self._next, total_steps=total_steps)
        place, ranks = self._next - self._loader_starts, self._ranks
        return seq_len, self._loader.step_rows(
            place, seq_len, rank=ranks.rank, world_size=ranks.world_size
        )


def stage_loader(session: Session, plan: StagePlan) -> tuple[StageLoader, int]:
    """Return the reader of the stage's last segment, and the stage step that it calls 0."""
    segments = stage_segments(session, plan)
    last = segments[-1]
    loader = StageLoader(
        _order(session, plan, segments=segments),
        session.corpus.streams,
        chunks=stage_chunks(session, plan),
        chunk_tokens=chunk_tokens(session.config, plan.config),
        batch_tokens=plan.config.training.batch_tokens,
    )
    return loader, last.first


def stage_ledger(session: Session, plan: StagePlan) -> dict[str, int]:
    """Return {source: tokens} that a stage has read when it ends, replay and padding included."""
    chunk = chunk_tokens(session.config, plan.config)
    chunks_per_step = plan.config.training.batch_tokens // chunk
    segments = stage_segments(session, plan)
    tokens: dict[str, int] = {}
    for number, (first, end) in enumerate(parts_read(segments), start=1):
        order = _order(session, plan, segments=segments[:number])
        read = order.source_index[: (end - first) * chunks_per_step]
        counts = np.bincount(read, minlength=len(order.sources))
        for source, count in zip(order.sources, counts.tolist(), strict=True):
            tokens[source] = tokens.get(source, 0) + count * chunk
    return tokens


def padding(session: Session) -> Iterator[str]:
    """Yield a sentence for every stage that packs its documents: what it pays for that."""
    for plan in session.active:
        if plan.config.data.packing == "best_fit":
            order = _order(session, plan, segments=stage_segments(session, plan))
            held, chunk = stage_chunks(session, plan), chunk_tokens(session.config, plan.config)
            targets = sum(
                held[source].targets(order.chunk_index[order.source_index == number])
                for number, source in enumerate(order.sources)
            )
            share = 1 - targets / (len(order) * chunk)
            yield f"{plan.name}: documents are packed by best fit; {share:.2%} of it is padding"


def stage_chunks(session: Session, plan: StagePlan) -> ChunkTable:
    """Return the chunks of every source, cut as the stage says."""
    chunk = chunk_tokens(session.config, plan.config)
    return session.corpus.chunks(plan.config.data.packing, chunk)


def _order(session: Session, plan: StagePlan, *, segments: Sequence[Segment]) -> StageOrder:
    """Return the order of the last of the segments."""
    *before, segment = segments
    per_step = plan.config.training.batch_tokens // chunk_tokens(session.config, plan.config)
    steps, replay = _mixture(plan, segment)
    chunks = stage_chunks(session, plan)
    order = mixed_order(
        session.corpus.manifest,
        [stage.config for stage in (*session.stages[: plan.index], plan)],
        key=OrderKey(plan.config.data.seed, plan.name, segment.attempt),
        n_chunks=steps * per_step,
        chunks=chunks,
        replay=replay,
    )
    order = order.part((steps - segment.end + segment.first) * per_step, len(order))
    if not segment.left_out:
        return order
    trouble = order.part(0, 0)
    for number, (first, end) in enumerate(parts_read(before), start=1):
        begin, end = max(first, segment.first), min(end, segment.first + segment.left_out)
        if begin < end:
            read = _order(session, plan, segments=before[:number])
            part = read.part((begin - first) * per_step, (end - first) * per_step)
            trouble = trouble.followed_by(part)
    return order.without(trouble, chunks={name: len(chunks[name]) for name in order.sources})


def _mixture(plan: StagePlan, segment: Segment) -> tuple[int, tuple[float, float]]:
    """Return the steps of the order whose end a segment reads, and its replay share and ramp."""
    share, ramp = plan.config.data.replay_share, plan.config.data.ramp_fraction
    if segment.first == 0:
        return segment.end, (share, ramp)
    if not (ramp and segment.keeps_line):
        return segment.end - segment.first, (share, 0.0)
    # The line of the whole stage, and what it came to from there on.
    after = after_ramp(ramp, replayed=share)
    ramp *= plan.base_steps / segment.end
    return segment.end, (after + (1 - after) * ramp / 2, ramp)
