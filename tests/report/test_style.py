"""The page's colours can be read on their grounds, in light and in dark (WCAG 2 contrast)."""

import re

import pytest

from yxanul.report.rendering import TEMPLATES

STYLE = (TEMPLATES / "style.css").read_text(encoding="utf-8")
TEXT, GRAPHICS = 4.5, 3.0


def schemes() -> dict[str, dict[str, str]]:
    light, dark = re.findall(r":root(?::not\(\.paper\))? \{(.*?)\}", STYLE, re.DOTALL)[:2]
    found = {}
    for name, block in (("light", light), ("dark", dark)):
        found[name] = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    return found


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_and_curves_stand_out_from_their_ground(scheme):
    colours = schemes()[scheme]
    pairs = [(name, ground, TEXT) for name in ("ink", "muted") for ground in ("ground", "card")]
    pairs += [(tone, f"{tone}-ground", TEXT) for tone in ("good", "warn", "bad", "busy")]
    pairs += [("muted", "quiet-ground", TEXT), ("ground", "ink", TEXT)]
    pairs += [(name, "ground", GRAPHICS) for name in (*(f"c{i}" for i in range(7)), "quiet")]
    low = [pair for pair in pairs if contrast(colours[pair[0]], colours[pair[1]]) < pair[2]]
    assert low == []


def test_dark_redefines_every_colour_of_light():
    found = schemes()
    assert found["light"].keys() == found["dark"].keys()
    assert len(found["light"]) > 20
