"""The gate in a run: evidence is gathered, the verdict written once, and read by every rank."""

from dataclasses import asdict

from yxanul.curriculum.evidence import evidence_row, gather_evidence
from yxanul.curriculum.gate import decide, gate_sha256
from yxanul.curriculum.stages import StagePlan
from yxanul.errors import ConfigError, CorruptDataError, UsageError
from yxanul.runfolder.lineage import first_step, register_gate
from yxanul.runfolder.rows import Row
from yxanul.runfolder.verdicts import read_verdicts, write_decision
from yxanul.train.integrity import measure_integrity
from yxanul.train.reading import stage_ledger
from yxanul.train.session import Session
from yxanul.train.state import Position


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
            f"settings (sha256 {fixed[:12]}, now {wanted[:12]}); a gate's thresholds may not "
            "change after its stage has started: use the old ones, or another --out"
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


def ask_gate(session: Session, plan: StagePlan, *, position: Position) -> None:
    """Judge a stage whose end has been scored, and write the decision; the main rank does."""
    own = session.own_domains(plan)
    earlier = [session.own_domains(stage) for stage in session.stages[: plan.index]]
    older = dict.fromkeys(domain for domains in earlier for domain in domains if domain not in own)
    evidence = gather_evidence(
        session.folder,
        plan,
        attempt=position.attempt,
        domains=(own, tuple(older)),
        integrity=measure_integrity(session, plan, position=position),
    )
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
        "evidence": evidence_row(evidence),
    }
    checks = [asdict(check) for check in decision.checks]
    write_decision(session.folder, verdict, checks=checks)
