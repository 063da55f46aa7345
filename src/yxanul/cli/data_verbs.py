"""`prepare` and `inspect`: what can be done before and beside a run."""

from pathlib import Path
from typing import Annotated

import typer

from yxanul.cli import options
from yxanul.cli.output import print_json, say
from yxanul.cli.progress import StderrWatcher
from yxanul.data.inspection.inspect import Questions, inspect_folder, render
from yxanul.data.inspection.subject import describe_checkpoints, find_subject, verify_rows
from yxanul.data.places.remote import try_upload, upload
from yxanul.data.preparing.prepare import prepare
from yxanul.train.starting.request import RunRequest
from yxanul.train.starting.settings import read_config


def prepare_data(
    config_dir: options.ConfigDir,
    stage: Annotated[
        str,
        typer.Option(
            "--stage",
            help="all, or the name of a stage, e.g. stage2_reasoning: it and those before it, "
            "which it is compared with and may replay.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the shards and their manifest.")],
    data: options.Data = None,
    bench_dir: options.BenchDir = None,
    upload_to: Annotated[
        str | None,
        typer.Option(
            "--upload", metavar="ADDRESS", help="Copy the result to s3://, gs://, hf://..., too."
        ),
    ] = None,
    overrides: options.Overrides = None,
    json: options.Json = False,
) -> None:
    """Turn documents into verified token shards (--stage all: of every stage).

    Example: yxanul prepare --config_dir configs/embedded --stage all --data embedded --out
    data/embedded
    """
    one = None if stage == "all" else stage
    config = read_config(
        RunRequest(
            config_dir,
            stage=one,
            data=data,
            bench_dir=bench_dir,
            overrides=tuple(overrides or ()),
        )
    )
    if one is not None and len(config.stages) > 1:
        names = ", ".join(stage.name for stage in config.stages)
        say(
            f"stages to prepare: {names} ({one} is compared with the earlier ones and may replay "
            "them)"
        )
    if upload_to is not None:
        try_upload(upload_to, config.stages, out=out, say=say)
    watcher = StderrWatcher()
    try:
        # Where no bar is seen, lines tell how far it is.
        prepare(config.stages, out, progress=say, watcher=watcher if watcher.is_bar else None)
    finally:
        watcher.close()
    if upload_to is not None:
        upload(out, upload_to, say=say)
    inspection = inspect_folder(out)
    if json:
        print_json(inspection.to_json())
    else:
        print(render(inspection))


def inspect(
    folder: Annotated[Path, typer.Argument(help="Prepared data, a run folder or a checkpoint.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare every byte with the recorded sha256.")
    ] = False,
    token: Annotated[
        int | None, typer.Option("--token", min=0, help="Which document holds this training token?")
    ] = None,
    dropped: Annotated[
        bool, typer.Option("--dropped", help="Why documents were left out, with samples.")
    ] = False,
    packing: Annotated[
        int | None,
        typer.Option(
            "--packing",
            min=1,
            max=1 << 20,  # time and memory grow with the length of a chunk
            help="What best-fit packing into chunks of so many tokens does.",
        ),
    ] = None,
    overlap: Annotated[
        bool, typer.Option("--overlap", help="How much held-out text is trained on as well.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Show what a prepared folder, a run or a checkpoint holds; --verify compares every byte.

    Example: yxanul inspect runs/first --verify
    """
    questions = {
        "--token": token is not None,
        "--dropped": dropped,
        "--packing": packing is not None,
        "--overlap": overlap,
    }
    subject = find_subject(
        folder, verify=verify, asked=[name for name, is_asked in questions.items() if is_asked]
    )
    checkpoints = describe_checkpoints(subject, verify=verify)
    if verify:
        verify_rows(folder)
    inspection = subject.prepared and inspect_folder(
        subject.prepared,
        Questions(verify=verify, token=token, dropped=dropped, packing=packing, overlap=overlap),
        progress=say,
    )
    if json:
        told = inspection.to_json() if inspection else {}
        print_json({**told, "folder": str(folder), "checkpoints": checkpoints})
        return
    if inspection:
        print(render(inspection))
    elif subject.absent is not None:
        print(f"no prepared data at {subject.absent}")
    for checkpoint in checkpoints:
        print(f"checkpoint {checkpoint['name']}: {checkpoint['state']}")
