"""The gate in a run: evidence is gathered, the verdict written once, and told to every rank."""

from dataclasses import asdict, replace

from yxanul.curriculum.changes import extension_steps
from yxanul.curriculum.checks.budget import Spending, has_limit, spending_under
from yxanul.curriculum.course import own_course
from yxanul.curriculum.evidence import Asked, gather_evidence, scored_steps
from yxanul.curriculum.gate import decide, decide_plateau, gate_sha256
from yxanul.curriculum.stages import StagePlan, noise_steps
from yxanul.errors import ConfigError, CorruptDataError, UsageError
from yxanul.runfolder.lineage import first_step, register_gate
from yxanul.runfolder.rows import Row
from yxanul.runfolder.spending import read_payments
from yxanul.runfolder.verdicts import PLATEAU, find_plateau, read_verdicts, write_decision
from yxanul.train.gates.integrity import measure_integrity
from yxanul.train.running.session import Session
from yxanul.train.running.stage_data import stage_ledger
from yxanul.train.updates.state import Position
from yxanul.watch.pace import Pace

Failures = dict[str, str]
"""{domain or task: why its score could not be taken}."""


def fix_thresholds(session: Session, plan: StagePlan, *, attempt: int) -> None:
    """Record the hash of a stage's thresholds before its first step, or hold them against it.

    Other thresholds than the recorded ones are a `ConfigError`.
    """
    if not session.engine.processes.is_main:
        return
    wanted = gate_sha256(plan.config)
    fixed = register_gate(session.folder.lineage, plan.name, attempt=attempt, sha256=wanted)
    if fixed != wanted:
        raise ConfigError(
            f"{session.folder.lineage}: {plan.name} was begun with other gate or evaluation "
            f"settings, or by another version of yxanul, whose gates know others (sha256 "
            f"{fixed[:12]}, now {wanted[:12]}); a gate's thresholds may not change after its stage "
            "has started: use the old settings and version, or another --out"
        )


def recorded_verdict(session: Session, plan: StagePlan, *, position: Position) -> Row | None:
    """Return the verdict row that ended a stage, None when its gate has not been asked."""
    folder = session.folder
    row = read_verdicts(folder).get(plan.name)
    # A stage that was extended since was not ended by that verdict.
    if row is not None and row["step"] == plan.last_step:
        return row
    if first_step(folder.lineage) >= plan.last_step:
        raise UsageError(
            f"{folder.root} was begun after {plan.name}, from other weights; go on stage by "
            f"stage, with yxanul train --stage {position.stage}"
        )
    if position.step > plan.last_step:
        raise CorruptDataError(
            f"{folder.gates} has no verdict of {plan.name}, which the run has left behind; "
            "the file is damaged"
        )
    return None


def ask_gate(session: Session, plan: StagePlan, *, position: Position, failures: Failures) -> None:
    """Judge a stage whose end has been scored, and write the decision; the main rank does.

    failures {domain or task: why its score could not be taken}.
    """
    asked = replace(
        _asked(session, plan, position=position),
        integrity=measure_integrity(session, plan, position=position),
        failures=failures,
    )
    evidence = gather_evidence(session.folder, plan, asked=asked)
    decision = decide(plan.config.gate, evidence)
    scores = [
        session.stored_bpb(step) if has_scores else None
        for step, has_scores in ((plan.first_step, evidence.before), (plan.last_step, True))
    ]
    verdict = {
        "stage": plan.name,
        "attempt": position.attempt,
        "step": position.step,
        "verdict": decision.verdict,
        "why": decision.why,
        "bpb_before": scores[0],
        "bpb_after": scores[1],
        "gate_sha256": gate_sha256(plan.config),
        "ledger": stage_ledger(session, plan),
        "evidence": asked.as_row(),
    }
    checks = [asdict(check) for check in decision.checks]
    write_decision(session.folder, verdict, checks=checks)


def ask_plateau(session: Session, plan: StagePlan, *, position: Position) -> Row:
    """Return the answer to whether a stage may begin its decay, asked once; all ranks are told."""
    folder, processes = session.folder, session.engine.processes
    place = {"attempt": position.attempt, "step": position.step}
    if processes.is_main and find_plateau(folder, plan.name, **place) is None:
        asked = _asked(session, plan, position=position)
        decision = decide_plateau(plan.config.gate, gather_evidence(folder, plan, asked=asked))
        row = {
            "stage": plan.name,
            **place,
            "verdict": decision.verdict,
            "why": decision.why,
            "evidence": asked.as_row(),
        }
        checks = [asdict(check) for check in decision.checks]
        write_decision(folder, row, checks=checks, kind=PLATEAU)
    # Of a network's disk another machine may not see for a while what has just been written.
    written = find_plateau(folder, plan.name, **place) if processes.is_main else None
    found = processes.told_by_main(written, session.engine.device)
    if found is None:
        raise CorruptDataError(f"{folder.gates} lost the row that was just written to it")
    session.progress.say(f"plateau of {plan.name}: {found['verdict']} ({found['why']})")
    return found


def domains_to_score(session: Session, plan: StagePlan, *, stage_step: int) -> tuple[str, ...]:
    """Return the domains that are scored in the middle of a stage: its own.

    Where the noise between seeds was not measured, the last scores take the older domains too: how
    much they waver is then the noise.
    """
    own = session.own_domains(plan)
    if plan.config.gate.training_noise is not None or stage_step not in noise_steps(plan):
        return own
    return (*own, *session.older_domains(plan))


def _asked(session: Session, plan: StagePlan, *, position: Position) -> Asked:
    """Return what only the running session knows of a question to the gate."""
    names = [stage.name for stage in session.stages[: plan.index + 1]]
    asked = Asked(
        attempt=position.attempt,
        own_domains=session.own_domains(plan),
        older_domains=session.older_domains(plan),
        sources=tuple(session.corpus.identity(names)),
        tokens_seen=position.tokens_seen,
        spending=_spending(session, plan, position=position),
    )
    return replace(asked, scored=scored_steps(session.folder, plan, asked=asked))


def _spending(session: Session, plan: StagePlan, *, position: Position) -> Spending | None:
    """Return what the stored rows tell of the run's cost; None where it has no budget."""
    budget = session.config.optimization.budget
    if not has_limit(budget):
        return None
    pace = Pace(session.config.model)
    for payment in read_payments(session.folder.spending):
        pace.add(payment)
    own = own_course(session.stages, session.folder)
    found = pace.forecast(
        own,
        stage=plan.index - own[0].index,
        stage_step=position.stage_step,
        is_scored=position.step == plan.last_step,
    )
    if found is None:
        return spending_under(budget, pace.spent)
    steps = extension_steps(plan.config.gate, plan.base_steps)
    longer_s = pace.seconds_of(plan, steps)
    return spending_under(budget, pace.spent, left_s=found.left, extension_s=longer_s)
