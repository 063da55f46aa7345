"""G2: did the stage's own domains improve?"""

from yxanul.config.schema import GateConfig
from yxanul.curriculum.checks.check import Check, figures, too_few
from yxanul.curriculum.statistics.bootstrap import Change


def progress_check(
    domain: str,
    change: Change,
    *,
    gate: GateConfig,
    forecast_gain: float | None,
    noise: float = 0.0,
) -> Check:
    """G2 for one own domain, whose bits per byte must fall by gate.min_improvement.

    forecast_gain: share by which they would still fall with 10 % more tokens; None = not known.
    noise: relative deviation of training that is in the change's bounds.
    """
    floor = -gate.min_improvement
    columns = figures(change, floor, noise=noise)
    told = f"{domain} {change.value:+.2%}"
    if not change.is_known:
        return Check("G2", domain, "not applicable", too_few(domain, change), **columns)
    if change.high < floor:
        return Check("G2", domain, "pass", f"{told}, wanted {floor:+.2%}", **columns)
    if change.value < floor:
        why = f"{told}, wanted {floor:+.2%}, but the interval reaches {change.high:+.2%}"
        return Check("G2", domain, "warn", why, **columns)
    why = f"{told} did not fall by {gate.min_improvement:.2%}"
    is_falling = forecast_gain is not None and forecast_gain >= gate.extension.min_gain
    # What got worse than at the stage's entry is no stage that needs a little more.
    if forecast_gain is not None and is_falling and change.value <= 0:
        why += f", but 10 % more tokens promise {-forecast_gain:+.2%}"
        return Check("G2", domain, "fail", why, "extend", **columns)
    return Check("G2", domain, "fail", why, "stop", **columns)
