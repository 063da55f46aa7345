"""An export is written beside its place, compared with the model, and only then put there.

The one idea: what lies at `out` has been read back and says what the model says. Whatever fails
leaves nothing behind.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from yxanul.errors import MissingExtraError, UsageError
from yxanul.export.checks import Check, Reader, Subject, Tolerance, compare
from yxanul.export.gguf import TOLERANCES as GGUF
from yxanul.export.gguf import GgufReader, import_gguf, write_gguf
from yxanul.export.huggingface import TOLERANCES as HUGGING_FACE
from yxanul.export.huggingface import TransformersReader, import_transformers, write_folder
from yxanul.export.llamacpp import LLAMA_TOLERANCES, LlamaReader
from yxanul.runfolder.durable import sync_file, sync_folder, writing
from yxanul.signals import leaving_on_signals

KINDS = {"hf": tuple(HUGGING_FACE), "gguf": tuple(GGUF)}
"""The types of numbers that each form can store."""


@dataclass(frozen=True)
class Exported:
    """What was written, and what was compared before it was put in its place."""

    place: Path
    bytes: int
    checks: tuple[Check, ...]


def refuse_export(out: Path, *, form: str, kind: str) -> None:
    """Refuse what can be refused before there is a model.

    Raises `UsageError` if `out` is there or `form`, one of `KINDS`, cannot store `kind`, and
    `MissingExtraError` without the package that reads it back.
    """
    if kind not in KINDS[form]:
        raise UsageError(f"--type {kind}: --to {form} can store {', '.join(KINDS[form])}")
    if out.exists() or out.is_symlink():
        raise UsageError(f"--out {out} is there already; name another place, or delete it")
    if form == "hf":
        import_transformers()
    else:
        import_gguf()


def export_folder(
    subject: Subject, out: Path, *, kind: str, card: str, say: Callable[[str], None]
) -> Exported:
    """Write a Hugging Face folder, and read it back by transformers.

    Raises `UsageError` if `out` is there or `kind` is none of `KINDS`, `MissingExtraError`,
    `ExportCheckError` if what is read back differs, `DiskError`.
    """
    refuse_export(out, form="hf", kind=kind)
    with _beside(out) as place:
        place.mkdir()
        write_folder(subject, place, kind=kind, card=card)
        checks = _compared(subject, TransformersReader(place), within=HUGGING_FACE[kind], say=say)
        return Exported(out, _put(place, out), tuple(checks))


def export_gguf(
    subject: Subject, out: Path, *, kind: str, title: str, say: Callable[[str], None]
) -> Exported:
    """Write a GGUF file, and read it back by gguf, and by llama.cpp where that is installed.

    Raises what `export_folder` does.
    """
    refuse_export(out, form="gguf", kind=kind)
    with _beside(out) as place:
        write_gguf(subject, place, kind=kind, title=title)
        read = GgufReader(place, subject, kind=kind)
        checks = _compared(subject, read, within=GGUF[kind], say=say)
        checks += _tried_in_llama_cpp(subject, place, kind=kind, say=say)
        return Exported(out, _put(place, out), tuple(checks))


def _tried_in_llama_cpp(
    subject: Subject, place: Path, *, kind: str, say: Callable[[str], None]
) -> list[Check]:
    """Read a GGUF file by llama.cpp as well, where that is there to read it."""
    try:
        llama = LlamaReader(place)
    except MissingExtraError as error:
        say(f"not tried in llama.cpp itself: {error}")
        return []
    with closing(llama):
        return _compared(subject, llama, within=LLAMA_TOLERANCES[kind], say=say)


def _compared(
    subject: Subject, reader: Reader, *, within: Tolerance, say: Callable[[str], None]
) -> list[Check]:
    checks = []
    for check in compare(subject, reader, within=within):
        say(f"{check.reader}: {check.told}")
        checks.append(check)
    return checks


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """Yield a place beside `out`; what lies there at the end is deleted, whatever ends it."""
    place = out.with_name(f".tmp-{out.name}-{uuid.uuid4().hex[:8]}")
    with leaving_on_signals(), writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield place
        finally:
            if place.is_dir():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)


def _put(place: Path, out: Path) -> int:
    """Sync what was written and rename it; return its bytes."""
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    for path in files:
        path.chmod(0o644)  # safetensors writes for its owner alone
        sync_file(path)
    size = sum(path.stat().st_size for path in files)
    if place.is_dir():
        sync_folder(place)
    place.rename(out)
    sync_folder(out.parent)
    return size
