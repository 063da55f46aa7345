"""`export`: a trained model for transformers or llama.cpp, compared with the model it came from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from yxanul.cli import options
from yxanul.cli.folders import is_folder, open_folder
from yxanul.cli.output import print_json, say
from yxanul.data.batches.validation import domain_documents
from yxanul.data.prepared.manifest import has_manifest, load_manifest
from yxanul.data.tokenizer import load_tokenizer
from yxanul.errors import CorruptDataError, UsageError
from yxanul.evaluate.models.loaded import load_model
from yxanul.export.average import average_of
from yxanul.export.checks import Subject
from yxanul.export.exporting import KINDS, export_folder, export_gguf, refuse_export
from yxanul.export.reading import is_own_file
from yxanul.export.upload import check_repository, upload
from yxanul.hardware.device import use_own_cores
from yxanul.report.model_card import plain_card, write_card
from yxanul.runfolder.checkpoints import CheckpointInfo
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.rows import read_rows

_HELD_OUT_TOKENS = 4096

To = Annotated[str, typer.Option("--to", help="hf (a folder for transformers) or gguf (a file).")]
Place = Annotated[Path, typer.Option("--out", help="Where to write; it must not be there yet.")]
Kind = Annotated[
    str,
    typer.Option(
        "--type",
        help=f"Numbers of hf: {', '.join(KINDS['hf'])}; of gguf: {', '.join(KINDS['gguf'])}.",
    ),
]
Average = Annotated[
    str | None,
    typer.Option("--average", help="last:N = the mean of the run's last N checkpoints."),
]
Upload = Annotated[
    str | None,
    typer.Option(
        "--upload",
        help="owner/name: also put the folder into a private repository of the hub; the token is "
        "read from HF_TOKEN alone.",
    ),
]


@dataclass(frozen=True)
class _Origin:
    """A model to export, and what is known of it."""

    subject: Subject
    title: str
    card: str
    notes: Sequence[str]


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A run folder (its newest checkpoint), one of its checkpoints, a Hugging Face "
            "folder of this architecture, or owner/name on the hub.",
        ),
    ],
    to: To,
    out: Place,
    kind: Kind = "f32",
    averaged: Average = None,
    upload_to: Upload = None,
    json: options.Json = False,
) -> None:
    """Write a trained model for transformers or llama.cpp, and prove that it says the same there.

    Example: yxanul export runs/first --to gguf --type q8_0 --out first.gguf
    """
    if to not in KINDS:
        raise UsageError(f"--to {to}: it takes {' or '.join(KINDS)}")
    if upload_to is not None:
        if to != "hf":
            raise UsageError("--upload takes a folder of --to hf")
        check_repository(upload_to)
    refuse_export(out, form=to, kind=kind)
    origin = _open(model, averaged=averaged)
    for note in origin.notes:
        say(note)
    if to == "hf":
        done = export_folder(origin.subject, out, kind=kind, card=origin.card, say=say)
    else:
        done = export_gguf(origin.subject, out, kind=kind, title=origin.title, say=say)
    say(f"{done.place}: {done.bytes / 1e6:,.1f} MB, {kind}")
    url = None if upload_to is None else upload(done.place, upload_to)
    if url is not None:
        say(f"uploaded to {url} (private)")
    if json:
        checks = [check.as_json() for check in done.checks]
        size = {"out": str(done.place), "bytes": done.bytes, "type": kind}
        print_json({"model": str(Path(model)), "to": to, **size, "checks": checks, "url": url})


def _open(name: str, *, averaged: str | None) -> _Origin:
    use_own_cores()
    place = Path(name)
    if is_folder(name):
        if averaged is not None:
            raise UsageError("--average takes a run folder, not a Hugging Face folder")
        return _of_folder(name)
    # All the work is the CPU's, and the card may be full of a run that trains.
    loaded = load_model(place, precision="fp32", device=torch.device("cpu"))
    run = RunFolder(loaded.info.path.parents[1])
    notes = list(loaded.notes)
    checkpoints = [loaded.info]
    if averaged is not None:
        if place.resolve() != run.root.resolve():
            raise UsageError("--average takes a run folder, not one of its checkpoints")
        checkpoints, mean = average_of(run, averaged)
        loaded.model.load_state_dict(mean)
    held_out, missing = _held_out(run, stage=loaded.config.stages[-1].name)
    notes += missing
    # A run that has logged no step yet has nothing to tell but its shape.
    card = write_card(run.root, checkpoints=checkpoints) if read_rows(run.metrics) else None
    return _Origin(
        Subject(loaded.model, loaded.tokenizer, held_out),
        title=_title(run, checkpoints),
        card=card or plain_card(run.root, loaded.config.model),
        notes=notes,
    )


def _title(run: RunFolder, checkpoints: Sequence[CheckpointInfo]) -> str:
    name, last = run.root.resolve().name, checkpoints[-1].name
    if len(checkpoints) == 1:
        return f"{name} {last}"
    return f"{name} average of {len(checkpoints)} checkpoints, {checkpoints[0].name} to {last}"


def _of_folder(name: str) -> _Origin:
    found, called = open_folder(name, precision="fp32"), Path(name)
    lack = "a Hugging Face folder has no held-out text: perplexity is not compared"
    card = found.place / "README.md"
    # Licences and attributions stay with the weights.
    kept = card.read_text(encoding="utf-8", errors="replace") if is_own_file(card) else None
    return _Origin(
        Subject(found.model, load_tokenizer(), ()),
        title=called.resolve().name,
        card=kept or plain_card(called, found.model.config),
        notes=(*found.notes, lack),
    )


def _held_out(run: RunFolder, *, stage: str) -> tuple[list[list[int]], list[str]]:
    """Return ids of held-out documents of a stage, or why there are none: weights need no text."""
    prepared, missing = run.prepared_data(), "perplexity is not compared"
    if not has_manifest(prepared):
        return [], [f"{prepared} is not there any more, or may not be read: {missing}"]
    try:
        domains = domain_documents(
            load_manifest(prepared), prepared, stage=stage, tokens_per_domain=_HELD_OUT_TOKENS
        )
    except CorruptDataError as error:
        return [], [f"{missing}: {error}"]
    documents = [document.tolist() for found in domains.values() for document in found]
    return documents, [] if documents else [f"{prepared} has no text of {stage}: {missing}"]
