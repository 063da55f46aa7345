"""Units and how numbers are written for people: GiB = 2**30 bytes.

Nothing here computes; it only names and formats.
"""

from __future__ import annotations

KiB = 2**10
MiB = 2**20
GiB = 2**30

HOUR_S = 3600.0
_COUNTS = ((10**15, "P"), (10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))
_BYTES = ((2**40, "TiB"), (GiB, "GiB"), (MiB, "MiB"), (KiB, "KiB"))


def format_count(number: float) -> str:
    """Return a count with at most two decimals and K, M, B, T or P: 302882304 -> "302.88M"."""
    return _scaled(number, _COUNTS, space="")


def format_bytes(number: float) -> str:
    """Return bytes in binary units: 4845000000 -> "4.51 GiB"."""
    return _scaled(number, _BYTES, space=" ") if abs(number) >= KiB else f"{number:,.0f} B"


def format_hours(hours: float) -> str:
    """Return hours to three figures, no powers of ten: 215.4 -> "215", 6.098 -> "6.10"."""
    if 0 < hours < 0.005:
        return "~0"
    return _three_figures(hours)


def format_duration(seconds: float) -> str:
    """Return seconds in the two units that fit: 176 -> "2 min 56 s"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < HOUR_S:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def format_usd(usd: float) -> str:
    """Return dollars, whole ones from ten on: 344.2 -> "$344", 3.456 -> "$3.46"."""
    if 0 < usd < 0.005:
        return "~$0"
    return f"${usd:,.0f}" if usd >= 9.995 else f"${usd:.2f}"


def format_flops(per_s: float) -> str:
    """Write operations a second: "745 TFLOP/s", "80 GFLOP/s"."""
    return f"{per_s / 1e12:,.0f} TFLOP/s" if per_s >= 1e12 else f"{per_s / 1e9:,.0f} GFLOP/s"


def _three_figures(number: float) -> str:
    if number >= 99.95:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"


def _scaled(number: float, scales: tuple[tuple[int, str], ...], *, space: str) -> str:
    for size, name in scales:
        if abs(number) >= size:
            return f"{number / size:.2f}".rstrip("0").rstrip(".") + space + name
    return f"{number:.2f}".rstrip("0").rstrip(".")
