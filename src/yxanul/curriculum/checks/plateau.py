"""G6: does the stage still fall, or has it reached its plateau?"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from yxanul.config.schema import GateConfig
from yxanul.curriculum.checks.check import Action, Check, Result

Course = Sequence[tuple[int, float]]
"""(tokens of the stage, bits per byte), in order."""
_MORE = math.log(1.1)  # 10 % more tokens
_APART = 0.04
"""Share of the tokens between two points of a line: about 5 %, in whole steps."""


def forecast_gain(course: Course) -> float | None:
    """Return the share by which bits per byte would fall with 10 % more tokens.

    The line through the last point and the newest that is not close to it, in log tokens, is
    followed: of two that are, it would tell how they waver. None where there is no such pair after
    the stage's beginning.
    """
    if not course:
        return None
    end = course[-1]
    apart = [point for point in course if point[0] <= (1 - _APART) * end[0]]
    return _gain([*apart[-1:], end])


def plateau_check(
    courses: Mapping[str, Course], *, gate: GateConfig, may_extend: str | None
) -> Check:
    """G6 from the courses {own domain: scores of the last fifth of a phase}.

    The line through them in log tokens tells what 10 % more tokens would bring; of several domains
    the mean counts. may_extend: None, or why the stage cannot be lengthened; it then advances, for
    a stage that still learns has done nothing wrong.
    """
    gains = [gain for course in courses.values() if (gain := _gain(course)) is not None]
    if not gains:
        why = "fewer than two scores in the last fifth: nothing tells whether the stage still falls"
        return Check("G6", None, "not applicable", why)
    gain, least = sum(gains) / len(gains), gate.extension.min_gain
    told = f"10 % more tokens promise {-gain:+.2%}"
    if gain < least:
        return _check("pass", f"{told}, a plateau", gain=gain, least=least)
    if gate.extension.when == "short":
        why = f"{told}; extension.when is short, so the stage advances"
        return _check("pass", why, gain=gain, least=least)
    if may_extend is not None:
        return _check("pass", f"{told}, but {may_extend}", gain=gain, least=least)
    return _check("fail", f"{told}: the stage still falls", gain=gain, least=least)


def _check(result: Result, why: str, *, gain: float, least: float) -> Check:
    action: Action | None = "extend" if result == "fail" else None
    return Check("G6", None, result, why, action, value=gain, margin=least)


def _gain(course: Course) -> float | None:
    points = [(tokens, bpb) for tokens, bpb in course if tokens > 0]
    if len(points) < 2:
        return None
    x = np.log([float(tokens) for tokens, _ in points])
    y = np.asarray([bpb for _, bpb in points])
    slope = float(np.polyfit(x, y, 1)[0])
    return -slope * _MORE / float(y[-1])
