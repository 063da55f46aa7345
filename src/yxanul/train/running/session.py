"""Everything that a running loop holds: built once by `yxanul.train.running.setup`.

Only the course changes, when a gate changes it.
"""

import time
from dataclasses import dataclass, field

import torch

import yxanul
from yxanul.config.schema import RunConfig
from yxanul.curriculum.course import read_course
from yxanul.curriculum.stages import StagePlan, seq_len_at
from yxanul.data.batches.loader import StepRows
from yxanul.data.tokenizer import Tokenizer
from yxanul.errors import NumericsError
from yxanul.hardware.device import most_held_bytes
from yxanul.model.transformer import Transformer
from yxanul.plan.flops import flops_per_token
from yxanul.runfolder.checkpoints import CheckpointInfo, checkpoint_name, newest_name
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import current_branch
from yxanul.runfolder.scores import scores_at
from yxanul.signals import StopRequest
from yxanul.train.outward.mirroring import Mirroring
from yxanul.train.outward.progress import RunProgress
from yxanul.train.outward.saver import Saver, Snapshot
from yxanul.train.processes.agreement import refuse_other_weights
from yxanul.train.processes.budget import BudgetClock
from yxanul.train.safety.vigil import Vigil
from yxanul.train.safety.watchdog import Watchdog
from yxanul.train.scoring.answering import Answering
from yxanul.train.scoring.held_out import Scorer
from yxanul.train.scoring.skills import SkillScorer
from yxanul.train.starting.corpus import Corpus
from yxanul.train.updates.state import Position, capture_state, copied
from yxanul.train.updates.step import ADVICE, Engine, attended_tokens
from yxanul.watch.pace import Outlook


