"""The gate at a stage's end: evidence in, decision out. It touches no trainer and no file.

The verdict is the worst that any check asks for: stop > rollback > extend > warn > pass. The same
warning at two gates in a row counts as a failure (G1, and G3 where the value itself is over the
margin). A stage is rolled back and extended a limited number of times; a check that asks for more
asks for `stop`.
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
    losses: Sequence[float]
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
    if any(check.id == "G1" and check.action == "rollback" for check in checks):
        checks = [_begun_again(check) for check in checks]
    judged = (_second_warning(check, evidence.warned) for check in checks)
    return _verdict(tuple(_within_limits(check, gate, evidence=evidence) for check in judged))


def _missing(evidence: Evidence) -> str | None:
    if not evidence.own_domains:
        return "the stage has no domain of its own to score"
    wanted = (*evidence.own_domains, *evidence.older_domains)
    unscored = [domain for domain in wanted if domain not in evidence.before]
    if unscored:
        return f"the stage was begun without a score of {', '.join(unscored)}, with --max_steps"
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


def _begun_again(check: Check) -> Check:
    """A stage whose loss broke down is begun again, not stopped for what it did not learn."""
    if check.id == "G2" and check.action is not None:
        return replace(check, action="rollback")
    return check


def _second_warning(check: Check, warned: frozenset[tuple[str, str | None]]) -> Check:
    """Turn a warning that the gate before gave too into a failure.

    A retention whose value is within the margin only lacks documents, which no rollback brings.
    """
    is_again = check.result == "warn" and (check.id, check.subject) in warned
    if not is_again or check.id == "G2" or (check.value or 0.0) <= (check.margin or 0.0):
        return check
    why = f"{check.why}; the second such warning in a row counts as a failure"
    return replace(check, result="fail", action="rollback", why=why)


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
    why = f"{check.why}; {word} {times} times already, which is the limit"
    return replace(check, action="stop", why=why)


def _verdict(checks: tuple[Check, ...]) -> Decision:
    for action in _WORST_FIRST:
        asking = [check for check in checks if check.action == action]
        if asking:
            return Decision(action, _told(asking), checks)
    warnings = [check for check in checks if check.result == "warn"]
    if warnings:
        return Decision("warn", _told(warnings), checks)
    unjudged = [check.why for check in checks if check.result == "not run"]
    if unjudged:
        return Decision("not run", "; ".join(dict.fromkeys(unjudged)), checks)
    own = [check.why for check in checks if check.id == "G2"]
    return Decision("pass", f"bits per byte fell: {'; '.join(own)}", checks)


def _told(checks: Sequence[Check]) -> str:
    return "; ".join(f"{check.id} {check.why}" for check in checks)
