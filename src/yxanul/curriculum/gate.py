"""The gate at a stage's end: evidence in, decision out. It touches no trainer and no file.

The verdict is the worst that any check asks for: stop > rollback > extend > warn > pass. The same
warning at two gates in a row counts as a failure (G1 with three bad steps at least, G3 and G4 where
the value itself is surely beyond the margin). A stage is rolled back and extended a limited number
of times; a check that asks for more asks for `stop`.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from yxanul.config.schema import GateConfig, StageConfig
from yxanul.curriculum.checks.budget import Spending, budget_check
from yxanul.curriculum.checks.check import Action, Check
from yxanul.curriculum.checks.contamination import contamination_checks
from yxanul.curriculum.checks.integrity import Integrity, integrity_check
from yxanul.curriculum.checks.level import level_check
from yxanul.curriculum.checks.plateau import Course, forecast_gain, plateau_check
from yxanul.curriculum.checks.progress import progress_check
from yxanul.curriculum.checks.retention import retention_checks
from yxanul.curriculum.checks.skills import SkillEvidence, skill_checks
from yxanul.curriculum.checks.stability import bad_steps, is_evidence, stability_check
from yxanul.curriculum.statistics.bootstrap import Change, relative_change
from yxanul.curriculum.statistics.noise import FEWEST_SCORES

Verdict = Literal["pass", "warn", "extend", "rollback", "stop", "not run"]
_WORST_FIRST: tuple[Action, ...] = ("stop", "rollback", "extend")


@dataclass(frozen=True)
class Evidence:
    """Everything a gate judges by, all of it stored in the run folder."""

    own_domains: tuple[str, ...]
    older_domains: tuple[str, ...]
    before: Mapping[str, Sequence[float]]
    """{domain: nats per document} at the stage's entry; empty when it was not scored."""
    after: Mapping[str, Sequence[float]]
    courses: Mapping[str, Course]
    """{own domain: (tokens of the stage, bits per byte)} in order, to where the gate is asked."""
    losses: Sequence[float]
    """Logged losses of the stage's steps."""
    integrity: Integrity | None
    skipped: frozenset[int] = frozenset()
    """Places in `losses` of steps that moved no weight."""
    late: int = 0
    """Steps whose loss or gradient was not finite, of the last that `stability` looks at."""
    steps: int | None = None
    """Of the stage; None = each of them was logged."""
    begins: int = 0
    """Place in `losses` of the first step behind a ramp from replay alone."""
    warned: frozenset[tuple[str, str | None]] = field(default_factory=frozenset)
    """(id, subject) of the warnings at the gate before."""
    rollbacks: int = 0
    extensions: int = 0
    skills: Sequence[SkillEvidence] = ()
    tokens_seen: int | None = None
    """Tokens of the run so far."""
    plateau: Mapping[str, Course] = field(default_factory=dict)
    """{own domain: its scores in the last fifth of the phase before a decay or the end}."""
    plateau_asked: bool = False
    """Whether the plateau was looked for before a final decay."""
    spending: Spending | None = None
    """None = the run has no budget."""
    noise: Mapping[str, float] = field(default_factory=dict)
    """{domain: relative deviation of a change, from how much its scores wavered}; where it is not
    known, there is none."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """{domain: why the stage's end has no score of it, or none over the documents of its entry}."""


@dataclass(frozen=True)
class Decision:
    """A verdict, the sentence that explains it, and the checks it follows from."""

    verdict: Verdict
    why: str
    checks: tuple[Check, ...]


def gate_sha256(stage: StageConfig) -> str:
    """Return the hash of all that a stage's gate will judge by, fixed before the stage begins."""
    rules = {name: getattr(stage, name).model_dump(mode="json") for name in ("gate", "evaluation")}
    # Where the items once came from: the run keeps the items themselves.
    del rules["evaluation"]["bench"]
    for curve in (rules["gate"]["level"] or {"forecast": {}})["forecast"].values():
        if curve["clock"] == "run":  # a curve that names no clock has the hash that it always had
            del curve["clock"]
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()


def decide(gate: GateConfig, evidence: Evidence) -> Decision:
    """Return the verdict on a stage; scores that cannot be compared are a `stop`.

    Without a domain of its own, or without scores from the stage's entry, progress cannot be
    judged: `not run`, unless another check asks for more.
    """
    checks = [integrity_check(evidence.integrity), _stability(gate, evidence)]
    missing = _missing(evidence)
    if missing is None:
        checks += domain_checks(gate, evidence)
    else:
        checks += [Check(name, None, "not run", missing) for name in ("G2", "G3")]
        checks += _unscored(evidence).values()
    checks += skill_checks(evidence.skills)
    checks += _level_checks(gate, evidence)
    checks.append(_plateau(gate, evidence, is_end=True))
    checks += contamination_checks(evidence.skills)
    checks.append(budget_check(evidence.spending))
    if any(check.id == "G1" and check.action == "rollback" for check in checks):
        checks = [_begun_again(check) for check in checks]
    judged = (_second_warning(check, evidence) for check in checks)
    return _verdict(tuple(_within_limits(check, gate, evidence=evidence) for check in judged))


def decide_plateau(gate: GateConfig, evidence: Evidence) -> Decision:
    """Return whether a stage is lengthened before its final decay begins: `extend` or `pass`."""
    check = _plateau(gate, evidence, is_end=False)
    return Decision("extend" if check.action == "extend" else "pass", check.why, (check,))


def _stability(gate: GateConfig, evidence: Evidence) -> Check:
    return stability_check(
        evidence.losses,
        gate,
        skipped=evidence.skipped,
        late=evidence.late,
        steps=evidence.steps,
        begins=evidence.begins,
    )


def _missing(evidence: Evidence) -> str | None:
    if not evidence.own_domains:
        return "the stage has no domain of its own to score"
    wanted = (*evidence.own_domains, *evidence.older_domains)
    unscored = [domain for domain in wanted if domain not in evidence.before]
    if unscored:
        return f"the stage was begun without a score of {', '.join(unscored)}, with --max_steps"
    return None


def domain_checks(gate: GateConfig, evidence: Evidence) -> list[Check]:
    """Return G2 of the own domains and G3 of the older ones, all of which were scored before."""
    found = _domains(evidence)
    noise = {domain: _noise(gate, evidence, domain=domain) for domain in found}
    changes: dict[str, Change] = {}
    unjudged = _unscored(evidence)
    for domain, check in found.items():
        if domain in unjudged:
            continue
        pair = evidence.before[domain], evidence.after[domain]
        try:
            changes[domain] = relative_change(*pair, noise=noise[domain])
        except ValueError as error:
            unjudged[domain] = Check(check, domain, "fail", f"{domain}: {error}", "stop")
    own = [
        unjudged.get(domain)
        or progress_check(
            domain,
            changes[domain],
            gate=gate,
            forecast_gain=forecast_gain(evidence.courses.get(domain, ())),
            noise=noise[domain],
        )
        for domain in evidence.own_domains
    ]
    older = {domain: changes[domain] for domain in evidence.older_domains if domain in changes}
    if all(check.result == "not applicable" for check in own):
        # Then nobody knows whether the stage did what it was for.
        own = [replace(check, result="warn") for check in own]
    kept = {check.subject: check for check in retention_checks(older, gate=gate, noise=noise)}
    checks = own + [unjudged.get(domain) or kept[domain] for domain in evidence.older_domains]
    return [_without_noise(check, gate, evidence=evidence) for check in checks]


def _domains(evidence: Evidence) -> dict[str, str]:
    """Return {domain: the check that judges it}."""
    own, older = evidence.own_domains, evidence.older_domains
    return {**dict.fromkeys(own, "G2"), **dict.fromkeys(older, "G3")}


def _unscored(evidence: Evidence) -> dict[str, Check]:
    """Return {domain: check} of those without a score at the stage's end, whatever its entry had.

    Weights that could not be scored are no ground to go on from: each asks for `stop`.
    """
    lost = {d: f"{d} has no score at the stage's end" for d in _domains(evidence)}
    lost = {d: why for d, why in lost.items() if d not in evidence.after}
    return {
        domain: Check(check, domain, "not run", why, "stop")
        for domain, check in _domains(evidence).items()
        if (why := evidence.failures.get(domain) or lost.get(domain)) is not None
    }


def _noise(gate: GateConfig, evidence: Evidence, *, domain: str) -> float:
    """Return the relative deviation of a change by training: between seeds, or between scores."""
    if gate.training_noise is not None:
        return gate.training_noise
    return evidence.noise.get(domain, 0.0)


def _without_noise(check: Check, gate: GateConfig, *, evidence: Evidence) -> Check:
    """Let a check whose bounds hold the documents' noise alone say so."""
    has_bounds = check.low is not None and math.isfinite(check.low)
    if not has_bounds or gate.training_noise is not None or check.subject in evidence.noise:
        return check
    why = f"{check.why} (noise of training not known: fewer than {FEWEST_SCORES} scores)"
    return replace(check, why=why)


def _level_checks(gate: GateConfig, evidence: Evidence) -> list[Check]:
    level, tokens = gate.level, evidence.tokens_seen
    if level is None or tokens is None:
        return [Check("G5", None, "not applicable", "the stage has no forecast (gate.level)")]
    ends = {d: course[-1] for d, course in evidence.courses.items() if course}
    known = [domain for domain in evidence.own_domains if domain in level.forecast]
    return [
        level_check(
            domain,
            ends[domain][1],
            tokens={"run": tokens, "stage": ends[domain][0]}[level.forecast[domain].clock],
            level=level,
        )
        for domain in known
        if domain in ends and domain not in evidence.failures
    ] or [Check("G5", None, "not applicable", "no own domain has a forecast in gate.level")]


def _plateau(gate: GateConfig, evidence: Evidence, *, is_end: bool) -> Check:
    if is_end and evidence.plateau_asked:
        why = "it was asked before the decay, which lowers the loss by itself"
        return Check("G6", None, "not applicable", why)
    most, reason = gate.extension.max_extensions, None
    if evidence.extensions >= most:
        reason = f"it was extended {evidence.extensions} times, and {most} is the limit"
    elif evidence.spending is not None and not evidence.spending.is_left_to_extend:
        reason = "the budget does not last for more"
    return plateau_check(evidence.plateau, gate=gate, may_extend=reason)


def _begun_again(check: Check) -> Check:
    """A stage whose loss broke down is begun again, not stopped for what it did not learn."""
    if check.id in ("G2", "G5", "G6") and check.action is not None:
        return replace(check, action="rollback")
    return check


def _second_warning(check: Check, evidence: Evidence) -> Check:
    """Turn a warning that the gate before gave too into a failure, where training can mend it.

    A loss that is not surely over its margin only lacks documents, which no rollback brings: two
    models that are alike are over it in one of several domains every other time. What G2, G5, G7
    and G8 warn of, another attempt at the same stage would not change.
    """
    is_again = check.result == "warn" and (check.id, check.subject) in evidence.warned
    if not is_again or not _is_over(check, evidence):
        return check
    why = f"{check.why}; the second such warning in a row counts as a failure"
    return replace(check, result="fail", action="rollback", why=why)


def _is_over(check: Check, evidence: Evidence) -> bool:
    """Tell whether training surely brought the value beyond its margin; G4 counts gains."""
    value, margin = check.value or 0.0, check.margin or 0.0
    if check.id == "G1":
        return value > margin and is_evidence(bad_steps(evidence.losses, evidence.skipped))
    if check.id == "G3":
        return (value if check.low is None else check.low) > margin
    return check.id == "G4" and (value if check.high is None else check.high) < margin


def _within_limits(check: Check, gate: GateConfig, *, evidence: Evidence) -> Check:
    """Let a check ask for `stop` where what it asks for has been done as often as it may."""
    done = {
        "rollback": ("rolled back", evidence.rollbacks, gate.rollback.max_rollbacks),
        "extend": ("extended", evidence.extensions, gate.extension.max_extensions),
    }
    if check.action not in done:
        return check
    word, times, most = done[check.action]
    if times < most:
        return check
    why = f"{check.why}; it was {word} {times} times, and {most} is the limit"
    return replace(check, action="stop", why=why)


def _verdict(checks: tuple[Check, ...]) -> Decision:
    for action in _WORST_FIRST:
        asking = [check for check in checks if check.action == action]
        if asking:
            return Decision(action, _told(asking), checks)
    warnings = [check for check in checks if check.result == "warn"]
    if warnings:
        return Decision("warn", _told(warnings), checks)
    unjudged = [f"{check.id} {check.why}" for check in checks if check.result == "not run"]
    if unjudged:
        return Decision("not run", "; ".join(dict.fromkeys(unjudged)), checks)
    own = [check.why for check in checks if check.id == "G2" and check.result == "pass"]
    return Decision("pass", f"bits per byte fell: {'; '.join(own)}", checks)


def _told(checks: Sequence[Check]) -> str:
    return "; ".join(f"{check.id} {check.why}" for check in checks)
