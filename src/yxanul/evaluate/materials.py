"""What a model can be scored on, from what was given: held-out text, and items of tasks.

The one idea: everything is found before anything is scored. What was asked for by name and is not
there is an error; of what was not named, the reason is told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from yxanul.config.evaluation import TASKS
from yxanul.config.schema import RunConfig, evaluation_seq_len
from yxanul.data.batches.validation import stage_documents
from yxanul.data.benchmarks.find import EMBEDDED, NO_TEXT, Prepared, find_benchmark
from yxanul.data.benchmarks.frozen import load_kept
from yxanul.data.benchmarks.read import HUB
from yxanul.data.benchmarks.sets import SETS
from yxanul.data.items import Benchmark
from yxanul.data.prepared.manifest import Manifest, load_manifest
from yxanul.data.prepared.verify import check_files
from yxanul.data.sources.mathematics import GSM_NAME
from yxanul.errors import BrokenDiskError, InfrastructureError, UsageError

PERPLEXITY = "perplexity"
SCORABLE = (PERPLEXITY, *TASKS)
_TOKENS_PER_DOMAIN = 100_000
_SEQ_LEN = 1024
_TEXT_IS_GONE = (
    "there is no held-out text: the prepared data of the run is not where it was, so bring it back "
    "or give it with --data PREPARED"
)


@dataclass(frozen=True)
class HeldOutDomain:
    """The held-out documents of one domain and the window in which they are read."""

    documents: Sequence[np.ndarray]
    """Each (1 + tokens,) uint16, beginning with 50256."""
    seq_len: int
    manifest_sha256: str
    """Of the prepared data that it is from."""


@dataclass(frozen=True)
class Given:
    """What a user gave to score a model on."""

    tasks: tuple[str, ...] | None
    """By name; None = what can be scored from the rest."""
    bench: str | None
    """hub, embedded or a folder; None = the hub for a task that is named, and the package for
    humaneval."""
    prepared: Path | None
    """Data with held-out text that is read in place of a run's own."""
    shots: int | None
    """Worked examples before each item; None = each task's own."""
    kept: Path | None = None
    """Folder of the items that a run of ours was judged by."""
    trained: Mapping[str, str] | None = None
    """{source: sha256 of its training shards} of what the model was trained on; None = not known,
    since it is no run of ours."""
    own: Path | None = None
    """Prepared data of the model's run, if it is still there."""

    @property
    def text(self) -> Path | None:
        """Prepared data whose held-out text is read."""
        return self.prepared or self.own


@dataclass
class Materials:
    """What will be scored, and what will not, with the reason."""

    domains: dict[str, HeldOutDomain] = field(default_factory=dict)
    benchmarks: dict[str, Benchmark] = field(default_factory=dict)
    not_scored: dict[str, str] = field(default_factory=dict)
    is_given_text: bool = False
    """Whether the held-out text is not that of a run's own data."""


def find_materials(
    given: Given, *, config: RunConfig | None, max_length: int, news: Callable[[str], None]
) -> Materials:
    """Read what can be scored; `config` is of a run of ours, `max_length` the model's in tokens.

    The names in `given` passed `check_names`. Raises UsageError for what a named task lacks, the
    errors of `read_benchmark`, and, whether or not its task was named, CorruptDataError for damage
    and BrokenDiskError for a disk that fails.
    """
    found = Materials(is_given_text=given.prepared is not None)
    for task in given.tasks if given.tasks is not None else SCORABLE:
        try:
            if task == PERPLEXITY:
                text = _held_out_text(given)
                found.domains = _domains(text, config=config, max_length=max_length, news=news)
            else:
                found.benchmarks[task] = _benchmark(task, given, news=news)
        except BrokenDiskError:
            raise
        except (UsageError, InfrastructureError) as error:
            if given.tasks is not None:
                raise
            found.not_scored[task] = str(error)
    if not found.domains and not found.benchmarks:
        reasons = "; ".join(f"{task}: {why}" for task, why in found.not_scored.items())
        raise UsageError(f"nothing can be scored from what was given ({reasons})")
    return found


