"""The same few configurations are read over and over; for tests once a text is enough.

PyYAML's own parser takes a tenth of a second for a whole run's settings.
"""

import copy
from typing import Any

from yxanul.config import yamltext
from yxanul.config.yamltext import KeyPath

_KEPT = 256


def parse_texts_once() -> None:
    """Let all readers of this process share what a text holds, each with a copy of its own."""
    parse, kept = yamltext._parse, {}

    def parse_once(text: str, label: str, *, lines: dict[KeyPath, int] | None) -> Any:
        key = (text, lines is None)
        if (held := kept.get(key)) is None:
            noted: dict[KeyPath, int] = {}
            # An error names the label, and is not kept.
            held = kept[key] = parse(text, label, lines=None if lines is None else noted), noted
            if len(kept) > _KEPT:
                kept.pop(next(iter(kept)), None)
        if lines is not None:
            lines.update(held[1])
        return copy.deepcopy(held[0])

    yamltext._parse = parse_once
