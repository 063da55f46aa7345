"""A step whose rows processes cannot share is found before the first one, with what helps."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.config.strategies import runs
from yxanul.config.load import load_config
from yxanul.config.schema import StageConfig
from yxanul.config.sharing import refuse_unequal_shares
from yxanul.errors import UsageError

CONFIGS = Path(__file__).parents[2] / "configs"


@given(runs(), st.integers(1, 8))
def test_a_step_that_ranks_cannot_share_is_refused_before_the_first(config, processes):
    """Exactly where a batch would have rows left over, in whatever phase that is."""
    left = {
        stage.name: stage.training.batch_tokens // phase.seq_len % processes
        for stage in config.stages
        for phase in stage.training.seq_len_curriculum
        if stage.training.batch_tokens // phase.seq_len % processes
    }
    context = config.model.max_position_embeddings
    if not left:
        refuse_unequal_shares(config.stages, processes, context=context)
        return
    with pytest.raises(UsageError) as refused:
        refuse_unequal_shares(config.stages, processes, context=context)
    assert str(refused.value).startswith(f"{next(iter(left))}: {processes} processes cannot share")


def test_a_refusal_names_what_can_be_done():
    lengths = [{"from_fraction": 0.0, "seq_len": 256}, {"from_fraction": 0.5, "seq_len": 1024}]
    batch = {"total_tokens": 1024, "batch_tokens": 1024, "learning_rate": 1e-3}
    data = {"source": "somewhere", "replay_share": 0.0}
    stage = StageConfig.model_validate(
        {"name": "one", "training": batch | {"seq_len_curriculum": lengths}, "data": data}
    )
    with pytest.raises(UsageError) as refused:
        refuse_unequal_shares([stage], 6, context=1024)
    assert str(refused.value) == (
        "one: 6 processes cannot share the 4 rows of 256 tokens of a step equally; start another "
        "number of processes, or set one.training.batch_tokens to a multiple of 6,144"
    )


@pytest.mark.parametrize(
    ("chunk", "multiple"), [("null", 3 * 4096), ("1024", 3 * 1024), ("2048", 3 * 2048)]
)
def test_the_batch_that_a_refusal_names_is_shared_and_made_of_whole_samples(chunk, multiple):
    lengths = "[{from_fraction: 0.0, seq_len: 256}, {from_fraction: 0.5, seq_len: 1024}]"
    settings = [f"training.seq_len_curriculum={lengths}", f"data.chunk_tokens={chunk}"]
    config = load_config(CONFIGS, overrides=settings)
    context = config.model.max_position_embeddings
    with pytest.raises(UsageError) as refused:
        refuse_unequal_shares(config.stages, 3, context=context)
    assert str(refused.value).endswith(f"training.batch_tokens to a multiple of {multiple:,}")
    for times in (1, 2, 3):
        batch = f"training.batch_tokens={times * multiple}"
        mended = load_config(CONFIGS, overrides=[*settings, batch])
        refuse_unequal_shares(mended.stages, 3, context=context)
