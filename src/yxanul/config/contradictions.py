"""What single files cannot see: settings that are each possible but not together.

The one idea: a list of contradictions, each with the key that should change. It changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from yxanul.config.base import Section
from yxanul.config.optimization import FP8_MULTIPLE
from yxanul.config.overrides import OPTIMIZATION
from yxanul.config.problems import nearest, raise_problems
from yxanul.config.schema import (
    ComputeConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    StageConfig,
    chunk_tokens,
    evaluation_seq_len,
)
from yxanul.config.tokens import GPT2_TOKENS
from yxanul.config.yamltext import KeyPath, dotted

_OF_THE_HUB = ("hub_id", "hub_config", "hub_split", "hub_revision", "text_template", "private")


@dataclass(frozen=True)
class Contradiction:
    """One contradiction: the stage or file it concerns, the key, the sentence."""

    stage: str | None
    """A stage's name, or `OPTIMIZATION`; None = the model."""
    path: KeyPath
    text: str

    @property
    def key(self) -> str:
        """The key as `--set` writes it."""
        if self.stage is None or self.stage == OPTIMIZATION:
            return dotted(self.path)
        return dotted((self.stage, *self.path))


def find_contradictions(config: RunConfig) -> list[Contradiction]:
    """Return every contradiction between the parts of a run, in a fixed order."""
    found = [*_model(config.model), *_fp8(config), *_names(config), *_skills(config)]
    for stage in config.stages:
        found += [*_sequence_lengths(config, stage), *_sources(stage)]
    return found


def find_unused(config: RunConfig) -> list[Contradiction]:
    """Return every setting that another one leaves without effect, as a user's files have it.

    A run's own configuration is not asked: where `auto` was settled, what belonged to it stays.
    """
    optimization = config.optimization
    found = [*_unused_by_optimizer(optimization.optimizer), *_unused_compute(optimization.compute)]
    for stage in config.stages:
        found += [*_unused_decay(stage), *_unused_of_sources(stage), *_unused_forecasts(stage)]
    return found


def find_unwritable(config: RunConfig) -> list[Contradiction]:
    """Return every length of written answers that leaves a prompt no place in the model.

    A run's own configuration is not asked: what an older version began so must still be read.
    """
    longest = config.model.max_position_embeddings
    return [
        Contradiction(
            stage.name,
            ("evaluation", "skills", i, "max_new_tokens"),
            f"is {skill.max_new_tokens:,}, and the model's max_position_embeddings {longest:,} "
            f"hold a prompt as well; take 1 to {longest - 1:,}, or null",
        )
        for stage in config.stages
        for i, skill in enumerate(stage.evaluation.skills)
        if skill.writes and skill.max_new_tokens is not None and skill.max_new_tokens >= longest
    ]


def check_config(config: RunConfig) -> None:
    """Raise ConfigError naming every contradiction of a config that was built in code."""
    raise_problems(
        [
            f"{dotted((one.stage, *one.path) if one.stage else one.path)}: {one.text}"
            for one in find_contradictions(config)
        ]
    )


def _model(model: ModelConfig) -> Iterator[Contradiction]:
    if model.vocab_size < GPT2_TOKENS:
        text = f"is {model.vocab_size:,}, but the tokenizer has {GPT2_TOKENS:,} tokens; raise it"
        yield Contradiction(None, ("model", "vocab_size"), text)


def _fp8(config: RunConfig) -> Iterator[Contradiction]:
    """Find sides that FP8 cannot multiply; a start that times them for `auto` leaves them out."""
    model, part = config.model, config.optimization.compute.fp8
    if part not in ("ffn", "blocks"):
        return
    sides = {"hidden_size": model.hidden_size, "intermediate_size": model.intermediate_size}
    if part == "blocks":
        for name in ("num_attention_heads", "num_key_value_heads"):
            sides[f"{name} x head_dim"] = getattr(model, name) * model.head_dim
    odd = ", ".join(f"{name} is {side:,}" for name, side in sides.items() if side % FP8_MULTIPLE)
    if odd:
        text = (
            f"is {part}, whose matrices need sides that are multiples of {FP8_MULTIPLE}, and the "
            f"model's {odd}; change the model's sizes or set it to off"
        )
        yield Contradiction(OPTIMIZATION, ("compute", "fp8"), text)


def _sequence_lengths(config: RunConfig, stage: StageConfig) -> Iterator[Contradiction]:
    longest = config.model.max_position_embeddings
    batch, chunk = stage.training.batch_tokens, chunk_tokens(config, stage)
    by_rule = stage.data.chunk_tokens is None
    named = f"chunk_tokens {chunk:,}"
    if by_rule:
        named += " (null: the smaller of max_position_embeddings and batch_tokens)"
    settles: KeyPath = ("training", "batch_tokens") if by_rule else ("data", "chunk_tokens")
    if batch % chunk:
        text = f"batch_tokens {batch:,} is no multiple of {named}; make it one"
        yield Contradiction(stage.name, settles, text)
    for i, phase in enumerate(stage.training.seq_len_curriculum):
        path: KeyPath = ("training", "seq_len_curriculum", i, "seq_len")
        if phase.seq_len > longest:
            text = f"is {phase.seq_len:,}, over the model's max_position_embeddings {longest:,}"
            yield Contradiction(stage.name, path, f"{text}; shorten it or choose another model")
        elif phase.seq_len > chunk:
            text = f"is {phase.seq_len:,}, over {named}; shorten it or raise {dotted(settles)}"
            yield Contradiction(stage.name, path, text)
        elif chunk % phase.seq_len:
            text = f"is {phase.seq_len:,}, which does not divide {named}; choose a divisor"
            yield Contradiction(stage.name, path, text)
    window = evaluation_seq_len(config, stage)
    if window > longest:
        text = f"is {window:,}, over the model's max_position_embeddings {longest:,}; shorten it"
        yield Contradiction(stage.name, ("evaluation", "seq_len"), text)


