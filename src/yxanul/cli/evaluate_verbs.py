"""`evaluate`: score any model on held-out text and in the tasks of lm-evaluation-harness."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from yxanul.cli import options
from yxanul.cli.output import plain_console, print_json, say
from yxanul.cli.progress import StderrWatcher
from yxanul.config.evaluation import KIN
from yxanul.curriculum.conditions import conditions
from yxanul.evaluate.materials import (
    PERPLEXITY,
    SCORABLE,
    Given,
    Materials,
    check_names,
    find_materials,
)
from yxanul.evaluate.models.opened import OpenedModel, open_for_scoring
from yxanul.evaluate.suite import Evaluation, check_folder, evaluate_all
from yxanul.evaluate.summary import Figure, domain_figures, figures, headline, pooled
from yxanul.evaluate.tasks.options import TaskOptions
from yxanul.hardware.device import use_own_cores
from yxanul.hardware.failures import LOOK_AT_CARD, naming_failed_hardware
from yxanul.hardware.memory import naming_exhaustion
from yxanul.runfolder.skill_scores import TaskScore

PERPLEXITY_VERSION = "1.0"
_ADVICE = (
    "what was scored before lies in its records. Where it comes again: fewer other programs on "
    "this machine, or one with more memory; where answers were being written, a smaller --batch"
)
_CARD_ADVICE = f"what was scored before lies in its records. {LOOK_AT_CARD}"

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
    int | None,
    typer.Option(
        "--limit",
        min=1,
        help="Score the first so many items of each task; held-out text is not shortened by it.",
    ),
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
        "evaluation/NAME-HASH here.",
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
    given = Given(
        tasks=None if tasks is None else _names(tasks),
        bench=bench_dir,
        prepared=data,
        shots=shots,
    )
    check_names(given)
    if out is not None:
        check_folder(out)
    watcher = StderrWatcher()
    try:
        with naming_failed_hardware(_CARD_ADVICE), naming_exhaustion(_ADVICE):
            use_own_cores()
            opened = open_for_scoring(model)
            for note in opened.notes:
                say(note)
            given = replace(given, own=opened.prepared, kept=opened.kept, trained=opened.trained)
            materials = find_materials(
                given, config=opened.config, max_length=opened.model.max_length, news=say
            )
            done = evaluate_all(
                opened,
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
        _show(opened, materials, done)
    for task, why in materials.not_scored.items():
        say(f"not scored: {task}: {why}")
    say(f"records: {done.folder}")


def _names(tasks: str) -> tuple[str, ...]:
    return tuple(filter(None, (name.strip() for name in tasks.split(","))))


def _as_json(opened: OpenedModel, materials: Materials, done: Evaluation) -> dict[str, Any]:
    tasks: dict[str, dict[str, Any]] = {}
    if done.domains:
        tasks[PERPLEXITY] = {
            **_figure("bpb", domain_figures(pooled(done.domains))["bpb"]),
            "version": PERPLEXITY_VERSION,
            "bpb": {name: domain.bpb for name, domain in done.domains.items()},
            "loss": {name: domain.loss for name, domain in done.domains.items()},
            "perplexity": {name: domain.perplexity for name, domain in done.domains.items()},
        }
    for task, score in done.scores.items():
        found, first = figures(score), headline(score)
        tasks[task] = {
            **_figure(first, found[first]),
            "items": len(materials.benchmarks[task].items),
            "measures": {name: _numbers(figure) for name, figure in found.items()},
            **_origin(score),
            "conditions": list(conditions(score)),
        }
    for task, told in tasks.items():
        told |= {"seconds": done.seconds[task], "records": str(done.records[task])}
    return {
        "model": opened.model.name,
        "checkpoint": opened.checkpoint,
        "weights": opened.weights,
        "notes": list(opened.notes),
        "tasks": tasks,
        "not_scored": materials.not_scored,
        "records": str(done.folder),
    }


def _figure(metric: str, figure: Figure) -> dict[str, Any]:
    return {"metric": metric, **_numbers(figure), "n": figure.n}


def _numbers(figure: Figure) -> dict[str, Any]:
    return {"value": figure.value, "stderr": figure.stderr, "interval": figure.interval}


def _origin(score: TaskScore) -> dict[str, Any]:
    """Return what of a score's record is not a list of items."""
    left_out = ("task", "ids", "measures", "clusters", "texts")
    return {name: value for name, value in vars(score).items() if name not in left_out}


def _show(opened: OpenedModel, materials: Materials, done: Evaluation) -> None:
    console = plain_console()
    title, checkpoint = opened.model.name, opened.checkpoint
    if checkpoint is not None and Path(title).name != checkpoint:
        title += f", {checkpoint}"
    if done.domains:
        console.print(_domains_table(title, done))
    if done.scores:
        console.print(_tasks_table(title, done))
    for task, score in done.scores.items():
        for news in _notes(score, of=len(materials.benchmarks[task].items)):
            say(f"{task}: {news}")
    spent = (f"{task} {seconds:.1f} s" for task, seconds in done.seconds.items())
    say(f"time: {', '.join(spent)}")


def _domains_table(title: str, done: Evaluation) -> Table:
    table = _table(title, "held-out text|bpb|95 % interval|loss|perplexity|documents")
    table.caption = "bpb: bits per byte; loss: nats per token, perplexity: exp(loss)"
    for domain, cost in done.domains.items():
        bpb = domain_figures(cost)["bpb"]
        numbers = (f"{cost.loss:.3f}", f"{cost.perplexity:,.1f}", f"{bpb.n:,}")
        table.add_row(domain, f"{bpb.value:.4f}", _interval(bpb), *numbers)
    return table


def _tasks_table(title: str, done: Evaluation) -> Table:
    """A row per task, its measures below one another, so that it fits 80 columns."""
    table = _table(title, "task|measure|value|95 % interval|items")
    table.caption = "gold_bpb: bits per byte of the right answers; others: share of the items"
    for task, score in done.scores.items():
        found = figures(score)
        table.add_row(
            f"{task}\nv{score.version}, {score.shots}-shot",
            "\n".join(found),
            "\n".join(f"{figure.value:.4f}" for figure in found.values()),
            "\n".join(_interval(figure) for figure in found.values()),
            f"{len(score.ids):,}",
        )
    return table


def _table(title: str, columns: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    for name in columns.split("|"):
        is_text = name in ("held-out text", "task", "measure")
        table.add_column(name, justify="left" if is_text else "right", no_wrap=True)
    return table


def _interval(figure: Figure) -> str:
    around = figure.interval
    return "" if around is None else f"{around[0]:.3f} to {around[1]:.3f}"


def _notes(score: TaskScore, *, of: int) -> Iterator[str]:
    """Yield what the numbers of a score do not tell; `of` are the items that the task has."""
    if len(score.ids) < of:
        yield f"the first {len(score.ids):,} of {of:,} items"
    for name, why in score.not_run.items():
        yield f"{name} was not run: {why}"
    if score.sandbox is not None:
        yield f"the programs ran in the sandbox at level {score.sandbox}"
    if score.kin:
        yield (
            "the model was trained on text made from the same problems or their kin: "
            f"{', '.join(score.kin)}"
        )
    elif score.kin is None and score.task in KIN:
        yield (
            "nothing tells whether the model was trained on text made from the same problems, "
            "which would make them easier"
        )
    yield from conditions(score)
