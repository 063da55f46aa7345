"""`run` and `train`: hand the request to the train room and print what came of it."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from yxanul.cli import options
from yxanul.cli.output import print_json, print_outcome
from yxanul.config.yamltext import quoted
from yxanul.errors import UsageError
from yxanul.runfolder.supervised import is_main_process
from yxanul.terminal import outliving_terminal
from yxanul.train.run import start_run
from yxanul.train.starting.request import RunRequest


def run(
    config_dir: options.ConfigDir,
    model: options.Model = None,
    data: options.Data = None,
    bench_dir: options.BenchDir = None,
    out: options.Out = None,
    overrides: options.Overrides = None,
    resume: options.Resume = "auto",
    fresh: options.Fresh = False,
    max_steps: options.MaxSteps = None,
    strict: options.Strict = False,
    json: options.Json = False,
) -> None:
    """Train every stage in order, with a gate after each.

    Example: yxanul run --config_dir configs/embedded --data embedded --out runs/first
    """
    _start(
        RunRequest(
            config_dir=config_dir,
            model=model,
            data=data,
            bench_dir=bench_dir,
            out=out,
            overrides=tuple(overrides or ()),
            resume=resume,
            fresh=fresh,
            max_steps=max_steps,
            strict=strict,
            command=_command(),
        ),
        json,
    )


def train(
    config_dir: options.ConfigDir,
    stage: options.Stage,
    num_epochs: options.NumEpochs = None,
    init_from: options.InitFrom = None,
    deepspeed: options.DeepSpeed = None,
    model: options.Model = None,
    data: options.Data = None,
    bench_dir: options.BenchDir = None,
    out: options.Out = None,
    overrides: options.Overrides = None,
    resume: options.Resume = "auto",
    fresh: options.Fresh = False,
    max_steps: options.MaxSteps = None,
    strict: options.Strict = False,
    json: options.Json = False,
    local_rank: Annotated[
        int | None, typer.Option("--local_rank", hidden=True, help="Set by the deepspeed launcher.")
    ] = None,
) -> None:
    """Train one stage; a later one starts from the passed stage before it in the same --out.

    Example: yxanul train --config_dir configs --stage stage1_wikipedia --num_epochs 1
    """
    _start(
        RunRequest(
            config_dir=config_dir,
            stage=stage,
            model=model,
            data=data,
            bench_dir=bench_dir,
            out=out,
            overrides=(
                *(overrides or ()),
                *_engine(deepspeed, overrides or (), launched=local_rank is not None),
            ),
            resume=resume,
            fresh=fresh,
            max_steps=max_steps,
            num_epochs=num_epochs,
            init_from=init_from,
            strict=strict,
            command=_command(),
        ),
        json,
    )


def _engine(deepspeed: Path | None, overrides: Sequence[str], *, launched: bool) -> Iterator[str]:
    """Yield the settings of DeepSpeed's engine, if the flag or its launcher asks for it."""
    if deepspeed is None and not launched:
        return
    other = [word for word in overrides if word.startswith("compute.engine=")]
    if any(word != "compute.engine=deepspeed" for word in other):
        door = "--deepspeed" if deepspeed is not None else "the deepspeed launcher"
        raise UsageError(f"{door} and {other[0]} name two engines; leave one of them out")
    yield "compute.engine=deepspeed"
    if deepspeed is not None:
        for word in overrides:
            if word.startswith("compute.deepspeed_config="):
                raise UsageError(f"--deepspeed and --set {word} name two files; leave one out")
        yield f"compute.deepspeed_config={quoted(str(deepspeed))}"


def _command() -> str:
    """Return the command as a person would write it again, wherever the program lies."""
    door, words = Path(sys.argv[0]), sys.argv[1:]
    if door.name == "trainer.py":
        return shlex.join(["python", "src/trainer.py", *words])
    return shlex.join(["yxanul", *words])


def _start(request: RunRequest, json: bool) -> None:
    with outliving_terminal():
        outcome = start_run(request)
        if not is_main_process():
            return
        if json:
            print_json(outcome.as_json())
        else:
            print_outcome(outcome)
