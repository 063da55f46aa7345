"""Every setting of a run as a typed, frozen field with its unit and what null means.

The one idea: a run is described by plain values, checked once, never changed afterwards. The YAML
files of configs/, docs/config.md and `--set` all follow these classes. Checks inside one class live
here; contradictions between files live in `yxanul.config.contradictions`; reading files lives in
`yxanul.config.load`. Nothing here builds a model, opens a file or imports torch.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field, model_validator

from yxanul.config.base import PositiveFloat, PositiveInt, Section, refuse
from yxanul.config.evaluation import EvaluationConfig, SkillConfig
from yxanul.config.gate import ExtensionConfig, GateConfig, RollbackConfig
from yxanul.config.optimization import (
    BudgetConfig,
    CheckpointConfig,
    ComputeConfig,
    LoggingConfig,
    NumericsConfig,
    OptimizationConfig,
    OptimizerConfig,
    WatchConfig,
)
from yxanul.config.treatment import TreatmentConfig

__all__ = [
    "BudgetConfig",
    "CheckpointConfig",
    "ComputeConfig",
    "DataConfig",
    "EvaluationConfig",
    "ExtensionConfig",
    "GateConfig",
    "LoggingConfig",
    "ModelConfig",
    "NumericsConfig",
    "OptimizationConfig",
    "OptimizerConfig",
    "RollbackConfig",
    "RunConfig",
    "SeqLenPhase",
    "SkillConfig",
    "SourceConfig",
    "StageConfig",
    "TrainingConfig",
    "WatchConfig",
    "chunk_tokens",
    "evaluation_seq_len",
]


class ModelConfig(Section):
    """The shape of the model, with the names of Hugging Face configs (the Gemma-1 block)."""

    name: str = Field(
        min_length=1, description="Name of the shape; part of the default run folder."
    )
    hidden_size: PositiveInt = Field(description="Width of the residual stream, in channels.")
    num_hidden_layers: PositiveInt = Field(description="Number of transformer blocks.")
    num_attention_heads: PositiveInt = Field(description="Query heads per layer.")
    num_key_value_heads: PositiveInt = Field(
        description="Key and value heads per layer; must divide num_attention_heads. "
        "Fewer than num_attention_heads is grouped-query attention."
    )
    head_dim: PositiveInt = Field(
        description="Channels per head; even, since rotary embeddings turn pairs. "
        "heads x head_dim need not equal hidden_size."
    )
    intermediate_size: PositiveInt = Field(
        description="Channels inside the GEGLU feed-forward layer (three matrices)."
    )
    vocab_size: PositiveInt = Field(
        default=50257, description="Rows of the embedding, in tokens; GPT-2's tokenizer has 50,257."
    )
    max_position_embeddings: PositiveInt = Field(
        description="Longest sequence the model is made for, in tokens."
    )
    rope_theta: PositiveFloat = Field(
        default=10000.0, description="Base of the rotary embedding's wavelengths (no unit)."
    )
    rms_norm_eps: PositiveFloat = Field(
        default=1e-6, description="Added to the mean square inside RMS normalisation (no unit)."
    )
    initializer_range: PositiveFloat = Field(
        default=0.02,
        description="Standard deviation of new linear weights. Outputs of attention and FFN are "
        "divided by sqrt(2 x layers), the embedding by sqrt(hidden_size).",
    )
    tie_word_embeddings: Literal[True] = Field(
        default=True,
        description="The head shares the embedding's matrix; only true exists (Gemma-1 block).",
    )

    @model_validator(mode="after")
    def _heads_fit(self) -> ModelConfig:
        problems = []
        if self.num_attention_heads % self.num_key_value_heads:
            problems.append(
                f"num_key_value_heads ({self.num_key_value_heads}) does not divide "
                f"num_attention_heads ({self.num_attention_heads}); choose a divisor"
            )
        if self.head_dim % 2:
            problems.append(
                f"head_dim ({self.head_dim}) is odd; rotary embeddings need an even number"
            )
        refuse(problems)
        return self


class SeqLenPhase(Section):
    """One phase of the sequence-length curriculum."""

    from_fraction: float = Field(
        ge=0, lt=1, description="Where the phase begins, as a share of the stage's tokens (0 to 1)."
    )
    seq_len: int = Field(ge=2, description="Tokens per sequence in this phase.")


class TrainingConfig(Section):
    """How long a stage trains, how fast it learns, how long its sequences are."""

    total_tokens: PositiveInt = Field(
        description="Tokens the stage trains on, replay included; steps = total_tokens // "
        "batch_tokens."
    )
    batch_tokens: PositiveInt = Field(
        description="Tokens per optimizer step over all ranks; accumulation follows from it."
    )
    learning_rate: PositiveFloat = Field(
        description="Peak rate of the matrices inside the layers (no unit)."
    )
    embedding_learning_rate: PositiveFloat | None = Field(
        default=None, description="Peak rate of the embedding; null = learning_rate."
    )
    norm_learning_rate: PositiveFloat | None = Field(
        default=None, description="Peak rate of the norms' weights; null = learning_rate."
    )
    schedule: Literal["linear_to_zero", "wsd"] = Field(
        default="linear_to_zero",
        description="linear_to_zero = warm up, then straight to zero; wsd = warm up, stay, then "
        "linear to zero over decay_fraction.",
    )
    warmup_fraction: float = Field(
        default=0.02, ge=0, lt=1, description="Share of the stage's tokens spent warming up."
    )
    decay_fraction: float = Field(
        default=0.3,
        gt=0,
        le=1,
        description="Share of the stage's tokens in the final decay; read by wsd only.",
    )
    seq_len_curriculum: tuple[SeqLenPhase, ...] = Field(
        min_length=1,
        strict=False,
        description="Phases in order; the first begins at 0. Tokens per batch stay constant.",
    )

    @property
    def steps(self) -> int:
        """Optimizer steps of the stage, at least one; the last part of a batch is left."""
        return max(1, self.total_tokens // self.batch_tokens)

    @model_validator(mode="after")
    def _phases_and_budget(self) -> TrainingConfig:
        problems = []
        starts = [phase.from_fraction for phase in self.seq_len_curriculum]
        if starts[0] != 0:
            problems.append("the first phase of seq_len_curriculum must have from_fraction 0")
        if any(later <= earlier for earlier, later in pairwise(starts)):
            problems.append("from_fraction must grow from phase to phase of seq_len_curriculum")
        if self.total_tokens < self.batch_tokens:
            problems.append(
                f"total_tokens ({self.total_tokens:,}) is less than one batch of batch_tokens "
                f"({self.batch_tokens:,}); lower batch_tokens or raise total_tokens"
            )
        if self.schedule == "wsd" and self.warmup_fraction + self.decay_fraction > 1:
            problems.append(
                "warmup_fraction and decay_fraction together exceed the stage; lower one of them"
            )
        refuse(problems)
        return self


class SourceConfig(Section):
    """Where documents come from: a data set on the hub or an installed package."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]*$",
        description="Name of the source and of its folder of shards: a-z, 0-9, _ and -. Embedded "
        "sources: wikipedia_leads, factbook, reasoning_traces, gsm_symbolic, arithmetic, "
        "stdlib_code, api_pages.",
    )
    domain: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]*$",
        description="Domain whose held-out bits per byte this source is scored in, e.g. math.",
    )
    weight: PositiveFloat = Field(
        description="Share of the stage's own tokens, relative to the other sources' weights."
    )
    licence: str | None = Field(
        default=None, description="Licence of the text; null = as the source itself declares."
    )
    attribution: str | None = Field(
        default=None, description="Whom to name; null = as the source itself declares."
    )
    hub_id: str | None = Field(
        default=None, description="Data set on the hub, owner/name; null = an embedded source."
    )
    hub_config: str | None = Field(
        default=None, description="Configuration of the data set; null = its default one."
    )
    hub_split: str = Field(default="train", description="Split of the data set.")
    hub_revision: str | None = Field(
        default=None,
        description="Commit of the data set; null = newest, recorded at first contact.",
    )
    text_template: str | None = Field(
        default=None,
        description="Python format string over the row's columns that makes the document's text; "
        "required for a data set of the hub, null otherwise.",
    )
    documentation: str | None = Field(
        default=None,
        description="Folder, git checkout or installed package (package:NAME) whose documentation "
        "is cut into snippets of code that parses; null = not such a source.",
    )
    min_tokens: PositiveInt | None = Field(
        default=None, description="Shorter documents are dropped, in tokens; null = none are."
    )
    max_documents: PositiveInt | None = Field(
        default=None, description="At most this many documents; null = all (or as many as needed)."
    )
    private: bool = Field(default=False, description="The data set needs a token ($HF_TOKEN).")
    treatment: TreatmentConfig = Field(
        default=TreatmentConfig(), description="What is done to each text, and which are dropped."
    )


