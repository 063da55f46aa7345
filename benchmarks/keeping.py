"""Results that are kept: a table as Markdown and its rows as JSON, dated and never written over."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any


def recompiled(names: Iterable[str]) -> str:
    """Return the sentence of a fault: whatever was timed had a compiler at work beside it."""
    return (
        f"torch.compile made graphs after the first update in {', '.join(names)}, though all "
        "shapes were the same"
    )


class Kept:
    """Two files of one day's results; a second run of that day gets names of its own."""

    def __init__(self, folder: Path, subject: str) -> None:
        """Choose the names in a folder, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        day = f"{datetime.date.today().isoformat()}-{subject}"
        names = (day if number == 1 else f"{day}-{number}" for number in count(1))
        self._base = next(
            folder / name
            for name in names
            if not any((folder / f"{name}{end}").exists() for end in (".md", ".json"))
        )

    def write(self, table: str, sections: list[dict[str, Any]]) -> None:
        """Write what was measured until now."""
        # Not with_suffix, which would take the end of a card's name for one.
        Path(f"{self._base}.md").write_text(table, encoding="utf-8")
        content = json.dumps(sections, indent=1) + "\n"
        Path(f"{self._base}.json").write_text(content, encoding="utf-8")
