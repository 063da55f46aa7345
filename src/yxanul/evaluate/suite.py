"""One model, scored on all that was found for it, with a file of records per task.

A folder holds TASK-Nshot.json item by item (as in RUN/scores/skills), perplexity.json document by
document, of other data than a run's own with a hash of that in its name. What is scored again
replaces its file. Unless a user names the folder, it is of one state of one model; each file says
which.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from yxanul.config.evaluation import KIN
from yxanul.data.progress import Watcher
from yxanul.errors import UsageError
from yxanul.evaluate.materials import PERPLEXITY, HeldOutDomain, Materials
from yxanul.evaluate.models.opened import OpenedModel
from yxanul.evaluate.perplexity import DomainPerplexity, score_domain
from yxanul.evaluate.tasks.options import TaskOptions
from yxanul.evaluate.tasks.score import score_task
from yxanul.runfolder.durable import write_json, writing
from yxanul.runfolder.skill_scores import TaskScore, write_task_score


@dataclass
class Evaluation:
    """What a model reached, and where its records lie."""

    folder: Path
    domains: dict[str, DomainPerplexity] = field(default_factory=dict)
    scores: dict[str, TaskScore] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    """Per task."""
    records: dict[str, Path] = field(default_factory=dict)
    """Per task."""


def evaluate_all(
    opened: OpenedModel,
    materials: Materials,
    *,
    options: TaskOptions,
    folder: Path,
    watcher: Watcher,
) -> Evaluation:
    """Score a model; each task's records are written when it is done, so a stop loses one task.

    Raises what `score_task` and `score_domain` raise, and DiskError.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    done = Evaluation(folder)
    if materials.domains:
        begun = time.perf_counter()
        watcher.begin(f"{PERPLEXITY}: domains", total=len(materials.domains))
        for domain, held_out in materials.domains.items():
            done.domains[domain] = score_domain(
                opened.transformer or opened.model,
                held_out.documents,
                domain=domain,
                seq_len=held_out.seq_len,
            )
            watcher.advance(1)
        done.seconds[PERPLEXITY] = time.perf_counter() - begun
        done.records[PERPLEXITY] = _write_domains(
            folder, done.domains, materials=materials, weights=opened.weights
        )
    for task, benchmark in materials.benchmarks.items():
        begun = time.perf_counter()
        score = replace(
            score_task(opened.model, benchmark, options=options, watcher=watcher),
            kin=_kin(opened, task),
            weights=opened.weights,
        )
        done.scores[task] = score
        done.seconds[task] = time.perf_counter() - begun
        done.records[task] = _write_score(folder, score, of=len(benchmark.items))
    return done


def _kin(opened: OpenedModel, task: str) -> list[str] | None:
    if opened.trained is None:
        return None
    found = [source for source in opened.trained if source in KIN.get(task, ())]
    return None if opened.is_begun_anew and not found else found


def _write_score(folder: Path, score: TaskScore, *, of: int) -> Path:
    part = f"-first{len(score.ids)}" if len(score.ids) < of else ""
    path = folder / f"{score.task}-{score.shots}shot{part}.json"
    write_task_score(path, score)
    return path


def _write_domains(
    folder: Path, domains: dict[str, DomainPerplexity], *, materials: Materials, weights: str
) -> Path:
    read = materials.domains
    # All are of one prepared folder.
    of_data = f"-{next(iter(read.values())).manifest_sha256[:8]}"
    path = folder / f"{PERPLEXITY}{of_data if materials.is_given_text else ''}.json"
    told = {name: _record(read[name], of) for name, of in domains.items()}
    write_json(path, {name: {**of, "weights": weights} for name, of in told.items()})
    return path


def _record(held_out: HeldOutDomain, cost: DomainPerplexity) -> dict[str, Any]:
    """Return what a domain cost, and what tells whether another model read the same of it."""
    return {
        "bpb": cost.bpb,
        "seq_len": held_out.seq_len,
        "manifest_sha256": held_out.manifest_sha256,
        "documents": [
            {"sha256": hashlib.sha256(document.astype("<u2").tobytes()).hexdigest(), **asdict(one)}
            for document, one in zip(held_out.documents, cost.documents, strict=True)
        ],
    }


def check_folder(folder: Path) -> None:
    """Raise UsageError where no folder can be made for records: a file stands in its place."""
    places = (folder.absolute(), *folder.absolute().parents)
    standing = next(place for place in places if place.exists())
    if not standing.is_dir():
        raise UsageError(f"--out: {standing} is no folder; name one for the records")
