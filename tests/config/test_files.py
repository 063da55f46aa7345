"""Every file of configs/ loads, and the promised plan stands as promised."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from yxanul.config.load import (
    ModelFile,
    diff_configs,
    dump_config,
    load_config,
    parse_config,
    stage_names,
)
from yxanul.config.problems import check
from yxanul.config.schema import chunk_tokens, evaluation_seq_len
from yxanul.config.yamltext import read_document
from yxanul.data.batches.order import OrderSource, mixture_counts
from yxanul.plan.budget import stage_budget
from yxanul.plan.hardware import Wishes
from yxanul.plan.memory import CARD_SHARE, memory
from yxanul.plan.plain import plan_json
from yxanul.plan.summary import plan_run

CONFIGS = Path(__file__).parents[2] / "configs"
FOLDERS = sorted({path.parent for path in CONFIGS.rglob("model_config.yaml")})
STAGES = ("stage1_wikipedia", "stage2_reasoning", "stage3_math", "stage4_code")
BUDGETS = (14_400_000_000, 30_000_000_000, 10_000_000_000, 3_000_000_000)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_folder_loads_and_survives_a_dump(folder):
    config = load_config(folder)
    assert tuple(stage.name for stage in config.stages) == stage_names(folder) == STAGES
    assert parse_config(dump_config(config)) == config


def test_every_yaml_file_belongs_to_a_folder_or_is_a_model():
    seen = {path for folder in FOLDERS for path in folder.glob("*.yaml")}
    models = set(CONFIGS.rglob("models/*.yaml"))
    assert set(CONFIGS.rglob("*.yaml")) == seen | models
    for path in models:
        file, problems = check(ModelFile, read_document(path))
        assert problems == []
        assert file.model.name == path.stem


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_models_are_found_by_name_from_every_folder(folder):
    assert load_config(folder, model="nano").model.hidden_size == 256


def test_the_flagship_has_one_shape_under_two_names():
    assert load_config(CONFIGS, model="flagship").model == load_config(CONFIGS).model


def test_the_promised_budgets_rates_and_steps_stand():
    config = load_config(CONFIGS)
    assert tuple(stage.training.total_tokens for stage in config.stages) == BUDGETS
    assert {stage.training.schedule for stage in config.stages} == {"linear_to_zero"}
    first, count = config.stages[0].training, config.stages[0].training.steps
    assert (count, first.learning_rate) == (27_465, 2e-4)
    assert round(first.warmup_fraction * count) == 2000
    phases = [(round(p.from_fraction * count), p.seq_len) for p in first.seq_len_curriculum]
    assert phases == [(0, 256), (5000, 512), (10000, 1024), (20000, 2048)]
    optimizer = config.optimization.optimizer
    assert (optimizer.beta1, optimizer.beta2, optimizer.eps) == (0.9, 0.95, 1e-8)
    assert (optimizer.weight_decay, optimizer.max_grad_norm) == (0.1, 0.3)
    assert config.optimization.seed == 42


def test_stages_grow_to_the_whole_context():
    for stage in load_config(CONFIGS).stages:
        lengths = [phase.seq_len for phase in stage.training.seq_len_curriculum]
        assert all(short < long for short, long in pairwise(lengths))
        assert lengths[-1] == (2048 if stage.name == STAGES[0] else 4096)


def test_the_recipe_without_replay_differs_in_replay_only():
    ours, promised = load_config(CONFIGS), load_config(CONFIGS / "recipes" / "no_replay")
    assert diff_configs(ours, promised) == [
        (f"{name}.data.replay_share", 0.1, 0.0) for name in STAGES[1:]
    ]


def test_the_recipe_of_a_small_card_is_an_eighth_of_the_plan_and_fits():
    promised, small = load_config(CONFIGS), load_config(CONFIGS / "recipes" / "card_24gb")
    eighth = zip(STAGES, (budget // 8 for budget in BUDGETS), strict=True)
    changed = {
        **{f"{name}.training.total_tokens": budget for name, budget in eighth},
        "compute.micro_batch_tokens": 8192,
        "compute.loss_chunk_tokens": 8192,
    }
    assert {key: now for key, _, now in diff_configs(promised, small)} == changed
    # Two sequences of the longest length; the card held 13.4 GiB of the 22.5 GB that it had.
    need = memory(small)
    assert need.micro_batch_tokens == 8192
    assert need.total < 0.7 * 22.5e9
    assert need.total < CARD_SHARE * 24e9 < memory(small, micro_batch_tokens=16_384).total
    plan = plan_json(plan_run(small, Wishes(gpus="1xRTX-4090", mfu=0.4)))
    assert 2 < plan["total_hours"] / 24 < 4


def test_the_recipe_of_the_evidence_costs_as_much_and_repeats_little():
    promised, evidence = load_config(CONFIGS), load_config(CONFIGS / "recipes" / "evidence")
    tokens = [sum(s.training.total_tokens for s in c.stages) for c in (promised, evidence)]
    assert tokens[0] == tokens[1]
    assert [stage.data.replay_share for stage in evidence.stages] == [0, 0.5, 0.5, 0.5]
    epochs = [stage_budget(evidence, stage).epochs for stage in evidence.stages]
    assert max(found for found in epochs if found is not None) <= 4
    assert all(
        {"hellaswag", "triviaqa", "gsm8k", "humaneval"} == set(source.treatment.decontaminate)
        for config in (promised, evidence)
        for stage in config.stages
        for source in stage.data.hub_sources
    )


def test_the_recipe_of_the_evidence_says_which_sources_replay_repeats():
    """Sizes of the sources as the recipe's own lines have them; those of stage 4 nobody states."""
    place = CONFIGS / "recipes" / "evidence"
    sizes = {"fineweb_edu": 9.7e9, "cosmopedia": 11e9, "wikipedia": 0.96e9}
    sizes |= {"mixture_of_thoughts": 1.5e9, "finemath": 9.6e9, "gsm8k": 1.5e6}
    sizes |= {"acereason_math": 5e6}
    read, groups = Counter(), []
    for stage in load_config(place).stages:
        total = sum(source.weight for source in stage.data.hub_sources)
        own = [OrderSource(s.name, 1, s.weight / total) for s in stage.data.hub_sources]
        counts = mixture_counts(
            stage.training.total_tokens,
            own=own,
            replay=[source for group in groups for source in group],
            replay_share=stage.data.replay_share,
        )
        names = [source.name for group in (own, *groups) for source in group]
        read.update(dict(zip(names, counts, strict=True)))
        groups.append(own)
    epochs = {name: read[name] / size for name, size in sizes.items()}
    often = [f"{name} {times:.1f}" for name, times in epochs.items() if times > 4]
    assert len(often) == 4
    told = (place / f"{STAGES[0]}.yaml").read_text()
    assert [one for one in often if one not in told] == []


