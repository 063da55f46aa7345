"""The interval of one small rate, such as 3 of 164 programs."""

import math
from statistics import NormalDist

Z_95 = NormalDist().inv_cdf(0.975)
"""Standard errors to either side of a 95 % interval."""


def wilson(passed: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate of `passed` in n items (Wilson 1927); n from 1.

    Unlike the normal one it stays in 0 to 1 and says something at 0 of n: about 3.8 / n, the rule
    of three for two sides.
    """
    if n < 1 or not 0 <= passed <= n:
        raise ValueError(f"{passed} of {n} items is no rate")
    z, rate = Z_95, passed / n
    middle = rate + z * z / (2 * n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # Rounding must not move a bound past the rate itself at 0 and n of n.
    return max(0.0, min(rate, (middle - half) / scale)), min(
        1.0, max(rate, (middle + half) / scale)
    )
