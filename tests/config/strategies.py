"""Hypothesis strategies of valid configurations, small and strange."""

from __future__ import annotations

from hypothesis import strategies as st

from yxanul.config.base import LARGEST_INT
from yxanul.config.schema import (
    CheckpointConfig,
    ComputeConfig,
    DataConfig,
    EvaluationConfig,
    ExtensionConfig,
    GateConfig,
    LoggingConfig,
    ModelConfig,
    OptimizationConfig,
    OptimizerConfig,
    RollbackConfig,
    RunConfig,
    SeqLenPhase,
    SourceConfig,
    StageConfig,
    TrainingConfig,
)

# Words that YAML reads as something else, and characters that need quoting.
STRANGE = [
    "off",
    "null",
    "~",
    "1e-3",
    "010",
    "true",
    ".inf",
    "- a",
    "a: b",
    "# no",
    "'",
    "é\n",
    " ",
]
texts = st.one_of(st.sampled_from(STRANGE), st.text(st.characters(exclude_categories=["Cs"])))
names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,8}", fullmatch=True)
rates = st.floats(min_value=1e-300, max_value=1e300)
counts = st.integers(1, LARGEST_INT)


def maybe(strategy):
    return st.one_of(st.none(), strategy)


optimizations = st.builds(
    OptimizationConfig,
    seed=st.integers(0, 2**63 - 1),
    optimizer=st.builds(
        OptimizerConfig,
        name=st.sampled_from(["adamw", "muon"]),
        muon_beta2=maybe(st.floats(0, 1, exclude_max=True)),
        eps=rates,
        weight_decay=st.floats(0, 1e6),
        max_grad_norm=rates,
        fused=st.booleans(),
    ),
    compute=st.builds(
        ComputeConfig,
        precision=st.sampled_from(["auto", "bf16", "fp32"]),
        compile=st.sampled_from(["auto", "off", "block", "model"]),
        threads=maybe(counts),
    ),
    checkpoint=st.builds(
        CheckpointConfig, every_s=maybe(rates), every_steps=maybe(counts), keep=st.integers(2, 9)
    ),
    logging=st.builds(
        LoggingConfig,
        every_steps=counts,
        trackers=st.lists(st.sampled_from(["tensorboard", "wandb", "trackio"]), unique=True).map(
            tuple
        ),
    ),
)


gates = st.builds(
    GateConfig,
    min_improvement=st.floats(0, 0.99),
    retention_margin=st.floats(0, 0.5),
    retention_limit=st.floats(0.5, 2),
    training_noise=maybe(rates),
    extension=st.builds(ExtensionConfig, max_extensions=st.integers(0, 3)),
    rollback=st.builds(RollbackConfig, rate_factor=st.floats(0.1, 1)),
)


@st.composite
def sources(draw, name: str, *, hub: bool) -> SourceConfig:
    return SourceConfig(
        name=name,
        domain=name,
        weight=draw(rates),
        licence=draw(maybe(texts)),
        hub_id="owner/set" if hub else None,
        text_template=draw(texts) if hub else None,
        min_tokens=draw(maybe(counts)),
        max_documents=draw(maybe(counts)),
        private=draw(st.booleans()),
    )


@st.composite
def stages(draw, number: int, longest: int) -> StageConfig:
    batch = longest * draw(st.integers(1, 64))
    starts = draw(st.sets(st.floats(1e-6, 0.999), max_size=2))
    phases = tuple(
        SeqLenPhase(from_fraction=start, seq_len=draw(st.sampled_from([longest, longest // 2])))
        for start in [0.0, *sorted(starts)]
    )
    data = DataConfig(
        source=draw(st.sampled_from(["hub", "embedded", "/a folder"])),
        hub_sources=(draw(sources(f"hub{number}", hub=True)),),
        embedded_sources=(draw(sources(f"embedded{number}", hub=False)),),
        replay_share=draw(st.floats(0, 0.5)),
        chunk_tokens=draw(st.sampled_from([None, longest])),
        expected_unique_tokens=draw(maybe(counts)),
    )
    return StageConfig(
        name=f"stage{number}_x",
        description=draw(texts),
        training=TrainingConfig(
            total_tokens=draw(st.integers(batch, LARGEST_INT)),
            batch_tokens=batch,
            learning_rate=draw(rates),
            embedding_learning_rate=draw(maybe(rates)),
            schedule=draw(st.sampled_from(["linear_to_zero", "wsd"])),
            warmup_fraction=draw(st.floats(0, 0.7)),
            seq_len_curriculum=phases,
        ),
        data=data,
        evaluation=EvaluationConfig(every_fraction=draw(maybe(st.floats(0.01, 1)))),
        gate=draw(gates),
    )


@st.composite
def runs(draw) -> RunConfig:
    longest = 2 ** draw(st.integers(2, 13))
    keys = draw(st.integers(1, 4))
    model = ModelConfig(
        name=draw(texts.filter(bool)),
        hidden_size=draw(counts),
        num_hidden_layers=draw(counts),
        num_attention_heads=keys * draw(st.integers(1, 4)),
        num_key_value_heads=keys,
        head_dim=2 * draw(st.integers(1, 64)),
        intermediate_size=draw(counts),
        max_position_embeddings=longest,
        rope_theta=draw(rates),
    )
    count = draw(st.integers(1, 3))
    made = tuple(draw(stages(number, longest)) for number in range(1, count + 1))
    return RunConfig(model=model, optimization=draw(optimizations), stages=made)