@dataclass
class Session:
    """One process's part of a run."""

    config: RunConfig
    folder: RunFolder
    stages: tuple[StagePlan, ...]
    """Every stage of the course, in order."""
    active: tuple[StagePlan, ...]
    """The stages that this command trains."""
    step_limit: float
    """The run's step at which --max_steps ends it; infinite without."""
    corpus: Corpus
    model: Transformer
    engine: Engine
    tokenizer: Tokenizer
    answering: Answering
    scorer: Scorer
    skills: SkillScorer
    saver: Saver
    vigil: Vigil
    mirroring: Mirroring
    watchdog: Watchdog
    budget: BudgetClock
    progress: RunProgress
    stop: StopRequest
    peak_flops: float | None
    """This process's own; `peak_of_all` is what the whole run's operations are held against."""
    parent: str | None
    """The checkpoint that was loaded or written last."""
    config_sha256: str | None = None
    """Of RUN/config.yaml as this start wrote it, once it has; the main rank's."""
    _saved_at: float = field(default_factory=time.monotonic)

    def stand_on(self, parent: str | None) -> None:
        """Take a checkpoint for the one that the next is written after; None: new weights."""
        self.saver.take_newest()  # that of an attempt that is left
        self.parent = parent

    def replan(self, attempt: int) -> None:
        """Take the course as an attempt trains it: what the gates changed is in the lineage."""
        names = {plan.name for plan in self.active}
        self.stages = read_course(self.config, self.folder, attempt=attempt)
        self.active = tuple(plan for plan in self.stages if plan.name in names)

    def stored_bpb(self, step: int) -> dict[str, float]:
        """Return {domain: bits per byte} as scored at `step`, in the order of the stages."""
        branch = current_branch(self.folder.lineage)
        found = scores_at(self.folder.scores, step, branch=branch)
        return {d: found[d].bpb for d in self.scorer.domains if d in found}

    def own_domains(self, plan: StagePlan) -> tuple[str, ...]:
        """Return the domains of the stage's own sources."""
        sources = self.corpus.manifest.sources_of(plan.name).values()
        return tuple(dict.fromkeys(source.domain for source in sources))

    def older_domains(self, plan: StagePlan) -> tuple[str, ...]:
        """Return the domains of the stages before, without those that are the stage's own."""
        own = self.own_domains(plan)
        earlier = [self.own_domains(stage) for stage in self.stages[: plan.index]]
        return tuple(dict.fromkeys(d for domains in earlier for d in domains if d not in own))

    def flops_per_token(self, rows: StepRows) -> float:
        """Return forward and backward FLOPs of one token of this rank's rows, PaLM convention.

        What kernels that read each document by itself leave out is not counted as done.
        """
        length = attended_tokens(rows, self.config.optimization.compute)
        return flops_per_token(self.config.model, length)

    @property
    def peak_of_all(self) -> float | None:
        """FLOP/s of all processes together, the divisor of MFU; None on an unknown card."""
        return self.peak_flops and self.peak_flops * self.engine.processes.world_size

    @property
    def scoring_s(self) -> float:
        """Seconds that this process has spent on scores and skills."""
        return self.scorer.seconds + self.skills.seconds

    def record_spending(self, position: Position) -> None:
        """Write down what the run has cost so far; the main rank's matter."""
        plan = self.stage_plan(position.stage)
        newest = max(0, position.stage_step - 1)
        seq_len = seq_len_at(plan.config.training, newest, total_steps=plan.base_steps)
        self.budget.record(
            position.tokens_spent,
            scoring_s=self.scoring_s,
            seq_len=seq_len,
            memory_bytes=most_held_bytes(self.engine.device),
            checkpoint=newest_name(self.folder.checkpoints, attempt=position.attempt),
        )

    def forecast(self, plan: StagePlan, position: Position) -> Outlook | None:
        """Return what the stages of this command will cost; None after its very first row."""
        stage = self.active.index(plan)
        return self.budget.forecast(self.active, stage=stage, stage_step=position.stage_step)

    def asked_to_stop(self) -> bool:
        """Tell whether any rank is to stop, as it was asked to or overtaken; all answer alike."""
        return self.agreed(self.stop.asked or self.mirroring.overtaken is not None)

    def agreed(self, flag: bool) -> bool:
        """Tell whether any rank says yes; all ranks answer alike."""
        with self.watchdog.watching("an answer of the other ranks"):
            return self.engine.processes.anyone(flag, self.engine.device)

    def is_kept_for_good(self, position: Position) -> bool:
        """Tell whether a checkpoint of this step is one of those that are never deleted."""
        every = self.config.optimization.checkpoint.permanent_every_tokens
        if every is None:
            return False
        batch = self.stage_plan(position.stage).config.training.batch_tokens
        return position.tokens_seen // every > (position.tokens_seen - batch) // every

    def stage_plan(self, name: str) -> StagePlan:
        """Return the plan of a stage of the course."""
        return next(plan for plan in self.stages if plan.name == name)

    def is_save_due(self, position: Position) -> bool:
        """Tell whether a checkpoint is due by steps or by time; all ranks answer alike."""
        due = self.config.optimization.checkpoint
        by_steps = due.every_steps is not None and position.stage_step % due.every_steps == 0
        elapsed = time.monotonic() - self._saved_at
        return self.agreed(by_steps or (due.every_s is not None and elapsed >= due.every_s))

    def data_identity(self, stage: str) -> dict[str, str]:
        """Return the hashes of what has been read up to and in a stage, replay included."""
        names = [plan.name for plan in self.stages]
        return self.corpus.identity(names[: names.index(stage) + 1])

    def _refuse_unusable_weights(self) -> None:
        """Raise before weights that are not finite would push good checkpoints out."""
        if not all(bool(torch.isfinite(p).all()) for p in self.model.parameters()):
            raise NumericsError(f"the weights are not finite, and were not saved; {ADVICE}")

    def compare_weights(self, step: int) -> None:
        """Hold the weights of all ranks against one another, bit for bit."""
        ranks, device = self.engine.processes, self.engine.device
        with self.watchdog.watching("an answer of the other ranks"):
            refuse_other_weights(self.model, ranks, device=device, step=step)

    def save(self, position: Position, *, permanent: bool, wait: bool) -> None:
        """Write a checkpoint unless the run already stands on it; drop old ones.

        With `wait` it is there, or an error is raised, when this returns; without, it is written
        while training goes on.
        """
        # A disk of a network can hang as well as a card.
        with self.watchdog.watching("a checkpoint", f"the checkpoint of step {position.step}"):
            self._save(position, permanent=permanent, wait=wait)

    def _save(self, position: Position, *, permanent: bool, wait: bool) -> None:
        is_main = self.engine.processes.is_main
        name = checkpoint_name(position.step, position.attempt)
        if is_main:
            self.saver.finish()
            self.parent = self.saver.take_newest() or self.parent
        # Where the disk is slow the others wait here, as long as a checkpoint may take.
        self.engine.processes.barrier()
        # No other rank looks: a network's disk goes on telling for a while that nothing is there.
        if not self.agreed(is_main and not (self.folder.checkpoints / name).exists()):
            self._saved()
            return
        if self.config.optimization.watch.weights_every_steps is not None:
            self.compare_weights(position.step)  # or a changed bit would be what a run goes on from
        # Every rank has a part of the moments.
        moments = self.engine.optimizers.state_tensors()
        if is_main:
            self._refuse_unusable_weights()
            info = CheckpointInfo(
                path=self.folder.checkpoints / name,
                step=position.step,
                attempt=position.attempt,
                tokens_seen=position.tokens_seen,
                stage=position.stage,
                permanent=permanent,
                parent=self.parent,
                config_sha256=self.config_sha256,
                world_size=self.engine.processes.world_size,
                code_version=yxanul.__version__,
            )
            snapshot = Snapshot(
                info,
                model=copied(self.model.state_dict()),
                optimizer=copied(moments),
                state=capture_state(
                    position,
                    data=self.data_identity(position.stage),
                    vigil=self.vigil.as_state(),
                ),
            )
            self.saver.save(snapshot, wait=wait)
        self._saved()

    def _saved(self) -> None:
        self._saved_at = time.monotonic()
        self.engine.processes.barrier()
