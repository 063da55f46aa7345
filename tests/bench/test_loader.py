"""The loader's benchmark reads what a run reads."""

import numpy as np

from tests.train.world import STAGES, World
from yxanul.bench.loader import open_loader, read_s
from yxanul.config.load import load_config


def test_every_stage_is_read_in_whole_batches_of_real_text(tmp_path):
    world = World.create(tmp_path)
    world.finish("run", "run", "--max_steps", "1")
    config = load_config(world.root / "configs", overrides=[f"data.source={world.root}/texts"])
    for stage in config.stages:
        loader = open_loader(config, stage, root=world.root / "run" / "data", steps=3)
        assert len(list(read_s(loader, 32))) == loader.steps == 3
        rows = loader.step_rows(0, 32)
        inputs, targets = rows.inputs, rows.targets
        assert inputs.shape == (stage.training.batch_tokens // 32, 32)
        assert np.array_equal(inputs[0, 1:], targets[0, :-1])
    assert [stage.name for stage in config.stages] == list(STAGES)
