"""The items of a task, wherever they come from: held-out text, a package, a folder or the hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from yxanul.config.evaluation import TASKS
from yxanul.data.benchmarks.cloze import cloze
from yxanul.data.benchmarks.gsm_symbolic import gsm_symbolic
from yxanul.data.benchmarks.human_eval import human_eval
from yxanul.data.benchmarks.read import read_benchmark
from yxanul.data.items import Benchmark
from yxanul.data.prepared.manifest import Manifest
from yxanul.errors import UsageError

EMBEDDED = "embedded"
"""Instead of the hub or a folder: only what is installed or held out."""

NO_TEXT = (
    "there is no held-out text: the model is not a run of ours, so give --data PREPARED, a "
    "folder that `yxanul prepare` wrote"
)
"""What a user reads who asks for held-out text where none was prepared."""


@dataclass(frozen=True)
class Prepared:
    """Prepared data whose files were checked."""

    manifest: Manifest
    root: Path


def find_benchmark(
    task: str,
    *,
    bench: str,
    prepared: Prepared | None,
    with_shots: bool,
    news: Callable[[str], None],
) -> Benchmark:
    """Return a task's items; `bench` is hub, embedded or a folder.

    A task without worked examples of its own takes them from its items. Raises UsageError for what
    is not there, and what `read_benchmark` does.
    """
    if task not in TASKS:  # a manifest may name one of another version
        raise UsageError(f"{task} is no benchmark of this version, which has {', '.join(TASKS)}")
    if task == "cloze":
        if prepared is None:
            raise UsageError(NO_TEXT)
        found = cloze(prepared.manifest, prepared.root)
    elif task == "gsm_symbolic":
        # Without prepared data no template was trained on.
        text = (prepared.manifest, prepared.root) if prepared is not None else (None, Path())
        found = gsm_symbolic(*text)
    elif bench != EMBEDDED:
        return read_benchmark(task, bench=bench, with_shots=with_shots, news=news)
    elif task == "humaneval":
        found = human_eval()
    else:
        raise UsageError(
            f"{task} is not embedded: give --bench_dir DIR with a file per benchmark, or "
            "--bench_dir hub"
        )
    return replace(found, shots=found.items) if with_shots else found
