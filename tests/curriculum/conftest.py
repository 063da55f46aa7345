import pytest

from yxanul.config.schema import DataConfig, SeqLenPhase, StageConfig, TrainingConfig


@pytest.fixture
def tiny_stage() -> StageConfig:
    return StageConfig(
        name="stage2_x",
        training=TrainingConfig(
            total_tokens=100 * 64,
            batch_tokens=64,
            learning_rate=0.1,
            norm_learning_rate=0.2,
            seq_len_curriculum=(SeqLenPhase(from_fraction=0.0, seq_len=16),),
        ),
        data=DataConfig(source="a folder", replay_share=0.1),
    )
