"""What a run was begun with, and the tokens that its stages keep of it or are given by epochs."""

from collections.abc import Collection

from yxanul.config.contradictions import check_config
from yxanul.config.schema import RunConfig, StageConfig
from yxanul.curriculum.course import read_frozen_config
from yxanul.data.prepared.manifest import Manifest
from yxanul.plan.budget import tokens_for_epochs
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import has_begun


def begun_with(folder: RunFolder) -> RunConfig | None:
    """Return the configuration that the run was begun with; None when nothing was trained yet."""
    if not folder.config.exists() or not has_begun(folder.lineage):
        return None
    return read_frozen_config(folder)


def replan_epochs(config: RunConfig, stage: str, *, epochs: float, manifest: Manifest) -> RunConfig:
    """Set the stage's budget to `epochs` passes over its own sources, replay added on top."""
    own = sum(source.train.tokens for source in manifest.sources_of(stage).values())

    def replan(item: StageConfig) -> StageConfig:
        if item.name != stage:
            return item
        share = item.data.replay_share if item is not config.stages[0] else 0.0
        total = tokens_for_epochs(epochs, own, replay_share=share)
        training = item.training.model_copy(update={"total_tokens": total})
        return item.model_copy(update={"training": training})

    planned = config.model_copy(update={"stages": tuple(replan(item) for item in config.stages)})
    check_config(planned)
    return planned


def with_begun_budgets(
    config: RunConfig, folder: RunFolder, *, stages: Collection[str]
) -> RunConfig:
    """Return `config` with the budgets that these stages were begun with, if the run has begun."""
    before = begun_with(folder)
    return config if before is None else with_kept_budgets(config, before, stages=stages)


def with_kept_budgets(now: RunConfig, before: RunConfig, *, stages: Collection[str]) -> RunConfig:
    """Return `now` with the budgets that these `stages` had: --num_epochs plans one stage only."""
    had = {s.name: s.training.total_tokens for s in before.stages if s.name in stages}

    def kept(stage: StageConfig) -> StageConfig:
        total = had.get(stage.name, stage.training.total_tokens)
        training = stage.training.model_copy(update={"total_tokens": total})
        return stage.model_copy(update={"training": training})

    return now.model_copy(update={"stages": tuple(kept(stage) for stage in now.stages)})


def other_budgets(asked: RunConfig, kept: RunConfig) -> list[str]:
    """Return a sentence for each budget that is asked for and not taken."""
    return [
        f"{stage.name} was begun with {had.training.total_tokens:,} tokens and keeps that budget; "
        f"the {stage.training.total_tokens:,} that training.total_tokens asks for are not taken"
        for stage, had in zip(asked.stages, kept.stages, strict=True)
        if stage.training.total_tokens != had.training.total_tokens
    ]
