"""`evaluate`: score any model on held-out text and in the tasks of lm-evaluation-harness."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from yxanul.cli import options
from yxanul.cli.output import print_json, say
from yxanul.cli.watching import StderrWatcher
from yxanul.config.evaluation import TASKS
from yxanul.evaluate.materials import PERPLEXITY, SCORABLE, Given, Materials, find_materials
from yxanul.evaluate.opened import OpenedModel, open_for_scoring
from yxanul.evaluate.suite import Evaluation, evaluate_all
from yxanul.evaluate.summary import Figure, domain_figures, figures, headline, pooled
from yxanul.evaluate.tasks.options import TaskOptions

PERPLEXITY_VERSION = "1.0"

AnyModel = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A run folder, one of its checkpoints, a Hugging Face folder, or owner/name on the "
        "hub.",
    ),
]
Tasks = Annotated[
    str | None,
    typer.Option(
        "--tasks",
        help=f"Names with commas between them: {','.join(SCORABLE)}. Default: all that can be "
        "scored from what was given, without the hub.",
    ),
]
BenchDir = Annotated[
    str | None,
    typer.Option(
        "--bench_dir",
        help="Folder with a file per benchmark, or hub, or embedded (humaneval only). Default: the "
        "installed package for humaneval, the hub for the others if --tasks names them.",
    ),
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Score the first so many items of each task.")
]
Shots = Annotated[
    int | None,
    typer.Option(
        "--shots",
        min=0,
        max=64,
        help="Worked examples before each item; default: gsm8k 5, the others 0.",
    ),
]
Prepared = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Prepared folder whose held-out text is read; default: the run's own.",
    ),
]
OutFolder = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Folder of the records; default: RUN/evaluation/CHECKPOINT, for other models "
        "evaluation/NAME here.",
    ),
]
Batch = Annotated[
    int, typer.Option("--batch", min=1, help="Answers that are written at the same time.")
]


def evaluate(
    model: AnyModel,
    tasks: Tasks = None,
    bench_dir: BenchDir = None,
    limit: Limit = None,
    shots: Shots = None,
    data: Prepared = None,
    out: OutFolder = None,
    batch: Batch = TaskOptions.batch,
    json: options.Json = False,
) -> None:
    """Score a model, item by item, on held-out text and in the tasks of lm-evaluation-harness.

    Example: yxanul evaluate runs/first --tasks perplexity,humaneval --limit 50
    """
    opened = open_for_scoring(model)
    for note in opened.notes:
        say(note)
    given = Given(
        tasks=None if tasks is None else tuple(name.strip() for name in tasks.split(",")),
        bench=bench_dir,
        prepared=data or opened.prepared,
        shots=shots,
    )
    materials = find_materials(
        given, config=opened.config, max_length=opened.model.max_length, news=say
    )
    watcher = StderrWatcher()
    try:
        done = evaluate_all(
            opened.model,
            materials,
            options=TaskOptions(limit=limit, shots=shots, batch=batch),
            folder=out or opened.records,
            watcher=watcher,
        )
    finally:
        watcher.close()
    if json:
        print_json(_as_json(opened, materials, done))
    else:
        _show(opened, done)
    for task, why in materials.not_scored.items():
        say(f"not scored: {task}: {why}")
    say(f"records: {done.folder}")


def _as_json(opened: OpenedModel, materials: Materials, done: Evaluation) -> dict[str, Any]:
    tasks: dict[str, dict[str, Any]] = {}
    if done.domains:
        every = pooled(done.domains)
        tasks[PERPLEXITY] = {
            **_figure("bpb", domain_figures(every)["bpb"], n=len(every.documents)),
            "version": PERPLEXITY_VERSION,
            "bpb": {name: domain.bpb for name, domain in done.domains.items()},
            "loss": {name: domain.loss for name, domain in done.domains.items()},
            "perplexity": {name: domain.perplexity for name, domain in done.domains.items()},
        }
    for task, score in done.scores.items():
        found, first = figures(score), headline(score)
        tasks[task] = {
            **_figure(first, found[first], n=len(score.ids)),
            "version": score.version,
            "shots": score.shots,
            "measures": {name: {"value": f.value, "stderr": f.stderr} for name, f in found.items()},
            "origin": score.origin,
            "prompts_sha256": score.prompts_sha256,
            "items_sha256": score.items_sha256,
            "sandbox": score.sandbox,
            "not_run": score.not_run,
        }
    for task, told in tasks.items():
        told |= {"seconds": done.seconds[task], "records": str(done.records[task])}
    return {
        "model": opened.model.name,
        "checkpoint": opened.checkpoint,
        "tasks": tasks,
        "not_scored": materials.not_scored,
        "records": str(done.folder),
    }


def _figure(metric: str, figure: Figure, *, n: int) -> dict[str, Any]:
    return {"metric": metric, "value": figure.value, "stderr": figure.stderr, "n": n}


def _show(opened: OpenedModel, done: Evaluation) -> None:
    title = opened.model.name + (f", {opened.checkpoint}" if opened.checkpoint else "")
    table = Table(title=title, title_justify="left")
    for name in ("task", "version", "shots", "measure", "value", "± 1.96 stderr", "n", "s"):
        is_number = name not in ("task", "measure")
        table.add_column(name, justify="right" if is_number else "left")
    for domain, cost in done.domains.items():
        for name, figure in domain_figures(cost).items():
            row = (f"{PERPLEXITY}, {domain}", PERPLEXITY_VERSION, "", name, *_cells(figure))
            table.add_row(*row, f"{len(cost.documents):,}", "")
    for task, score in done.scores.items():
        first = headline(score)
        for name, figure in figures(score).items():
            seconds = f"{done.seconds[task]:.1f}" if name == first else ""
            row = (task, score.version, str(score.shots), name, *_cells(figure))
            table.add_row(*row, f"{len(score.ids):,}", seconds)
    Console().print(table)
    for task, score in done.scores.items():
        for name, why in score.not_run.items():
            say(f"{task}: {name} was not run: {why}")
        if score.sandbox is not None:
            say(f"{task}: programs ran in the sandbox at level {score.sandbox}")
        if not TASKS[task].is_rate and TASKS[task].headline != TASKS[task].gates_by:
            say(f"{task}: {TASKS[task].headline} gates nothing, gold_bpb does")


def _cells(figure: Figure) -> tuple[str, str]:
    around = "" if figure.stderr is None else f"{1.96 * figure.stderr:.4f}"
    return f"{figure.value:.4f}", around
