"""The items that a run is scored by, kept beside it: RUN/bench, a file per task.

The one idea: a score before a stage and one after it must be of the same items. They are read once,
when the run begins, and from here ever after, so that neither a changed data set nor a lost network
changes a verdict.
"""

import json
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path

from yxanul.data.items import AnswerItem, Benchmark, ChoiceItem, Item, ProgramItem
from yxanul.errors import CorruptDataError
from yxanul.runfolder.durable import write_json

_FORMS = {form.__name__: form for form in (ChoiceItem, AnswerItem, ProgramItem)}


def keep_benchmark(folder: Path, task: str, *, read: Callable[[], Benchmark]) -> Benchmark:
    """Return the task's items as kept in `folder`; the first time, `read` them and keep them.

    What `read` raises passes; a damaged file is a `CorruptDataError`.
    """
    path = folder / f"{task}.json"
    if path.exists():
        return load_kept(path)
    benchmark = read()
    folder.mkdir(parents=True, exist_ok=True)
    rows = {name: [_row(item) for item in getattr(benchmark, name)] for name in ("items", "shots")}
    kept = {"task": task, "origin": benchmark.origin, "sha256": benchmark.sha256, **rows}
    write_json(path, kept)
    return load_kept(path)


def load_kept(path: Path) -> Benchmark:
    """Read what `keep_benchmark` wrote; other items than were written are a `CorruptDataError`."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        items, shots = (tuple(map(_item, kept[name])) for name in ("items", "shots"))
        benchmark = Benchmark(kept["task"], items, shots, kept["origin"])
        if benchmark.sha256 == kept["sha256"]:
            return benchmark
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path) from error
    raise _damaged(path)


def load_all_kept(folder: Path) -> dict[str, Benchmark]:
    """Return {task: its items} of all that is kept in `folder`, as `load_kept` reads them."""
    return {path.stem: load_kept(path) for path in sorted(folder.glob("*.json"))}


def forget_kept(folder: Path, *, but: Collection[str]) -> None:
    """Delete what is kept in `folder`, `but` for the items of these tasks."""
    for path in folder.glob("*.json"):
        if path.stem not in but:
            path.unlink()


def _row(item: Item) -> dict[str, object]:
    return {"form": type(item).__name__, **asdict(item)}


def _item(row: dict[str, object]) -> Item:
    form = _FORMS[str(row["form"])]
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items() if k != "form"}
    item: Item = form(**values)  # type: ignore[arg-type]
    return item


def _damaged(path: Path) -> CorruptDataError:
    return CorruptDataError(
        f"{path} does not hold the items that the run was begun with; bring a good copy back"
    )
