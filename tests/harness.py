"""lm-evaluation-harness' own task files, read as text: its humaneval asks the hub on import."""

import importlib.util
from pathlib import Path
from typing import Any

import yaml


def harness_task(name: str) -> dict[str, Any]:
    """A task's definition; the functions that it names stay names."""
    found = importlib.util.find_spec("lm_eval")
    assert found is not None
    assert found.origin is not None
    text = (Path(found.origin).parent / "tasks" / name).read_text(encoding="utf-8")

    class Loader(yaml.SafeLoader):
        """Reads !function as text."""

    Loader.add_constructor("!function", lambda _, node: node.value)
    task: dict[str, Any] = yaml.load(text, Loader)
    return task


def rendered(name: str, row: dict[str, Any], key: str = "doc_to_text") -> str:
    """What the harness' own template makes of a row."""
    from lm_eval.utils import apply_template

    return apply_template(harness_task(name)[key], row)
