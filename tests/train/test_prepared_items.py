"""Prepared data that a run is given was cleared of the items that the run is scored on."""

import json

from tests.data.bench_rows import write_bench_folder
from tests.train.world import World
from yxanul.config.load import load_config
from yxanul.data.preparing.prepare import prepare


def test_a_run_tells_that_the_data_it_is_given_was_cleared_of_other_items(tmp_path):
    """The hub's items of a set and a folder's differ for good, so it is not refused."""
    world, bench = World.create(tmp_path), write_bench_folder(tmp_path / "bench")
    overrides = [
        f"data.source={world.texts}",
        f"evaluation.bench={bench}",
        "data.folder_treatment.decontaminate=[gsm8k]",
    ]
    stages = load_config(tmp_path / "configs", overrides=overrides).stages
    prepare(stages, tmp_path / "prepared", progress=lambda line: None)
    given, words = World(tmp_path, tmp_path / "prepared"), ("--bench_dir", str(bench))
    assert "cleared of other" not in given.finish("run", "run", "--max_steps", "1", *words).stderr
    with (bench / "gsm8k" / "test.jsonl").open("a") as lines:
        lines.write(json.dumps({"question": "How many?", "answer": "7\n#### 7"}) + "\n")
    for run, steps in (("other", "1"), ("run", "2")):
        told = given.finish("run", run, "--max_steps", steps, *words).stderr
        assert "cleared of other items of gsm8k" in told