def test_every_stage_has_embedded_text_of_the_known_sources():
    known = {
        "wikipedia_leads": "wikipedia",
        "factbook": "factbook",
        "reasoning_traces": "reasoning",
        "gsm_symbolic": "math",
        "arithmetic": "math",
        "stdlib_code": "code",
        "api_pages": "api_docs",
    }
    for folder in FOLDERS:
        stages = load_config(folder, overrides=["data.source=embedded"]).stages
        found = {s.name: s.domain for stage in stages for s in stage.data.embedded_sources}
        assert found == known
        assert all(stage.data.embedded_sources for stage in stages)


def test_no_hub_revision_is_invented():
    for stage in load_config(CONFIGS).stages:
        assert all(source.hub_revision is None for source in stage.data.hub_sources)


def test_the_three_step_run_of_the_flagship_on_a_cpu_resolves():
    overrides = ["data.source=embedded", "training.batch_tokens=4096"]
    for stages in (["stage1_wikipedia"], None):
        config = load_config(CONFIGS, stages=stages, overrides=overrides)
        assert {chunk_tokens(config, stage) for stage in config.stages} == {4096}
        assert {evaluation_seq_len(config, stage) for stage in config.stages} == {1024}


def test_deepspeed_and_optimization_agree():
    deepspeed = json.loads((CONFIGS / "deepspeed_config.json").read_text())
    optimizer = load_config(CONFIGS).optimization.optimizer
    assert deepspeed["gradient_clipping"] == optimizer.max_grad_norm
    assert deepspeed["bf16"] == {"enabled": True}