class DataConfig(Section):
    """What a stage reads, and how it is cut."""

    source: str = Field(
        default="hub",
        min_length=1,
        description="hub = hub_sources; embedded = embedded_sources, offline; anything else = a "
        "folder with JSONL, Parquet or text files, or the address of prepared data (s3://...). "
        "--data sets it.",
    )
    hub_sources: tuple[SourceConfig, ...] = Field(
        default=(), strict=False, description="Data sets of the hub that this stage reads."
    )
    embedded_sources: tuple[SourceConfig, ...] = Field(
        default=(), strict=False, description="Real text of installed packages for this stage."
    )
    replay_share: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Share of the stage's tokens taken from earlier stages' training sources; the "
        "first stage has none and reads only its own.",
    )
    ramp_fraction: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Over this first share of the stage the replayed part falls in a straight line "
        "from all to what it is from there on, extensions included; replay_share is that of the "
        "stage without extensions. 0 = a hard change. At most twice replay_share.",
    )
    validation_fraction: float = Field(
        default=0.01,
        gt=0,
        lt=0.5,
        description="Share of documents held out, chosen by a hash of their text; where "
        "documents come in families (e.g. by gsm_symbolic's templates) whole ones, at least 5 %.",
    )
    folder_treatment: TreatmentConfig = Field(
        default=TreatmentConfig(),
        description="What is done to each text of a folder (--data DIR), and which are dropped.",
    )
    encoder: Literal["tiktoken", "tokie"] = Field(
        default="tiktoken",
        description="tiktoken = the reference; tokie = the same ids several times as fast, held "
        "against tiktoken's on the beginning of every source before it is used.",
    )
    packing: Literal["stream", "best_fit"] = Field(
        default="stream",
        description="stream = documents one after another, cut where a chunk ends; best_fit = "
        "whole documents put together in chunks, cut only where they are longer, with a little "
        "padding (`yxanul inspect DIR --packing N` shows how much).",
    )
    chunk_tokens: PositiveInt | None = Field(
        default=None,
        description="Tokens per sample of the data order; every seq_len divides it and it divides "
        "batch_tokens. null = the smaller of max_position_embeddings and batch_tokens.",
    )
    expected_unique_tokens: PositiveInt | None = Field(
        default=None,
        description="Training tokens the hub sources are expected to hold, for the plan; null = "
        "not known before the data is read.",
    )
    seed: int = Field(
        default=42, ge=0, lt=2**63, description="Seed of the data order and of generated sources."
    )

    @model_validator(mode="after")
    def _sources_are_whole(self) -> DataConfig:
        problems = [
            f"hub source {source.name} needs hub_id and text_template, or documentation"
            for source in self.hub_sources
            if source.documentation is None
            and (source.hub_id is None or source.text_template is None)
        ]
        problems += [
            f"embedded source {source.name} has a hub_id; move it to hub_sources"
            for source in self.embedded_sources
            if source.hub_id is not None
        ]
        for sources in (self.hub_sources, self.embedded_sources):
            names = [source.name for source in sources]
            twice = sorted({name for name in names if names.count(name) > 1})
            problems += [f"two sources are called {name}; rename one" for name in twice]
        if self.ramp_fraction > 2 * self.replay_share:
            problems.append(
                f"ramp_fraction ({self.ramp_fraction:g}) is more than twice replay_share "
                f"({self.replay_share:g}); lower it, or replay more"
            )
        refuse(problems)
        return self


