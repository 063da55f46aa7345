"""Prepared data that a run is given was cleared of the items that the run is scored on."""

import json

from tests.data.bench_rows import write_bench_folder
from tests.train.world import World
from yxanul.config.load import load_config
from yxanul.data.prepare import prepare


def test_prepared_data_that_was_cleared_of_other_items_begins_no_run(tmp_path):
    world, bench = World.create(tmp_path), write_bench_folder(tmp_path / "bench")
    overrides = [
        f"data.source={world.texts}",
        f"evaluation.bench={bench}",
        "data.folder_treatment.decontaminate=[gsm8k]",
    ]
    stages = load_config(tmp_path / "configs", overrides=overrides).stages
    prepare(stages, tmp_path / "prepared", progress=lambda line: None)
    given, words = World(tmp_path, tmp_path / "prepared"), ("--bench_dir", str(bench))
    given.finish("run", "run", "--max_steps", "2", *words)
    with (bench / "gsm8k" / "test.jsonl").open("a") as lines:
        lines.write(json.dumps({"question": "How many?", "answer": "7\n#### 7"}) + "\n")
    refused = given.finish("run", "other", *words, code=30)
    assert "cleared of other items of gsm8k" in refused.stderr
    begun = given.finish("run", "run", "--max_steps", "3", *words)
    assert "The run goes on with what it was begun with." in begun.stderr