def _sources(stage: StageConfig) -> Iterator[Contradiction]:
    for kind in ("hub", "embedded"):
        if stage.data.source == kind and not getattr(stage.data, f"{kind}_sources"):
            text = f"is {kind}, but {kind}_sources is empty; add a source or name a folder"
            yield Contradiction(stage.name, ("data", "source"), text)


def _unused_by_optimizer(optimizer: OptimizerConfig) -> Iterator[Contradiction]:
    if optimizer.name == "adamw":
        for name in _changed(optimizer, "muon_momentum", "muon_beta2"):
            why = _idle(optimizer, name, why="optimizer.name is adamw")
            yield Contradiction(OPTIMIZATION, ("optimizer", name), why)


def _unused_decay(stage: StageConfig) -> Iterator[Contradiction]:
    training = stage.training
    if training.schedule == "linear_to_zero":
        for name in _changed(training, "decay_fraction"):
            why = _idle(training, name, why="training.schedule is linear_to_zero")
            yield Contradiction(stage.name, ("training", name), why)


def _unused_compute(compute: ComputeConfig) -> Iterator[Contradiction]:
    if compute.fp8 == "off":
        for name in _changed(compute, "fp8_recipe", "fp8_emulate"):
            text = "has no effect while fp8 is off; leave it out, or set compute.fp8"
            yield Contradiction(OPTIMIZATION, ("compute", name), text)
    if not compute.gradient_checkpointing and compute.checkpointed_share not in (None, 1.0):
        text = "has no effect while gradient_checkpointing is false; leave it out, or set that"
        yield Contradiction(OPTIMIZATION, ("compute", "checkpointed_share"), text)


def _unused_of_sources(stage: StageConfig) -> Iterator[Contradiction]:
    for kind in ("hub_sources", "embedded_sources"):
        for i, source in enumerate(getattr(stage.data, kind)):
            if source.documentation is not None:
                why = "documentation says where the text is read"
            elif kind == "embedded_sources":
                why = "an embedded source is read from installed packages"
            else:
                continue
            # Another sentence refuses the hub_id of an embedded source.
            for name in _changed(source, *_OF_THE_HUB):
                text = f"has no effect, since {why}; leave it out"
                yield Contradiction(stage.name, ("data", kind, i, name), text)


def _unused_forecasts(stage: StageConfig) -> Iterator[Contradiction]:
    """Find forecasts of domains that the stage does not have: its gate would not judge by them."""
    sources = (*stage.data.hub_sources, *stage.data.embedded_sources)
    # A folder of texts has the domain of the stage's first source, or the stage's name.
    known = list(dict.fromkeys(source.domain for source in sources)) or [stage.name]
    for domain in stage.gate.level.forecast if stage.gate.level is not None else ():
        if domain not in known:
            text = f"no source of this stage has the domain {domain}; {nearest(domain, known)}"
            yield Contradiction(stage.name, ("gate", "level", "forecast", domain), text)


def _changed(section: Section, *names: str) -> list[str]:
    """Return the fields that are not at their defaults."""
    fields = type(section).model_fields
    return [name for name in names if getattr(section, name) != fields[name].default]


def _idle(section: Section, name: str, *, why: str) -> str:
    """Say that nothing reads a field: a `--set` cannot leave out what stands in a file."""
    default = json.dumps(type(section).model_fields[name].default)
    return f"has no effect while {why}; change that, or take {default}, which is the default"


def _names(config: RunConfig) -> Iterator[Contradiction]:
    """What stages must not share.

    Shards of one prepared folder lie under the source's name. A domain's held-out documents are
    those of one stage: else a gate would compare others.
    """
    stages = [stage.name for stage in config.stages]
    for name in sorted({name for name in stages if stages.count(name) > 1}):
        yield Contradiction(name, ("name",), f"two stages are called {name}; name each once")
    for kind in ("hub_sources", "embedded_sources"):
        yield from _shared(config, kind, field="name", what="source", remedy="rename one of them")
        yield from _shared(config, kind, field="domain", what="domain", remedy="give it another")


def _shared(
    config: RunConfig, kind: str, *, field: str, what: str, remedy: str
) -> Iterator[Contradiction]:
    """Find the values of a field of the sources that two stages have."""
    owner: dict[str, str] = {}
    for stage in config.stages:
        for i, source in enumerate(getattr(stage.data, kind)):
            value = getattr(source, field)
            first = owner.setdefault(value, stage.name)
            if first != stage.name:
                text = f"{value} is also a {what} of {first}; {remedy}"
                yield Contradiction(stage.name, ("data", kind, i, field), text)


def _skills(config: RunConfig) -> Iterator[Contradiction]:
    """A task is scored in one way in a whole run: else one stage's end is no other's beginning."""
    first: dict[str, tuple[str, dict[str, object]]] = {}
    for stage in config.stages:
        for i, skill in enumerate(stage.evaluation.skills):
            way = {name: getattr(skill, name) for name in ("items", "shots", "max_new_tokens")}
            way["bench"] = stage.evaluation.bench
            owner, known = first.setdefault(skill.task, (stage.name, way))
            for name in (name for name in way if way[name] != known[name]):
                path: KeyPath = ("evaluation", "skills", i, name)
                if name == "bench":
                    path = ("evaluation", "bench")
                here, there = (json.dumps(found[name]) for found in (way, known))
                text = f"{skill.task} has {name} {here} here and {there} in {owner}"
                yield Contradiction(stage.name, path, f"{text}; make them one")
