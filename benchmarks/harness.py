"""lm-evaluation-harness over local files: its own tasks, with the place of the data changed.

Its scores come item by item, so that ours can be laid beside them. Of HumanEval its prompts and
written texts only: its metric is loaded from the hub, and its programs would run unguarded.
"""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

# What of a task's file is about where its data lies on the hub, or needs the hub.
_PLACES = ("dataset_name", "training_split", "validation_split", "test_split", "fewshot_split")
_FILES = {
    "hellaswag": "hellaswag/hellaswag.yaml",
    "triviaqa": "triviaqa/default.yaml",
    "gsm8k": "gsm8k/gsm8k.yaml",
    "humaneval": "humaneval/humaneval.yaml",
}
_NO_MEASURE = "bypass"
# HumanEval has no worked examples in the harness: it would show the tests. Ours shows solutions.
_CHANGES: dict[str, dict[str, Any]] = {
    "hellaswag": {"process_docs": None},
    "humaneval": {
        "unsafe_code": None,
        "num_fewshot": None,
        "filter_list": None,
        "metric_list": [
            {"metric": _NO_MEASURE, "aggregation": _NO_MEASURE, "higher_is_better": True}
        ],
        "fewshot_split": "test",
        "fewshot_config": {"doc_to_target": "{{canonical_solution}}", "target_delimiter": ""},
    },
}
_MEASURES = {
    ("exact_match", "flexible-extract"): "exact_match_flexible",
}


def task_definition(task: str) -> dict[str, Any]:
    """Return the harness' own file of a task; the functions that it names stay names."""
    found = importlib.util.find_spec("lm_eval")
    if found is None or found.origin is None:
        raise SystemExit('this needs lm-evaluation-harness: pip install "yxanul[eval]"')
    text = (Path(found.origin).parent / "tasks" / _FILES[task]).read_text(encoding="utf-8")

    class Loader(yaml.SafeLoader):
        """Reads !function as text: humaneval's would load a metric from the hub."""

    Loader.add_constructor("!function", lambda _, node: node.value)
    definition: dict[str, Any] = yaml.load(text, Loader)  # noqa: S506  (a SafeLoader)
    return definition


def write_task(
    folder: Path, task: str, *, splits: Mapping[str, Path], changes: Mapping[str, Any]
) -> None:
    """Write a task's definition over local files; `splits` are {split: JSON lines}.

    `changes` say what else differs from the harness' file, of generation_kwargs what comes to it;
    None takes a key out.
    """
    definition = task_definition(task)
    generation = {**definition.get("generation_kwargs", {}), **changes.get("generation_kwargs", {})}
    changes = {**changes, "generation_kwargs": generation or None}
    named = {key: definition[key] for key in _PLACES if definition.get(key) in splits}
    changed = {key: None for key in _PLACES if key not in named} | _CHANGES.get(task, {})
    definition |= changed | {
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {name: str(path) for name, path in splits.items()},
            "cache_dir": str(folder / "cache"),
        },
        **changes,
    }
    kept = {key: value for key, value in definition.items() if value is not None}
    (folder / f"{task}.yaml").write_text(yaml.safe_dump(kept), encoding="utf-8")


@dataclass
class HarnessItem:
    """What the harness asked of one item, and what it found."""

    prompt: str
    texts: tuple[str, ...] = ()
    """Continuations whose likelihood was asked for."""
    nats: tuple[float, ...] = ()
    written: str | None = None
    measures: dict[str, float] = field(default_factory=dict)


def run_task(
    folder: Path, task: str, lm: Any, *, shots: int, limit: int | None
) -> list[HarnessItem]:
    """Return the harness' items of a task whose definition lies in the folder."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    found = simple_evaluate(
        model=lm,
        tasks=[task],
        task_manager=manager,
        num_fewshot=shots,
        limit=limit,
        bootstrap_iters=0,
    )
    items: dict[int, HarnessItem] = {}
    for sample in found["samples"][task]:
        item = items.setdefault(sample["doc_id"], HarnessItem(sample["arguments"][0][0]))
        if isinstance(sample["arguments"][0][1], str):
            item.texts = tuple(text for _, text in sample["arguments"])
            item.nats = tuple(-float(answers[0][0]) for answers in sample["resps"])
        else:
            item.written = sample["resps"][0][0]
        for metric in sample["metrics"]:
            name = _MEASURES.get((metric, sample["filter"]), metric)
            if metric != _NO_MEASURE:
                item.measures[name] = float(sample[metric])
    return [items[number] for number in sorted(items)]


def likelihood(lm: Any, pairs: list[tuple[str, str]]) -> list[float]:
    """Return the nats of each (context, continuation) under a model of the harness."""
    from lm_eval.api.instance import Instance

    requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
    return [-float(nats) for nats, _ in lm.loglikelihood(requests, disable_tqdm=True)]


def write_json_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as JSON lines and return the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
