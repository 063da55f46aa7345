"""A model that was named on the command line, with the run it belongs to, if it is ours."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from yxanul.config.schema import RunConfig
from yxanul.data.prepared.manifest import has_manifest
from yxanul.evaluate.models.huggingface import open_pretrained
from yxanul.evaluate.models.language_model import LanguageModel, is_ours
from yxanul.evaluate.models.loaded import load_model, trained_sources
from yxanul.evaluate.models.ours import as_language_model
from yxanul.model.transformer import Transformer
from yxanul.runfolder.checkpoints import WEIGHTS_NAME, read_manifest
from yxanul.runfolder.durable import sha256_of
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import first_parent


@dataclass(frozen=True)
class OpenedModel:
    """A model ready to be scored; `notes` are sentences that its user should see."""

    model: LanguageModel
    records: Path
    """Where the records of its scores belong."""
    notes: tuple[str, ...]
    weights: str
    """Which state it is: a commit of the hub, else the sha256 of its weights."""
    checkpoint: str | None = None
    """Name of a checkpoint of ours."""
    transformer: Transformer | None = None
    """The model as a gate reads it, if it is ours: its matrices in fp32."""
    config: RunConfig | None = None
    """Of its run."""
    prepared: Path | None = None
    """Prepared data of its run, if it is still there."""
    kept: Path | None = None
    """Folder of the items that its run was judged by."""
    is_begun_anew: bool = False
    """Whether its run was begun from weights of elsewhere, whose own text nothing tells."""
    trained: Mapping[str, str] | None = None
    """{source: sha256 of its training shards} of what was trained on; None = not known."""


def open_for_scoring(name: str) -> OpenedModel:
    """Open a run folder, a checkpoint of it, a Hugging Face folder or a hub id; see `open_model`.

    Records of a model that is not ours belong in evaluation/NAME-HASH below the working folder, of
    the hub with a commit, of a folder with a hash of path and weights, since many are called alike:
    nothing is written beside somebody's weights.
    """
    place = Path(name)
    if not is_ours(place):
        found = open_pretrained(name)
        weights = found.commit or _weights_in(place)
        label = _folder_label(place, weights) if found.commit is None else _label(name, weights)
        return OpenedModel(found, Path("evaluation") / label, found.notes, weights)
    loaded = load_model(place)
    run = RunFolder(loaded.info.path.parents[1])
    prepared = run.prepared_data()
    return OpenedModel(
        model=as_language_model(loaded.model, loaded.tokenizer, name=name),
        records=run.evaluation / loaded.info.name,
        notes=loaded.notes,
        weights=read_manifest(loaded.info.path)[1][WEIGHTS_NAME]["sha256"],
        checkpoint=loaded.info.name,
        transformer=loaded.model,
        config=loaded.config,
        prepared=prepared if has_manifest(prepared) else None,
        kept=run.bench,
        is_begun_anew=first_parent(run.lineage) is not None,
        trained=trained_sources(loaded.info.path),
    )


def _weights_in(folder: Path) -> str:
    """Return the sha256 of the one file of weights, of several the sha256 of theirs by name."""
    sums = [sha256_of(path) for path in sorted(folder.glob("*.safetensors"))]
    return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()


def _folder_label(place: Path, weights: str) -> str:
    """Return a folder's name and a hash of its whole path and its weights."""
    whole = place.resolve()
    both = os.fsencode(whole) + weights.encode()
    return _label(whole.name, hashlib.sha256(both).hexdigest())


def _label(name: str, digits: str) -> str:
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', name)}-{digits[:8]}"
