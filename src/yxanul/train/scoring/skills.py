"""Skills of a run at a stage's borders: the same items every time, each score taken once."""

import time
import traceback
from collections.abc import Callable, Mapping

from yxanul.config.evaluation import SkillConfig
from yxanul.data.items import Benchmark, cluster_of
from yxanul.errors import DiskError, InfrastructureError, StoppedOnRequest
from yxanul.evaluate.tasks.options import TaskOptions
from yxanul.evaluate.tasks.score import score_task
from yxanul.hardware.failures import naming_failed_hardware
from yxanul.hardware.memory import naming_exhaustion
from yxanul.runfolder.durable import reading
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import current_branch
from yxanul.runfolder.skill_scores import skill_path, skills_at, write_task_score
from yxanul.train.safety.ending import CARD_ADVICE, MEMORY_ADVICE
from yxanul.train.scoring.answering import Answering
from yxanul.train.updates.state import Position


class SkillScorer:
    """Scores tasks and remembers the answers in RUN/scores/skills."""

    def __init__(
        self,
        folder: RunFolder,
        *,
        benchmarks: Mapping[str, Benchmark],
        say: Callable[[str], None],
    ) -> None:
        self._scores = folder.scores
        self._lineage = folder.lineage
        self._benchmarks = benchmarks
        self._say = say
        self.seconds = 0.0
        """Time spent scoring in this process."""

    def independent(self, skill: SkillConfig) -> int | None:
        """Return the items of a skill, or the clusters that they share; None = they were not read.

        They are read of stages that reach their gates, and on the main rank.
        """
        benchmark = self._benchmarks.get(skill.task)
        if benchmark is None:
            return None
        return len({cluster_of(item) for item in benchmark.items[: skill.items]})

    def score(
        self, answering: Answering, skill: SkillConfig, *, position: Position, is_end: bool
    ) -> None:
        """Score a task at `position`, unless the run's branch has done so at this step.

        At a stage's end answers are written and judged that gate nothing; what gates is scored at
        both ends. A score that cannot be taken raises.
        """
        branch = current_branch(self._lineage)
        if skill.task in skills_at(self._scores, position.step, branch=branch):
            return
        begin = time.perf_counter()
        benchmark = self._benchmarks[skill.task]
        options = TaskOptions(
            limit=skill.items,
            shots=skill.shots,
            answers=is_end and skill.answers,
            max_new_tokens=skill.max_new_tokens,
        )
        score = score_task(
            answering.reader(), benchmark, options=options, watcher=answering, answers=answering
        )
        path = skill_path(
            self._scores, step=position.step, attempt=position.attempt, task=skill.task
        )
        path.parent.mkdir(exist_ok=True)
        write_task_score(path, score)
        self.seconds += time.perf_counter() - begin

    def try_score(
        self, answering: Answering, skill: SkillConfig, *, position: Position
    ) -> str | None:
        """Score a task where a stage ended; return why it could not be scored, None = it was.

        Whatever goes wrong in there must not cost the trained weights: the gate stops on it. But
        what a restart may cure is raised, for a verdict is for good: a lost rank, a failed card, a
        disk that is full or fails, memory that is not there and a wish to stop say nothing of the
        weights.
        """
        try:
            with naming_failed_hardware(CARD_ADVICE), reading(), naming_exhaustion(MEMORY_ADVICE):
                self.score(answering, skill, position=position, is_end=True)
        except (InfrastructureError, DiskError, StoppedOnRequest):
            raise
        except Exception as error:  # noqa: BLE001  (it is told here, and the gate says stop)
            self._say("".join(traceback.format_exception(error)).rstrip())
            return f"{skill.task} could not be scored ({type(error).__name__}: {error})"
        return None
