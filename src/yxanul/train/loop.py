"""The loop: one step after another, in a visible order.

Which stage? One step; score if due; write the row; save if due; asked to stop? Before a final decay
it is asked whether the stage still falls; at its end the gate is asked, and its verdict acted on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from yxanul.curriculum.checks.stability import FIRST_STEPS
from yxanul.curriculum.stages import StagePlan, score_steps
from yxanul.data.batches.loader import StepRows
from yxanul.errors import DiskError
from yxanul.failpoints import failpoint
from yxanul.optim.optimizers import LearningRates
from yxanul.optim.schedule import learning_rate_factor
from yxanul.runfolder.lineage import DIVERGED
from yxanul.runfolder.rows import Row, append_row
from yxanul.runfolder.verdicts import read_checks
from yxanul.train.attempts.divergence import go_back
from yxanul.train.attempts.entering import act_on
from yxanul.train.gates.borders import (
    close_stage,
    open_stage,
    renew_scores,
    score_domains,
    stopped,
)
from yxanul.train.gates.gatekeeping import ask_plateau, domains_to_score, fix_thresholds
from yxanul.train.outward.trackers import Trackers
from yxanul.train.running.session import Session
from yxanul.train.running.stage_data import StageRows
from yxanul.train.safety.ending import forget_ending
from yxanul.train.starting.request import RunOutcome, StageOutcome
from yxanul.train.updates.clock import StepClock, wait_for_update
from yxanul.train.updates.guarded import UNUSUAL, GuardedStep, guarded_step
from yxanul.train.updates.state import Position


@dataclass
class TrainingLoop:
    """Trains a session's stages from `position` on, which it moves."""

    session: Session
    position: Position
    trackers: Trackers
    clock: StepClock = field(init=False)
    _is_row_missing: bool = False

    def __post_init__(self) -> None:
        engine = self.session.engine
        self.clock = StepClock(wait_for_update(engine.processes, engine.device))

    def run(self) -> RunOutcome:
        """Train every stage that is left; return what was reached.

        Raises `StoppedOnRequest` after saving, and `GateStopError` when a gate says stop.
        """
        session = self.session
        outcome = RunOutcome(session.folder.root)
        done = 0
        with self._closing():
            while done < len(session.active):
                plan = session.active[done]
                ended = self._visit_stage(plan)
                if ended is None:
                    why = "stopped by --max_steps"
                    attempt = self.position.attempt
                    cut = StageOutcome(plan.name, "not run", why, None, None, attempt)
                    outcome.stages.append(cut)
                    break
                if ended["verdict"] in ("extend", "rollback", DIVERGED):
                    self.position = self._begin_again(plan, ended)
                    self.trackers.forget_after(self.position.step)
                    continue
                outcome.stages.append(
                    StageOutcome.from_row(ended, checks=read_checks(session.folder, ended))
                )
                done += 1
        outcome.steps, outcome.tokens_seen = self.position.step, self.position.tokens_seen
        outcome.training_s = self.clock.seconds
        outcome.evaluation_s = session.scoring_s
        outcome.tokens_per_s = self.clock.tokens_per_s
        outcome.mfu = self.clock.mfu(session.peak_of_all)
        return outcome

    @contextmanager
    def _closing(self) -> Iterator[None]:
        """Do the last things after the block; what ends it stays the reason if they fail too."""
        try:
            yield
        except BaseException:
            try:
                self._close()
            except Exception as second:  # noqa: BLE001  (whatever it is, it is said)
                self.session.progress.say(f"and while the run ended: {second}")
            raise
        self._close()

    def _close(self) -> None:
        session = self.session
        session.engine.processes.tell_stopping()
        session.progress.close()
        if session.engine.processes.is_main:
            with session.watchdog.watching("a checkpoint", "the last checkpoint"):
                session.saver.close()
            # What was scored or saved since the last row of metrics was paid for as well.
            with session.watchdog.watching("a row"), self._rows_may_be_missing():
                session.record_spending(self.position)

    def _begin_again(self, plan: StagePlan, ended: Row) -> Position:
        """Begin the attempt that a gate or a divergence asks for; return where it stands."""
        if ended["verdict"] == DIVERGED:
            return go_back(self.session, self.position, plan=plan, why=ended["why"])
        return act_on(self.session, self.position, plan=plan, verdict=ended)

    def _visit_stage(self, plan: StagePlan) -> Row | None:
        """Train a stage to its end and ask its gate; None when --max_steps ended it before."""
        position = self.position
        fix_thresholds(self.session, plan, attempt=position.attempt)
        # Of the stage before, or, where stages have changed, one that refuses to be left.
        if position.step < plan.last_step and position.stage != plan.name:
            position.enter(plan)
        if position.step < plan.last_step:
            cut = self._train_stage(plan)
            if cut is not None:
                return cut
            if position.step < plan.last_step:
                return None
        return close_stage(self.session, plan, position=position)

    def _train_stage(self, plan: StagePlan) -> Row | None:
        """Train one stage to its end, or to where --max_steps ends it.

        Returns the plateau row that asks for a longer stage before its decay begins, or why the run
        must go back, else None.
        """
        session, position = self.session, self.position
        forget_ending(session.folder, session.engine.processes)
        limit = min(plan.last_step, session.step_limit)
        if position.stage_step == 0:
            if limit == plan.last_step:
                self._show(plan, open_stage(session, plan, position=position))
            else:
                renew_scores(session, position)
        batches = StageRows(session, plan, first=position.stage_step)
        session.progress.begin(plan.name, done=position.stage_step, total=plan.total_steps)
        asked = self._do_steps(plan, batches, limit=limit)
        if asked is not None:
            return asked
        session.save(position, permanent=position.step == plan.last_step, wait=True)
        if session.asked_to_stop():
            raise stopped(session, position)
        if position.step < limit:
            raise session.budget.stop(f"step {position.step} of {plan.name}")
        return None

    def _do_steps(self, plan: StagePlan, batches: StageRows, *, limit: float) -> Row | None:
        """Do steps up to `limit` or until somebody asks to stop.

        Returns what asks for a longer stage or for an earlier checkpoint, else None.
        """
        session, position = self.session, self.position
        steps_to_score = score_steps(plan)
        while position.step < limit and not self._must_leave():
            if position.stage_step == plan.plateau_asked_at:
                asked = ask_plateau(session, plan, position=position)
                if asked["verdict"] == "extend":
                    return asked
            self.clock.begin()
            seq_len, rows = batches.take()
            rates = _rates(plan, position.stage_step)
            step = self._step(
                plan, rows, rates=rates, seq_len=seq_len, meanwhile=batches.read_ahead
            )
            position.advance(plan.config.training.batch_tokens)
            with session.watchdog.watching("a step", f"step {position.step}"):
                self.clock.end(plan.config.training.batch_tokens, session.flops_per_token(rows))
            bpb = None
            if position.stage_step in steps_to_score:
                domains = domains_to_score(session, plan, stage_step=position.stage_step)
                bpb = score_domains(session, position, domains=domains)
                self._show(plan, bpb)
            self._write_row(
                plan,
                {
                    "seq_len": seq_len,
                    "loss": step.result.loss,
                    "grad_norm": step.result.grad_norm,
                    "learning_rate": rates.matrices,
                    "embedding_learning_rate": rates.embedding,
                    "norm_learning_rate": rates.norms,
                    "bpb": bpb,
                    **step.unusual,
                },
            )
            if step.skipped and (why := session.vigil.divergence()) is not None:
                return {"verdict": DIVERGED, "why": why}
            self._save_if_due(plan, limit)
        return None

    def _step(
        self,
        plan: StagePlan,
        rows: StepRows,
        *,
        rates: LearningRates,
        seq_len: int,
        meanwhile: Callable[[], None],
    ) -> GuardedStep:
        """Do one update, or tell why not; what is not usual is said and remembered."""
        session, position = self.session, self.position
        session.vigil.begin_phase(f"{plan.name}, attempt {position.attempt}, {seq_len} tokens")
        number = position.step + 1
        with session.watchdog.watching("a step", f"step {number}"):
            step = guarded_step(
                session.engine, rows, rates=rates, vigil=session.vigil, meanwhile=meanwhile
            )
            failpoint("step.updated")
        session.vigil.record(position.step, step.result.loss, was_skipped=step.skipped is not None)
        for told in (step.hardware, step.skipped and f"{step.skipped}: no weight was moved"):
            if told:
                session.progress.say(f"step {number} of the run: {told}")
        return step

    def _must_leave(self) -> bool:
        """Tell whether a person or the budget ends the run here; all ranks answer alike."""
        session = self.session
        if session.asked_to_stop():
            return True
        return session.budget.is_limited and session.agreed(session.budget.is_spent)

    def _save_if_due(self, plan: StagePlan, limit: float) -> None:
        """Save by the clock, and for good where a longer stage would leave this one."""
        session, position = self.session, self.position
        every = session.config.optimization.watch.weights_every_steps
        if every is not None and position.step % every == 0:
            session.compare_weights(position.step)
        if position.stage_step == plan.decay_start:
            session.save(position, permanent=True, wait=True)
        elif position.step < limit and session.is_kept_for_good(position):
            session.save(position, permanent=True, wait=False)
        elif position.step < limit and session.is_save_due(position):
            session.save(position, permanent=False, wait=False)

    def _show(self, plan: StagePlan, bpb: dict[str, float]) -> None:
        """Let the following lines of progress carry the stage's own bits per byte."""
        own = self.session.own_domains(plan)
        self.session.progress.scored({d: value for d, value in bpb.items() if d in own})

    def _write_row(self, plan: StagePlan, measured: dict[str, Any]) -> None:
        """Show the step; write its row when one is due, scored, among the first, or the last."""
        session, position, clock = self.session, self.position, self.clock
        if not session.engine.processes.is_main:
            return
        tokens_per_s = plan.config.training.batch_tokens / clock.step_s
        row = {
            **position.as_row(),
            **measured,
            "step_s": clock.step_s,
            "tokens_per_s": tokens_per_s,
            "mfu": clock.step_mfu(session.peak_of_all),
        }
        done, left = position.stage_step, plan.total_steps - position.stage_step
        session.progress.step(
            plan.name,
            done=done,
            total=plan.total_steps,
            row=row,
            outlook=session.forecast(plan, position),
        )
        due = done % session.config.optimization.logging.every_steps == 0 or done <= FIRST_STEPS
        is_unusual = measured["bpb"] is not None or not measured.keys().isdisjoint(UNUSUAL)
        if due or left == 0 or is_unusual:
            self._log(row)

    def _log(self, row: Row) -> None:
        """Write the row."""
        session = self.session
        # The run's disk may be what hangs.
        with session.watchdog.watching("a row"), self._rows_may_be_missing():
            append_row(session.folder.metrics, row)
            session.record_spending(self.position)
        self.trackers.log(row)

    @contextmanager
    def _rows_may_be_missing(self) -> Iterator[None]:
        """Let a full disk cost rows, which is told once, and not the run or how it ends."""
        try:
            yield
        except DiskError as error:
            if not self._is_row_missing:
                self.session.progress.say(f"rows are missing from here on: {error}")
            self._is_row_missing = True


def _rates(plan: StagePlan, stage_step: int) -> LearningRates:
    training = plan.config.training
    factor = learning_rate_factor(
        training, stage_step, total_steps=plan.base_steps, extensions=plan.extension_ends
    )
    matrices = training.learning_rate
    embedding = training.embedding_learning_rate or matrices
    norms = training.norm_learning_rate or matrices
    return LearningRates(matrices * factor, embedding * factor, norms * factor)
