"""The course of a run as its folder tells it: its settings, and what its gates changed of them."""

from collections.abc import Sequence

from yxanul.config.load import parse_config
from yxanul.config.schema import RunConfig
from yxanul.curriculum.changes import StageChanges
from yxanul.curriculum.stages import StagePlan, plan_stages
from yxanul.errors import ConfigError, CorruptDataError
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import first_step, stage_changes
from yxanul.runfolder.rows import Row


def read_frozen_config(folder: RunFolder) -> RunConfig:
    """Return the configuration that a run was begun with; damage is a `CorruptDataError`."""
    try:
        return parse_config(folder.config.read_text(encoding="utf-8"), str(folder.config))
    except (ConfigError, UnicodeDecodeError) as error:
        raise CorruptDataError(
            f"{folder.config} is not what was written ({error}); bring a good copy back"
        ) from error


def read_course(config: RunConfig, folder: RunFolder, *, attempt: int) -> tuple[StagePlan, ...]:
    """Return the stages as an attempt trains them: by the settings, and what the gates changed."""
    try:
        rows = stage_changes(folder.lineage, attempt)
        changes = {name: StageChanges.from_row(row) for name, row in rows.items()}
    except (KeyError, TypeError) as error:
        raise CorruptDataError(
            f"{folder.lineage}: the changes of a stage are not what was written ({error}); bring a "
            "good copy back"
        ) from error
    return plan_stages(config, changes)


def place_in(course: Sequence[StagePlan], row: Row, *, folder: RunFolder) -> tuple[int, int]:
    """Return where in its course a run's metric row stands, and the steps done in that stage.

    A row that stands in none is a `CorruptDataError`.
    """
    stage, done = row.get("stage"), row.get("stage_step")
    names = [plan.name for plan in course]
    if stage not in names or not isinstance(done, int):
        raise CorruptDataError(
            f"{folder.metrics}, step {row['step']}: stage or stage_step is not what a run writes; "
            "bring a good copy back, or delete that line"
        )
    return names.index(stage), done


def own_course(course: Sequence[StagePlan], folder: RunFolder) -> tuple[StagePlan, ...]:
    """Return the stages that a run trains itself, without those before the one it was begun at.

    A beginning after all of them is a `CorruptDataError`.
    """
    begun = first_step(folder.lineage)
    own = stages_after(course, begun)
    if not own:
        raise CorruptDataError(
            f"{folder.lineage}: the run begins at step {begun}, after its last stage; bring a good "
            "copy back"
        )
    return own


def stages_after(course: Sequence[StagePlan], step: float) -> tuple[StagePlan, ...]:
    """Return the stages that a run begun at a step trains itself: those that end after it."""
    return tuple(plan for plan in course if plan.last_step > step)
