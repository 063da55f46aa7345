"""`--set key.path=value`: changes to the parsed files before they are checked.

The one idea: a key path is the YAML's own, a value is YAML too. `training.`, `data.`, `evaluation.`
and `gate.` reach every loaded stage, `STAGE.training.` one. Whether a key exists is judged later,
by the same check as the files.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_origin

from yxanul.config.problems import block_of, nearest
from yxanul.config.schema import OptimizationConfig, StageConfig
from yxanul.config.yamltext import Document, KeyPath, parse_value
from yxanul.errors import ConfigError

MODEL, OPTIMIZATION = "model", "optimization"
_STAGE_BLOCKS = tuple(
    name for name in StageConfig.model_fields if name not in ("name", "description")
)


@dataclass(frozen=True)
class Override:
    """One parsed `--set`: the text as given, its key path, its value."""

    text: str
    path: tuple[str, ...]
    value: Any


def parse_override(text: str) -> Override:
    """Parse `key.path=value`; an empty value is null. Raises ConfigError without key or `=`."""
    key, equals, value = text.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        raise ConfigError(
            f"--set {text}: not key=value; write for example --set training.batch_tokens=4096"
        )
    return Override(text=text, path=path, value=parse_value(value, f"--set {text}"))


def apply_overrides(
    documents: Mapping[str, Document], texts: Iterable[str], *, known: Sequence[str]
) -> dict[str, Document]:
    """Return the documents with every `--set` written in, later ones over earlier ones.

    `documents` maps "model", "optimization" and the names of the loaded stages to parsed files;
    `known` are the folder's stages. Raises ConfigError when the first key is no block of a loaded
    file or a step of the path is a value.
    """
    changed = {name: _copy(document) for name, document in documents.items()}
    stages = [name for name in documents if name not in (MODEL, OPTIMIZATION)]
    for text in texts:
        override = parse_override(text)
        for name, path in _targets(override, stages, known=known):
            _write(changed[name], path, override=override)
    return changed


def _targets(
    override: Override, stages: list[str], *, known: Sequence[str]
) -> list[tuple[str, tuple[str, ...]]]:
    """Return (document, path inside it) for each document that an override changes."""
    first, rest = override.path[0], override.path[1:]
    if first == "model":
        return [(MODEL, override.path)]
    if first in OptimizationConfig.model_fields:
        return [(OPTIMIZATION, override.path)]
    if first in _STAGE_BLOCKS:
        return [(name, override.path) for name in stages]
    if first in stages and rest and rest[0] in _STAGE_BLOCKS:
        return [(first, rest)]
    if first in stages:
        hint = f"choose from: {', '.join(f'{first}.{block}' for block in _STAGE_BLOCKS)}"
        raise ConfigError(f"--set {override.text}: {'.'.join(override.path)} cannot be set; {hint}")
    if first in known:
        raise ConfigError(
            f"--set {override.text}: {first} is not read by this command, which reads "
            f"{', '.join(stages)} alone; leave it out"
        )
    keys = ["model", *OptimizationConfig.model_fields, *_STAGE_BLOCKS, *stages]
    raise ConfigError(f"--set {override.text}: unknown key {first}; {nearest(first, keys)}")


def _write(document: Document, path: tuple[str, ...], *, override: Override) -> None:
    place: Any = document.data
    real: list[str | int] = []
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        step: str | int = part
        if isinstance(place, list):
            if not part.isdecimal() or int(part) >= len(place):
                raise _no_entry(document, path[:depth], entries=len(place), override=override)
            step = int(part)
        elif not isinstance(place, dict):
            raise ConfigError(
                f"--set {override.text}: {'.'.join(path[:depth])} is a value and holds no keys"
            )
        elif not last and place.get(part) is None:
            if _is_list(path[: depth + 1]):
                raise _no_entry(document, path[: depth + 1], entries=0, override=override)
            place[part] = {}
        real.append(step)
        if last:
            place[step] = copy.deepcopy(override.value)
        else:
            place = place[step]
    overridden: Any = document.overridden
    overridden[tuple(real)] = override.text


def _is_list(path: Sequence[str]) -> bool:
    """Tell whether the schema has a list there; what it does not know is judged with the files."""
    block: Any = OptimizationConfig if path[0] in OptimizationConfig.model_fields else StageConfig
    annotation: Any = None
    for part in path:
        field = block.model_fields.get(part) if block is not None else None
        annotation = None if field is None else field.annotation
        block = block_of(annotation)
    return get_origin(annotation) is tuple


def _no_entry(
    document: Document, path: Sequence[str], *, entries: int, override: Override
) -> ConfigError:
    key = ".".join(path)
    remedy = "name one by its number, from 0, and the stage if others lack it"
    if not entries:
        other = ", or name a stage that has entries" if path[0] in _STAGE_BLOCKS else ""
        remedy = f"set the whole list (--set '{key}=[...]'){other}"
    return ConfigError(
        f"--set {override.text}: {key} is a list of {entries} entries in {document.label}; {remedy}"
    )


def _copy(document: Document) -> Document:
    overridden: dict[KeyPath, str] = dict(document.overridden)
    return replace(document, data=copy.deepcopy(document.data), overridden=overridden)
