"""G3: were the older domains kept? A family of guards, judged together."""

from collections.abc import Mapping

from yxanul.config.schema import GateConfig
from yxanul.curriculum.checks.check import Check, figures, too_few
from yxanul.curriculum.statistics.bootstrap import Change
from yxanul.curriculum.statistics.family import failing


def retention_checks(
    changes: Mapping[str, Change], *, gate: GateConfig, noise: Mapping[str, float]
) -> list[Check]:
    """G3 for the older domains {domain: change of its bits per byte}, which must not rise.

    A domain is forgotten when it surely rose by more than gate.retention_limit; how sure, is
    Holm's to say over all of them. noise {domain: relative deviation of training in its bounds}.
    """
    limit = gate.retention_limit
    members = [lambda at, c=change: c.low_at(at) > limit for change in changes.values()]
    forgotten = failing(members)
    return [
        _check(domain, change, gate=gate, is_forgotten=i in forgotten, noise=noise.get(domain, 0.0))
        for i, (domain, change) in enumerate(changes.items())
    ]


def _check(
    domain: str, change: Change, *, gate: GateConfig, is_forgotten: bool, noise: float
) -> Check:
    told = f"{domain} {change.value:+.2%}"
    margin, limit = gate.retention_margin, gate.retention_limit
    columns = figures(change, margin, noise=noise)
    if not change.is_known:
        return Check("G3", domain, "not applicable", too_few(domain, change), **columns)
    at_most = f"{told}, at most {change.high:+.2%}"
    if change.high <= margin:
        return Check("G3", domain, "pass", f"{at_most}, where {margin:+.2%} is allowed", **columns)
    if is_forgotten:
        at_least = f"{told}, at least {change.low:+.2%}"
        why = f"{at_least}: forgotten, over {limit:+.2%} with 95 % confidence"
        return Check("G3", domain, "fail", why, "rollback", **columns)
    why = f"{at_most}: not surely within {margin:+.2%} and not surely over {limit:+.2%}"
    return Check("G3", domain, "warn", why, **columns)
