"""The items of a public benchmark, from the hub or from a folder, all of them or an error.

The one idea: a score is of a fixed list of items. Nothing is left out, nothing stands in for
another set, and where the list came from is written beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from yxanul.data.benchmarks.fields import Fields
from yxanul.data.benchmarks.sets import SETS, PublicSet
from yxanul.data.items import Benchmark, Item
from yxanul.data.sources.hub.client import patient_client
from yxanul.data.sources.hub.part import HubPart
from yxanul.data.sources.hub.patience import Line, Patience
from yxanul.data.sources.hub.rows import RowStream
from yxanul.data.sources.hub.source import resolve_revision
from yxanul.data.walk import unreadable
from yxanul.errors import CorruptDataError, UsageError
from yxanul.runfolder.durable import sha256_of

HUB = "hub"
WITHOUT_HUB = "--bench_dir DIR with a folder that holds a file per benchmark"


def read_benchmark(
    task: str,
    *,
    bench: str,
    with_shots: bool = False,
    news: Callable[[str], None],
    patience: Patience | None = None,
) -> Benchmark:
    """Return a task's items; `bench` is hub or a folder, with_shots reads the worked examples too.

    From the hub every call streams the set anew; `news` gets a line for every wait. Raises
    UsageError for what is not there or refused, HubUnreachableError for an outage,
    MissingExtraError, and CorruptDataError for what is not an item of the set, with its place.
    """
    where = SETS[task]
    if bench == HUB:
        line = Line(where.hub_id, news, patience or Patience())
        return _from_hub(task, where, with_shots=with_shots, line=line)
    return _from_folder(task, where, folder=Path(bench), with_shots=with_shots)


def try_hub_set(task: str, *, with_shots: bool, patience: Patience) -> str:
    """Read the first item, and the first worked example, of a task's set on the hub.

    Returns where they come from; raises what `read_benchmark` does.
    """
    where = SETS[task]
    line = Line(where.hub_id, lambda _: None, patience)
    found = _from_hub(task, where, with_shots=with_shots, line=line, most=1)
    return found.origin


def _from_folder(task: str, where: PublicSet, *, folder: Path, with_shots: bool) -> Benchmark:
    path = _existing(folder, where.file)
    items = _whole(where.from_file(path), str(path))
    shots: tuple[Item, ...] = ()
    if with_shots:
        source = where.file_shots and _existing(folder, where.file_shots)
        shots = _whole(where.from_file(source), str(source)) if source else items
    origin = f"{path.name}, sha256 {sha256_of(path)[:16]}"
    return Benchmark(task, items, shots, origin=origin)


def _existing(folder: Path, name: str) -> Path:
    path = folder / name
    try:
        is_there = path.is_file()
    except OSError as error:
        raise unreadable(path, error) from error
    if not is_there:
        what = "is missing" if folder.is_dir() else "is missing, for there is no such folder"
        names = ", ".join(one for s in SETS.values() for one in (s.file, s.file_shots) if one)
        raise UsageError(
            f"{path} {what}: --bench_dir takes a folder with a file per benchmark ({names})."
        )
    return path


def _from_hub(
    task: str, where: PublicSet, *, with_shots: bool, line: Line, most: int | None = None
) -> Benchmark:
    revision = resolve_revision(_part(task, where, split=where.split), line)

    def read(split: str) -> tuple[Item, ...]:
        rows = _hub_rows(_part(task, where, split=split), revision=revision, line=line)
        place = f"the split {split} of {where.hub_id}"
        items = (where.from_hub(row, number) for number, row in enumerate(rows))
        return _whole(islice(items, most), place)

    items = read(where.split)
    shots: tuple[Item, ...] = ()
    if with_shots:
        shots = read(where.hub_shots) if where.hub_shots else items
    parts = (f"{where.hub_id}@{revision}", where.hub_config, where.split)
    return Benchmark(task, items, shots, origin=", ".join(part for part in parts if part))


def _part(task: str, where: PublicSet, *, split: str) -> HubPart:
    return HubPart(
        name=f"Task {task}",
        hub_id=where.hub_id,
        config=where.hub_config,
        split=split,
        revision=None,
        private=False,
        without=WITHOUT_HUB,
        is_resumed=False,
    )


def _hub_rows(part: HubPart, *, revision: str, line: Line) -> Iterator[Fields]:
    number = 0
    with patient_client(line):
        for _, _, content in RowStream(part, revision, line=line).read(0, 0):
            if content is not None:
                number += 1
                yield Fields(content, f"The data set {part.hub_id}, {part.split}, row {number},")


def _whole(items: Iterable[Item], place: str) -> tuple[Item, ...]:
    """Return the items if there are some and each has a name of its own."""
    found = tuple(items)
    if not found:
        raise CorruptDataError(f"{place} holds no item: bring the original back.")
    seen: dict[str, int] = {}
    for number, item in enumerate(found, start=1):
        if item.id in seen:
            raise CorruptDataError(
                f"{place}: item {number} has the name {item.id} of item {seen[item.id]}; bring the "
                "original back."
            )
        seen[item.id] = number
    return found
