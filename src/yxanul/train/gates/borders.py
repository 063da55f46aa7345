"""What is done where a stage begins and ends: scores, samples, the gate.

What was scored, written or decided once at a step is not done again, so that a run that was killed
here comes to the same end. Nothing here ends with the step: a stop is heeded in the middle of a
score, which the next start takes anew, and what hangs is ended as a step is.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from yxanul.curriculum.stages import StagePlan
from yxanul.errors import NumericsError, StoppedOnRequest, UsageError
from yxanul.runfolder.lineage import current_branch
from yxanul.runfolder.rows import Row
from yxanul.runfolder.verdicts import read_verdicts
from yxanul.train.gates.gatekeeping import Failures, ask_gate, recorded_verdict
from yxanul.train.gates.samples import write_samples
from yxanul.train.running.session import Session
from yxanul.train.safety.ending import forget_ending
from yxanul.train.starting.ended import gate_stop
from yxanul.train.updates.state import Position


def open_stage(session: Session, plan: StagePlan, *, position: Position) -> dict[str, float]:
    """Score the weights that a stage begins with; return {domain: bits per byte}.

    A score that cannot be taken raises: nothing has been trained yet.
    """
    scores: dict[str, float] = {}
    _leave_if_asked(session, position)
    for domain in session.scorer.domains:
        with _taking(session, position, what=domain) as may_ask:
            if may_ask:
                scores.update(_scores(session, position, domains=(domain,)))
    for skill in plan.config.evaluation.skills:
        with _taking(session, position, what=skill.task) as may_ask:
            if may_ask:
                session.skills.score(session.answering, skill, position=position, is_end=False)
    if position.step == session.active[0].first_step:
        write_samples(session, position)
    return scores


def renew_scores(session: Session, position: Position) -> None:
    """Take scores again that were taken here over other documents than the run has now.

    A stage of which --max_steps leaves a part begins with what scores there are.
    """
    with session.answering.opened() as may_ask:
        if may_ask:
            branch = current_branch(session.folder.lineage)
            with session.watchdog.pieces("a score", f"a score at step {position.step}"):
                domains = session.scorer.outdated(position.step, branch=branch)
                _scores(session, position, domains=domains)


def close_stage(session: Session, plan: StagePlan, *, position: Position) -> Row:
    """Score the weights that a stage ended with, ask its gate once, and return the verdict.

    `stop` is a `GateStopError`. A score that could not be taken is evidence too: the verdict then
    is `stop`, and the weights, which are saved, stay as they are.
    """
    verdict = recorded_verdict(session, plan, position=position)
    if verdict is None:
        forget_ending(session.folder, session.engine.processes)
        # An attempt that began here, at another's checkpoint, has none of its own yet.
        session.save(position, permanent=True, wait=True)
        failures = _score_end(session, plan, position=position)
        write_samples(session, position)
        if session.engine.processes.is_main:
            with session.watchdog.pieces("a gate", f"the gate of {plan.name}"):
                session.record_spending(position)  # the gate judges by what is written down
                ask_gate(session, plan, position=position, failures=failures)
                verdict = read_verdicts(session.folder)[plan.name]
        # Of a network's disk another machine may not see for a while what has just been written.
        verdict = session.engine.processes.told_by_main(verdict, session.engine.device)
        assert verdict is not None
    session.progress.say(f"gate of {plan.name}: {verdict['verdict']} ({verdict['why']})")
    if verdict["verdict"] == "stop":
        mirror = session.config.optimization.checkpoint.mirror
        raise gate_stop(plan.name, verdict["why"], folder=session.folder, mirror=mirror)
    return verdict


def score_domains(
    session: Session, position: Position, *, domains: Sequence[str]
) -> dict[str, float]:
    """Score in the middle of a stage, with the help of the other ranks, which get nothing.

    It is part of the step before it, whose row has it: a stop waits for both.
    """
    with session.answering.opened() as may_ask:
        if not may_ask:
            return {}
        with session.watchdog.pieces("a score", f"a score at step {position.step}"):
            return _scores(session, position, domains=domains)


def stopped(session: Session, position: Position) -> StoppedOnRequest | UsageError:
    """Return the error of a run that is to stop and is saved.

    A `UsageError` where another machine has gone on with it: a supervisor must not start it again.
    """
    if session.mirroring.overtaken is not None:
        return UsageError(
            f"{session.mirroring.overtaken}. What was trained here is saved up to step "
            f"{position.step}"
        )
    return StoppedOnRequest(
        f"stopped by {session.stop.signal_name or 'another rank'} at step {position.step}, and "
        "saved; start the same command again to go on"
    )


def _score_end(session: Session, plan: StagePlan, *, position: Position) -> Failures:
    """Score every domain and skill; return {domain or task: why it could not be scored}."""
    failures: Failures = {}
    _leave_if_asked(session, position)
    for domain in session.scorer.domains:
        with _taking(session, position, what=domain) as may_ask:
            if may_ask:
                try:
                    _scores(session, position, domains=(domain,))
                except NumericsError as error:
                    failures[domain] = str(error)
    for skill in plan.config.evaluation.skills:
        with _taking(session, position, what=skill.task) as may_ask:
            if may_ask:
                why = session.skills.try_score(session.answering, skill, position=position)
                if why is not None:
                    failures[skill.task] = why
    return failures


@contextmanager
def _taking(session: Session, position: Position, *, what: str) -> Iterator[bool]:
    """Yield True on the main rank, which takes a score now, and is watched; the others help it.

    Whoever meets a wish to stop in there leaves the score. Then all ranks leave together.
    """
    with (
        suppress(StoppedOnRequest),
        session.answering.opened(may_leave=True) as may_ask,
    ):
        if may_ask:
            with session.watchdog.pieces("a score", f"{what}, scored at step {position.step},"):
                yield True
        else:
            yield False
    _leave_if_asked(session, position)


def _scores(session: Session, position: Position, *, domains: Sequence[str]) -> dict[str, float]:
    branch = current_branch(session.folder.lineage)
    return session.scorer.score(
        session.answering, step=position.step, branch=branch, domains=domains
    )


def _leave_if_asked(session: Session, position: Position) -> None:
    if session.asked_to_stop():
        at_end = any(position.step == plan.last_step for plan in session.stages)
        session.save(position, permanent=at_end, wait=True)
        raise stopped(session, position)
