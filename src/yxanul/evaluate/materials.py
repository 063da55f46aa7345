"""What a model can be scored on, from what was given: held-out text, and items of tasks.

The one idea: everything is found before anything is scored. What was asked for by name and is not
there is an error; of what was not named, the reason is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from yxanul.config.evaluation import TASKS
from yxanul.config.schema import RunConfig, evaluation_seq_len
from yxanul.data.benchmarks.find import EMBEDDED, NO_TEXT, Prepared, find_benchmark
from yxanul.data.benchmarks.items import Benchmark
from yxanul.data.benchmarks.read import HUB
from yxanul.data.benchmarks.sets import SETS
from yxanul.data.manifest import load_manifest
from yxanul.data.validation import domain_documents
from yxanul.data.verify import check_files
from yxanul.errors import InfrastructureError, UsageError

PERPLEXITY = "perplexity"
SCORABLE = (PERPLEXITY, *TASKS)
_TOKENS_PER_DOMAIN = 100_000
_SEQ_LEN = 1024


@dataclass(frozen=True)
class HeldOutDomain:
    """The held-out documents of one domain and the window in which they are read."""

    documents: Sequence[np.ndarray]
    """Each (1 + tokens,) uint16, beginning with 50256."""
    seq_len: int


@dataclass(frozen=True)
class Given:
    """What a user gave to score a model on."""

    tasks: tuple[str, ...] | None
    """By name; None = what can be scored from the rest."""
    bench: str | None
    """hub, embedded or a folder; None = the hub for a task that is named, and the package for
    humaneval."""
    prepared: Path | None
    """Prepared data, with the held-out text."""
    shots: int | None
    """Worked examples before each item; None = each task's own."""


@dataclass
class Materials:
    """What will be scored, and what will not, with the reason."""

    domains: dict[str, HeldOutDomain] = field(default_factory=dict)
    benchmarks: dict[str, Benchmark] = field(default_factory=dict)
    not_scored: dict[str, str] = field(default_factory=dict)


def find_materials(
    given: Given, *, config: RunConfig | None, max_length: int, news: Callable[[str], None]
) -> Materials:
    """Read what can be scored; `config` is of a run of ours, `max_length` the model's in tokens.

    The names in `given` passed `check_names`. Raises UsageError for what a named task lacks, the
    errors of `read_benchmark`, and CorruptDataError for damage whether or not its task was named.
    """
    found = Materials()
    for task in given.tasks if given.tasks is not None else SCORABLE:
        try:
            if task == PERPLEXITY:
                found.domains = _domains(given.prepared, config=config, max_length=max_length)
            else:
                found.benchmarks[task] = _benchmark(task, given, news=news)
        except (UsageError, InfrastructureError) as error:
            if given.tasks is not None:
                raise
            found.not_scored[task] = str(error)
    if not found.domains and not found.benchmarks:
        reasons = "; ".join(f"{task}: {why}" for task, why in found.not_scored.items())
        raise UsageError(f"nothing can be scored from what was given ({reasons})")
    return found


def check_names(given: Given) -> None:
    """Raise UsageError for a name that no task and no folder has; nothing is read."""
    names = ", ".join(SCORABLE)
    if given.tasks is not None and not given.tasks:
        raise UsageError(f"--tasks names no task; the names are {names}")
    unknown = ", ".join(sorted(set(given.tasks or ()) - set(SCORABLE)))
    if unknown:
        raise UsageError(f"--tasks: there is no task {unknown}; the names are {names}")
    if given.bench not in (None, HUB, EMBEDDED) and not Path(given.bench).is_dir():
        raise UsageError(
            f"--bench_dir: {given.bench} is no folder; give one with a file per benchmark, hub or "
            "embedded"
        )


def _benchmark(task: str, given: Given, *, news: Callable[[str], None]) -> Benchmark:
    bench = given.bench
    if bench is None:
        if task in SETS and task != "humaneval" and given.tasks is None:
            raise UsageError(
                f"neither named nor given: --tasks {task} reads it from the hub, --bench_dir DIR "
                "from a folder"
            )
        bench = EMBEDDED if task == "humaneval" else HUB
    needs_text = task not in SETS
    return find_benchmark(
        task,
        bench=bench,
        prepared=_prepared(given.prepared) if needs_text and given.prepared is not None else None,
        with_shots=bool(TASKS[task].shots if given.shots is None else given.shots),
        news=news,
    )


def _prepared(root: Path) -> Prepared:
    manifest = load_manifest(root)
    check_files(manifest, root)
    return Prepared(manifest, root)


def _domains(
    prepared: Path | None, *, config: RunConfig | None, max_length: int
) -> dict[str, HeldOutDomain]:
    """Return every domain, of all stages that were prepared, by its run's own settings."""
    if prepared is None:
        raise UsageError(NO_TEXT)
    manifest = _prepared(prepared).manifest
    stages = {stage.name: stage for stage in config.stages} if config is not None else {}
    domains: dict[str, HeldOutDomain] = {}
    for name in manifest.stages:
        tokens, seq_len = _TOKENS_PER_DOMAIN, min(_SEQ_LEN, max_length)
        if config is not None and name in stages:
            tokens = stages[name].evaluation.tokens_per_domain
            seq_len = evaluation_seq_len(config, stages[name])
        documents = domain_documents(manifest, prepared, stage=name, tokens_per_domain=tokens)
        domains |= {domain: HeldOutDomain(of, seq_len) for domain, of in documents.items()}
    return domains
