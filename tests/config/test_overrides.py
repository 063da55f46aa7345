"""`--set` reaches what it names, and only that."""

from pathlib import Path

from yxanul.config.load import diff_configs, load_config

CONFIGS = Path(__file__).parents[2] / "configs"


def changes(*overrides, **kwargs):
    before = load_config(CONFIGS, **kwargs)
    after = load_config(CONFIGS, overrides=overrides, **kwargs)
    return [(path, new) for path, _, new in diff_configs(before, after)]


def test_a_stage_key_reaches_every_loaded_stage():
    changed = changes("training.batch_tokens=4096")
    assert [path for path, _ in changed] == [
        f"{stage.name}.training.batch_tokens" for stage in load_config(CONFIGS).stages
    ]
    assert changes("training.batch_tokens=4096", stages=["stage3_math"]) == [
        ("stage3_math.training.batch_tokens", 4096)
    ]


def test_a_stages_name_in_front_reaches_one_stage():
    assert changes("stage2_reasoning.training.learning_rate=1e-3") == [
        ("stage2_reasoning.training.learning_rate", 1e-3)
    ]


def test_model_and_optimization_keys_go_to_their_files():
    assert changes("seed=3", "optimizer.name=muon", "model.hidden_size=512") == [
        ("model.hidden_size", 512),
        ("seed", 3),
        ("optimizer.name", "muon"),
    ]


def test_the_later_of_two_sets_wins():
    assert changes("seed=3", "seed=4") == [("seed", 4)]


def test_lists_are_changed_by_entry_or_whole():
    entry = "stage1_wikipedia.training.seq_len_curriculum"
    assert changes(f"{entry}.0.seq_len=128") == [(f"{entry}.0.seq_len", 128)]
    whole = load_config(
        CONFIGS, overrides=["training.seq_len_curriculum=[{from_fraction: 0, seq_len: 64}]"]
    )
    lengths = [phase.seq_len for s in whole.stages for phase in s.training.seq_len_curriculum]
    assert lengths == [64, 64, 64, 64]


def test_an_empty_value_is_null():
    assert changes("checkpoint.every_s=") == [("checkpoint.every_s", None)]


def test_stages_run_in_the_order_asked_for():
    config = load_config(CONFIGS, stages=["stage3_math", "stage1_wikipedia"])
    assert [stage.name for stage in config.stages] == ["stage3_math", "stage1_wikipedia"]