class StageConfig(Section):
    """One stage of the curriculum: a file stage*.yaml."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", description="Name; equals the file's stem."
    )
    description: str = Field(default="", description="One sentence for people.")
    training: TrainingConfig = Field(description="Budget, rates, sequence lengths.")
    data: DataConfig = Field(description="Sources and how they are cut.")
    evaluation: EvaluationConfig = Field(
        default=EvaluationConfig(), description="Scores on held-out text."
    )
    gate: GateConfig = Field(default=GateConfig(), description="What the stage must reach.")


class RunConfig(Section):
    """A whole run; `load_config` and `parse_config` refuse contradictions between its parts."""

    model: ModelConfig = Field(description="Shape of the model.")
    optimization: OptimizationConfig = Field(description="Everything of optimization.yaml.")
    stages: tuple[StageConfig, ...] = Field(
        min_length=1, strict=False, description="Stages in the order they run."
    )


def chunk_tokens(config: RunConfig, stage: StageConfig) -> int:
    """Return the tokens per sample of a stage's data order, with null resolved."""
    if stage.data.chunk_tokens is not None:
        return stage.data.chunk_tokens
    return min(config.model.max_position_embeddings, stage.training.batch_tokens)


def evaluation_seq_len(config: RunConfig, stage: StageConfig) -> int:
    """Return the tokens per scoring window of a stage, with null resolved."""
    if stage.evaluation.seq_len is not None:
        return stage.evaluation.seq_len
    return min(1024, config.model.max_position_embeddings)
