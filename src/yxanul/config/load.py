"""A folder of YAML files to one checked RunConfig, and back to text.

The one idea: everything that can be wrong is said before a run starts, all of it, a line each.
The files are model_config.yaml, optimization.yaml and stage*.yaml. Nothing is created or changed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yxanul.config.base import Section
from yxanul.config.contradictions import (
    Contradiction,
    find_contradictions,
    find_unused,
    find_unwritable,
)
from yxanul.config.overrides import MODEL, OPTIMIZATION, apply_overrides
from yxanul.config.problems import check, nearest_of_all, raise_problems
from yxanul.config.schema import ModelConfig, OptimizationConfig, RunConfig, StageConfig
from yxanul.config.yamltext import KeyPath, dotted, dump, parse_document, read_document
from yxanul.errors import ConfigError


class ModelFile(Section):
    """A model file: one key, `model`."""

    model: ModelConfig


def load_config(
    config_dir: Path,
    *,
    stages: Sequence[str] | None = None,
    model: str | None = None,
    overrides: Sequence[str] = (),
) -> RunConfig:
    """Read a folder of settings and check it whole.

    stages: names of the stages to load, in the order they run; None = every stage*.yaml in order.
    model: a name in config_dir/models (or models/ of a folder above), or a file; None =
    model_config.yaml. overrides: texts like "training.batch_tokens=4096".
    Raises ConfigError naming file, line, key, what is wrong and what to do, a line per problem.
    """
    folder = Path(config_dir)
    if not folder.is_dir():
        raise ConfigError(f"--config_dir {folder}: there is no such folder; name one with settings")
    files = {
        MODEL: _model_file(folder, model),
        OPTIMIZATION: _existing(folder / "optimization.yaml"),
        **_stage_files(folder, stages),
    }
    read = {name: read_document(file) for name, file in files.items()}
    documents = apply_overrides(read, overrides, known=stage_names(folder))
    problems: list[str] = []
    model_part, found = check(ModelFile, documents[MODEL])
    problems += found
    optimization, found = check(OptimizationConfig, documents[OPTIMIZATION])
    problems += found
    checked: list[StageConfig] = []
    for name, document in documents.items():
        if name in (MODEL, OPTIMIZATION):
            continue
        stage, found = check(StageConfig, document)
        problems += found
        if stage is not None:
            checked.append(stage)
            if stage.name != name:
                text = f"is {stage.name}, but the file is called {name}.yaml; make them equal"
                problems.append(f"{document.where(('name',))}: {text}")
    raise_problems(problems)
    assert model_part is not None  # no problems were found, so both parts are whole
    assert optimization is not None
    config = RunConfig(model=model_part.model, optimization=optimization, stages=tuple(checked))
    raise_problems(
        [
            f"{documents[one.stage or MODEL].where(one.path)}: {one.text}"
            for one in (
                *find_contradictions(config),
                *find_unused(config),
                *find_unwritable(config),
            )
        ]
    )
    return config


def stage_names(config_dir: Path) -> tuple[str, ...]:
    """Return the names of a folder's stages in the order they run (stage2 before stage10)."""
    stems = [path.stem for path in Path(config_dir).glob("stage*.yaml")]
    return tuple(sorted(stems, key=_natural))


def dump_config(config: RunConfig) -> str:
    """Return the whole config as one YAML text, every value written out."""
    return dump(_plain(config.model_dump(mode="python")))


def parse_config(text: str, label: str = "config.yaml") -> RunConfig:
    """Read what `dump_config` wrote. Raises ConfigError; `label` names the text in messages."""
    document = parse_document(text, label)
    config, problems = check(RunConfig, document)
    raise_problems(problems)
    assert config is not None  # no problems, so it is whole
    raise_problems(
        [
            f"{document.where(_path_in_run(config, one))}: {one.text}"
            for one in find_contradictions(config)
        ]
    )
    return config


def diff_configs(a: RunConfig, b: RunConfig) -> list[tuple[str, Any, Any]]:
    """Return (key path, value in a, value in b) of every difference; None where a key is absent.

    Key paths are those of `--set`: optimizer.eps, stage1_wikipedia.training.batch_tokens.
    """
    left, right = flat_config(a), flat_config(b)
    paths = [*left, *(path for path in right if path not in left)]
    return [
        (path, left.get(path), right.get(path))
        for path in paths
        if left.get(path) != right.get(path) or (path in left) != (path in right)
    ]


def flat_config(config: RunConfig) -> dict[str, Any]:
    """Return {key path, as in `--set`: value} of every setting."""
    values: dict[str, Any] = {}

    def walk(value: Any, path: KeyPath) -> None:
        items: Any = None
        if isinstance(value, dict):
            items = value.items()
        elif isinstance(value, (list, tuple)):
            items = enumerate(value)
        if items is None:
            values[dotted(path)] = value
            return
        for key, inner in items:
            walk(inner, (*path, key))

    data = config.model_dump(mode="python")
    walk(data["model"], ("model",))
    walk(data["optimization"], ())
    for stage in data["stages"]:
        walk(stage, (stage["name"],))
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _path_in_run(config: RunConfig, one: Contradiction) -> KeyPath:
    if one.stage is None:
        return one.path
    if one.stage == OPTIMIZATION:
        return (OPTIMIZATION, *one.path)
    index = [stage.name for stage in config.stages].index(one.stage)
    return ("stages", index, *one.path)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort digits by value; stages that share a number keep alphabetical order."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def _existing(path: Path) -> Path:
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in path.parent.glob("*.yaml"))) or "no YAML file"
        raise ConfigError(
            f"{path}: the file is missing; {path.parent} holds: {there}. Add it, or name another "
            "folder with --config_dir"
        )
    return path


def _stage_files(folder: Path, stages: Sequence[str] | None) -> dict[str, Path]:
    known = stage_names(folder)
    if other := sorted(folder.glob("stage*.yml")):
        raise ConfigError(f"{other[0]} is not read; rename it to {other[0].stem}.yaml, or move it")
    if not known:
        _existing(folder / "stage1_wikipedia.yaml")
    for name in stages if stages is not None else ():
        if name not in known:
            raise ConfigError(
                f"--stage {name}: {folder} has no such stage; "
                f"{nearest_of_all(name, known, kind='stages')}"
            )
    wanted = known if stages is None else stages
    if not wanted or len(set(wanted)) != len(wanted):
        raise ConfigError(f"--stage: name at least one stage, and each once: {', '.join(known)}")
    return {name: folder / f"{name}.yaml" for name in wanted}


def _model_file(folder: Path, model: str | None) -> Path:
    if model is None:
        return _existing(folder / "model_config.yaml")
    if Path(model).is_file():
        return Path(model)
    above = [folder, *folder.resolve().parents[:2]]  # configs/embedded and configs/recipes/X too
    shelves = [place / "models" for place in above if (place / "models").is_dir()]
    found = next((s / f"{model}.yaml" for s in shelves if (s / f"{model}.yaml").is_file()), None)
    if found is None:
        names = sorted({path.stem for shelf in shelves for path in shelf.glob("*.yaml")})
        listed = "there is no models folder"
        if names:
            listed = nearest_of_all(Path(model).stem, names, kind="models")
        raise ConfigError(f"--model {model}: no such file or model; {listed}")
    return found
