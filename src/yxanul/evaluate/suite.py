"""One model, scored on all that was found for it, with a file of records per task.

A folder holds the scores of one state of one model: TASK-Nshot.json item by item (as in
RUN/scores/skills), perplexity.json document by document. What is scored again replaces its file.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from yxanul.config.evaluation import KIN
from yxanul.evaluate.materials import PERPLEXITY, Materials
from yxanul.evaluate.models.opened import OpenedModel
from yxanul.evaluate.perplexity import DomainPerplexity, score_domain
from yxanul.evaluate.tasks.options import TaskOptions
from yxanul.evaluate.tasks.score import score_task
from yxanul.evaluate.watching import Watcher
from yxanul.runfolder.durable import write_json, writing
from yxanul.runfolder.items import TaskScore, write_task_score


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
        done.records[PERPLEXITY] = _write_domains(folder, done.domains)
    for task, benchmark in materials.benchmarks.items():
        begun = time.perf_counter()
        score = replace(
            score_task(opened.model, benchmark, options=options, watcher=watcher),
            kin=_kin(opened, task),
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


def _write_domains(folder: Path, domains: dict[str, DomainPerplexity]) -> Path:
    path = folder / f"{PERPLEXITY}.json"
    write_json(
        path,
        {
            domain: {"bpb": of.bpb, "documents": [asdict(one) for one in of.documents]}
            for domain, of in domains.items()
        },
    )
    return path