def check_names(given: Given) -> None:
    """Raise UsageError for a name that no task and no folder has.

    Of prepared data that was given the manifest alone is read; damage is a `CorruptShardError`.
    """
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
    if given.prepared is not None:
        if not given.prepared.is_dir():
            raise UsageError(f"--data: {given.prepared} is no folder; give a prepared one")
        load_manifest(given.prepared)


def _benchmark(task: str, given: Given, *, news: Callable[[str], None]) -> Benchmark:
    bench = given.bench
    if bench is None:
        if task in SETS and task != "humaneval" and given.tasks is None:
            raise UsageError(
                f"neither named nor given: --tasks {task} reads it from the hub, --bench_dir DIR "
                "from a folder"
            )
        bench = EMBEDDED if task == "humaneval" else HUB
    with_shots = bool(TASKS[task].shots if given.shots is None else given.shots)
    prepared = None
    if task == GSM_NAME:
        prepared = _prepared(given.text) if given.text is not None else None
        if not _tells_templates(given, prepared):
            kept = _kept_problems(given)
            if kept is not None:
                return replace(kept, shots=kept.items) if with_shots else kept
            _refuse_trained_templates(given)
    elif task not in SETS:
        prepared = _prepared(_held_out_text(given))
    return find_benchmark(task, bench=bench, prepared=prepared, with_shots=with_shots, news=news)


def _kept_problems(given: Given) -> Benchmark | None:
    """Return the problems that a run of ours was judged by: of templates it does not train on."""
    path = None if given.kept is None else given.kept / f"{GSM_NAME}.json"
    return load_kept(path) if path is not None and path.is_file() else None


def _tells_templates(given: Given, prepared: Prepared | None) -> bool:
    """Tell whether the data is that whose templates the model was trained on.

    Kept problems may be older than that: of a moment when all templates were still held out.
    """
    source = None if prepared is None else prepared.manifest.sources.get(GSM_NAME)
    return source is not None and source.train.sha256 == (given.trained or {}).get(GSM_NAME)


def _refuse_trained_templates(given: Given) -> None:
    """Raise UsageError where a run trained on templates, and nothing tells on which ones."""
    if GSM_NAME in (given.trained or {}):
        raise UsageError(
            f"the model was trained on templates of {GSM_NAME}, and only its own prepared data "
            "tells which ones: bring that back, or give it with --data"
        )


def _held_out_text(given: Given) -> Path:
    if given.text is not None:
        return given.text
    raise UsageError(NO_TEXT if given.trained is None else _TEXT_IS_GONE)


def _prepared(root: Path) -> Prepared:
    manifest = load_manifest(root)
    check_files(manifest, root)
    return Prepared(manifest, root)


def _domains(
    prepared: Path, *, config: RunConfig | None, max_length: int, news: Callable[[str], None]
) -> dict[str, HeldOutDomain]:
    """Return every domain, of all stages that were prepared, by its run's own settings."""
    manifest = _prepared(prepared).manifest
    own = {stage.name: stage for stage in config.stages} if config is not None else {}
    budgets = {
        name: own[name].evaluation.tokens_per_domain if name in own else _TOKENS_PER_DOMAIN
        for name in manifest.stages
    }
    domains: dict[str, HeldOutDomain] = {}
    read = _without_others(manifest, own=own, news=news)
    found = stage_documents(read, prepared, tokens_per_domain=budgets)
    for name, documents in found.items():
        seq_len = min(_SEQ_LEN, max_length)
        if config is not None and name in own:
            seq_len = evaluation_seq_len(config, own[name])
        domains |= {
            domain: HeldOutDomain(of, seq_len, manifest.sha256) for domain, of in documents.items()
        }
    return domains


def _without_others(
    manifest: Manifest, *, own: Collection[str], news: Callable[[str], None]
) -> Manifest:
    """Return the data without what stages that are not the run's have of its stages' domains."""
    owner = {of.domain: of.stage for of in manifest.sources_of(*own).values()}
    kept = {}
    for name, source in manifest.sources.items():
        if source.stage in own or source.domain not in owner:
            kept[name] = source
        else:
            news(
                f"held-out text of {name} is left out: its stage, {source.stage}, is not the run's "
                f"and the domain {source.domain} is that of {owner[source.domain]}"
            )
    return replace(manifest, sources=kept)
