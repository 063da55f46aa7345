"""The gate at a stage's end: evidence in, decision out. It touches no trainer and no file.

The verdict is the worst that any check asks for: stop > rollback > extend > warn > pass. The same
warning at two gates in a row counts as a failure. A stage is rolled back and extended a limited
number of times; what is asked for beyond that is `stop`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from yxanul.config.schema import GateConfig, StageConfig
from yxanul.curriculum.bootstrap import relative_change
from yxanul.curriculum.checks import (
    Action,
    Check,
    Integrity,
    forecast_gain,
    integrity_check,
    progress_check,
    retention_check,
    stability_check,
)

Verdict = Literal["pass", "warn", "extend", "rollback", "stop", "not run"]
_WORST_FIRST: tuple[Action, ...] = ("stop", "rollback", "extend")
# What a warning asks for when it comes a second time.
_ACTION_OF: dict[str, Action] = {"G1": "rollback", "G2": "stop", "G3": "rollback"}


@dataclass(frozen=True)
class Evidence:
    """Everything a gate judges by, all of it stored in the run folder."""

    own_domains: tuple[str, ...]
    older_domains: tuple[str, ...]
    before: Mapping[str, Sequence[float]]
    """{domain: nats per document} at the stage's entry; empty when it was not scored."""
    after: Mapping[str, Sequence[float]]
    courses: Mapping[str, Sequence[tuple[int, float]]]
    """{own domain: (tokens of the stage, bits per byte)} in order."""
    losses: Sequence[float | None]
    """Logged losses of the stage's steps."""
    integrity: Integrity | None
    warned: frozenset[tuple[str, str | None]] = field(default_factory=frozenset)
    """(id, subject) of the warnings at the gate before."""
    rollbacks: int = 0
    extensions: int = 0


@dataclass(frozen=True)
class Decision:
    """A verdict, the sentence that explains it, and the checks it follows from."""

    verdict: Verdict
    why: str
    checks: tuple[Check, ...]


def gate_sha256(stage: StageConfig) -> str:
    """Return the hash of all that a stage's gate will judge by, fixed before the stage begins."""
    rules = {name: getattr(stage, name).model_dump(mode="json") for name in ("gate", "evaluation")}
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()


def decide(gate: GateConfig, evidence: Evidence) -> Decision:
    """Return the verdict on a stage; a domain whose scores cannot be compared is a `stop`.

    Without a domain of its own, or without scores from the stage's entry, progress cannot be
    judged: `not run`, unless another check asks for more.
    """
    checks = [integrity_check(evidence.integrity), stability_check(evidence.losses, gate)]
    missing = _missing(evidence)
    if missing is None:
        checks += _domain_checks(gate, evidence)
    else:
        checks.append(Check("G2", None, "not run", missing))
        checks.append(Check("G3", None, "not run", missing))
    judged = tuple(_second_warning(check, evidence.warned) for check in checks)
    return _verdict(gate, evidence, checks=judged)


def _missing(evidence: Evidence) -> str | None:
    if not evidence.own_domains:
        return "the stage has no domain of its own to score"
    if not evidence.before:
        return "the stage was begun without a score, with --max_steps"
    return None


def _domain_checks(gate: GateConfig, evidence: Evidence) -> list[Check]:
    checks = []
    noise = gate.training_noise or 0.0
    for domain in (*evidence.own_domains, *evidence.older_domains):
        own = domain in evidence.own_domains
        pair = evidence.before.get(domain, ()), evidence.after.get(domain, ())
        try:
            change = relative_change(*pair, training_noise=noise)
        except ValueError as error:
            why = f"{domain}: {error}"
            checks.append(Check("G2" if own else "G3", domain, "fail", why, "stop"))
            continue
        if own:
            gain = forecast_gain(evidence.courses.get(domain, ()))
            checks.append(progress_check(domain, change, gate=gate, forecast_gain=gain))
        else:
            checks.append(retention_check(domain, change, gate=gate))
    return checks


def _second_warning(check: Check, warned: frozenset[tuple[str, str | None]]) -> Check:
    if check.result != "warn" or (check.id, check.subject) not in warned:
        return check
    why = f"{check.why}; the second such warning in a row counts as a failure"
    return replace(check, result="fail", action=_ACTION_OF[check.id], why=why)


def _verdict(gate: GateConfig, evidence: Evidence, *, checks: tuple[Check, ...]) -> Decision:
    for action in _WORST_FIRST:
        asking = [check for check in checks if check.action == action]
        if not asking:
            continue
        why = "; ".join(f"{check.id} {check.why}" for check in asking)
        spent = _spent(action, gate, evidence=evidence)
        return Decision("stop" if spent else action, f"{why}{spent}", checks)
    warnings = [check for check in checks if check.result == "warn"]
    if warnings:
        why = "; ".join(f"{check.id} {check.why}" for check in warnings)
        return Decision("warn", why, checks)
    unjudged = [check.why for check in checks if check.result == "not run"]
    if unjudged:
        return Decision("not run", "; ".join(dict.fromkeys(unjudged)), checks)
    own = [check.why for check in checks if check.id == "G2"]
    return Decision("pass", f"bits per byte fell: {'; '.join(own)}", checks)


def _spent(action: Action, gate: GateConfig, *, evidence: Evidence) -> str:
    """Return why an action is not to be had any more, "" where it is."""
    if action == "rollback" and evidence.rollbacks >= gate.rollback.max_rollbacks:
        return f"; rolled back {evidence.rollbacks} times already, which is the limit"
    if action == "extend" and evidence.extensions >= gate.extension.max_extensions:
        return f"; extended {evidence.extensions} times already, which is the limit"
    return ""
