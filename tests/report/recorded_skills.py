"""The recorded run with skills: scores at every border, checks G4 to G8, and a person's override.

The gate of the third stage says stop, for its bits per byte lie far above the forecast; a person
lets the run go on. HumanEval's programs never ran: the sandbox was too weak.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.report.recorded import ROOT, Recorder
from yxanul.config.evaluation import TASKS as FACTS
from yxanul.config.load import load_config
from yxanul.curriculum.stages import StagePlan
from yxanul.curriculum.statistics.intervals import Z_95, wilson
from yxanul.runfolder.contamination import (
    Contamination,
    Finding,
    ScannedBenchmark,
    ScannedSource,
    write_contamination,
)
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.rows import append_row
from yxanul.runfolder.skill_scores import BYTES, NATS, TaskScore, skill_path, write_task_score

TASKS = ("hellaswag", "gsm8k", "humaneval", "cloze", "triviaqa")
# Passes at the borders by (stages finished, attempt), and nats per byte of the right answers.
CLOZE = {(0, 0): 31, (1, 0): 44, (2, 0): 40, (2, 1): 43, (3, 1): 45, (4, 1): 41}
HELLASWAG = {(0, 0): 50, (1, 0): 61, (2, 0): 60, (2, 1): 63, (3, 1): 66, (4, 1): 64}
GOLD = {(0, 0): 4.1, (1, 0): 2.9, (2, 0): 2.2, (2, 1): 2.3, (3, 1): 1.1, (4, 1): 1.25}
ITEMS = {"hellaswag": 200, "gsm8k": 90, "humaneval": 164, "cloze": 120}
REASON = "no sandbox of level L2: Landlock is not there (kernel 5.10)"
AT_STAGE_END = "answers are written at the end of a stage"
NONE = dict.fromkeys(("subject", "value", "low", "high", "margin", "action", "n", "mde"))
OVERRIDE = "the forecast was fitted on another tokenizer; 12% is no defect"


@dataclass
class SkillRecorder(Recorder):
    """Writes one run folder whose stages ask for skills."""

    def __post_init__(self) -> None:
        super().__post_init__()
        skills = ", ".join(f"{{task: {task}}}" for task in TASKS)
        asked = [f"evaluation.skills=[{skills}]", "evaluation.bench=somewhere"]
        self.config = load_config(ROOT / "configs" / "embedded", overrides=asked)

    def begin(self) -> None:
        """Score the new weights in every task too, and look for the items in the text."""
        super().begin()
        write_contamination(self.folder.contamination, _contamination())
        self._skills((0, 0), step=0)

    def stage(self, plan: StagePlan, *, attempt: int) -> None:
        """Score every task at the stage's end, before the gate is asked."""
        if plan.index == 3:
            self._plateau(plan, attempt=attempt)
        self._skills((plan.index + 1, attempt), step=plan.last_step)
        super().stage(plan, attempt=attempt)
        if plan.index == 2:
            place = {"stage": plan.name, "attempt": attempt, "step": plan.last_step}
            told = {"reason": OVERRIDE + self.hostile, "by": "ada" + self.hostile}
            decided = {"verdict": "warn", **told, "at": 1795544000.0}
            append_row(self.folder.gates, {"row": "override", **place, **decided}, durable=True)

    def _plateau(self, plan: StagePlan, *, attempt: int) -> None:
        """Answer that the last stage may begin its decay, ten steps before its end."""
        place = {"stage": plan.name, "attempt": attempt, "step": plan.last_step - 10}
        check = {**NONE, "id": "G6", "value": 0.0004, "margin": 0.003, "result": "pass"}
        told = "10 % more tokens promise -0.04%, a plateau"
        append_row(self.folder.gates, {"row": "check", **place, **check, "why": told})
        row = {"row": "plateau", **place, "verdict": "pass", "why": told}
        append_row(self.folder.gates, row, durable=True)

    def verdict_of(self, checks: list[dict]) -> tuple[str, str]:
        """Let a check that asks for stop be heard."""
        asking = [check for check in checks if check["action"] == "stop"]
        if asking:
            return "stop", asking[0]["why"]
        word, why = super().verdict_of(checks)
        warned = [check["why"] for check in checks if check["result"] == "warn"]
        return ("warn", "; ".join(warned)) if warned and word == "pass" else (word, why)

    def _checks(self, plan: StagePlan, before: dict, after: dict) -> Iterator[dict]:
        yield from super()._checks(plan, before, after)
        attempt = 0 if plan.index < 1 or self.is_first_try(after) else 1
        now, then = (plan.index + 1, attempt), (plan.index, attempt if plan.index > 1 else 0)
        passes = (CLOZE[now] - CLOZE[then]) / ITEMS["cloze"]
        yield _rate_check("cloze acc", passes, margin=-0.02, n=120, mde=0.0613)
        won = (HELLASWAG[now] - HELLASWAG[then]) / ITEMS["hellaswag"]
        yield _rate_check("hellaswag acc_norm", won, margin=-0.01, n=200, mde=0.0489)
        yield _gold_check(1 - GOLD[now] / GOLD[then])
        yield _reported("gsm8k exact_match", now[0] // 3, n=90)
        yield {**NONE, "id": "G4", "subject": "humaneval pass_at_1", "result": "not run",
               "why": REASON}  # fmt: skip
        missing = "the split of triviaqa holds no item"
        yield {**NONE, "id": "G4", "subject": "triviaqa exact_match", "result": "not run",
               "why": missing}  # fmt: skip
        yield from _later_checks(plan.index)

    def is_first_try(self, after: dict) -> bool:
        """Tell whether scores are those of the attempt that was rolled back."""
        return after["wikipedia"] > 1.9

    def _skills(self, border: tuple[int, int], *, step: int) -> None:
        ended = border[0] > 0
        (self.folder.scores / "skills").mkdir(exist_ok=True)
        for score in (
            _rates("hellaswag", {"acc": HELLASWAG[border] - 8, "acc_norm": HELLASWAG[border]}),
            _rates("cloze", {"acc": CLOZE[border]}, clusters=40),
            _golds("gsm8k", GOLD[border], answers={"exact_match": border[0] // 3}, ended=ended),
            _golds("humaneval", GOLD[border] / 2, answers=None, ended=ended),
        ):
            path = skill_path(self.folder.scores, step=step, attempt=border[1], task=score.task)
            reasons = {name: why + self.hostile for name, why in score.not_run.items()}
            origin = score.origin + self.hostile
            write_task_score(path, replace(score, not_run=reasons, origin=origin))


def _rate_check(subject: str, value: float, *, margin: float, n: int, mde: float) -> dict:
    low, high = value - 0.03, value + 0.034
    result = "pass" if low >= margin else "fail" if high < margin else "warn"
    return {"id": "G4", "subject": subject, "value": value, "low": low, "high": high,
            "margin": margin, "result": result, "action": None, "n": n, "mde": mde,
            "noise": 0.0041, "why": f"{subject} {value:+.2%}"}  # fmt: skip


def _gold_check(value: float) -> dict:
    return {"id": "G4", "subject": "gsm8k gold_bpb", "value": value, "low": value - 0.01,
            "high": value + 0.01, "margin": -0.02, "result": "pass" if value > 0 else "warn",
            "action": None, "n": 90, "mde": 0.015, "noise": 0.012,
            "why": f"gsm8k gold_bpb {value:+.2%}"}  # fmt: skip


def _reported(subject: str, passes: int, *, n: int) -> dict:
    low, high = wilson(passes, n)
    return {**NONE, "id": "G4", "subject": subject, "value": passes / n, "low": low, "high": high,
            "n": n, "mde": 2.8 * (high - low) / (2 * Z_95), "result": "not applicable",
            "why": f"{subject} {passes / n:.1%} of {n}: reported, no gate"}  # fmt: skip


def _later_checks(index: int) -> Iterator[dict]:
    over = index == 2
    yield {**NONE, "id": "G5", "subject": "math" if over else "wikipedia",
           "value": 0.12 if over else 0.013, "margin": 0.03, "result": "fail" if over else "pass",
           "action": "stop" if over else None,
           "why": "12.00% above the forecast" if over else "1.30% above the forecast"}  # fmt: skip
    yield {**NONE, "id": "G6", "value": 0.0028, "margin": 0.003, "result": "pass",
           "why": "10 % more tokens promise -0.28%"}  # fmt: skip
    yield {**NONE, "id": "G7", "subject": "hellaswag acc_norm", "value": 0.0031, "low": -0.002,
           "high": 0.008, "result": "pass", "n": 200,
           "why": "3 of 200 items are dirty"}  # fmt: skip
    yield {**NONE, "id": "G7", "subject": "gsm8k gold_bpb", "value": -0.0123, "low": -0.03,
           "high": 0.01, "result": "pass", "n": 90,
           "why": "2 of 90 items are dirty"}  # fmt: skip
    yield {**NONE, "id": "G8", "value": 0.25 * (index + 1), "margin": 1.0,
           "result": "pass", "why": "within the plan"}  # fmt: skip


def _contamination() -> Contamination:
    """One item in two sources, and another in one of them."""
    found = (("gsm8k/3", "arithmetic"), ("gsm8k/3", "gsm_symbolic"), ("gsm8k/7", "gsm_symbolic"))
    source = ScannedSource("c" * 64, tokens=90_000, documents=900, words=60_000)
    return Contamination(
        rules="1",
        benchmarks={task: ScannedBenchmark("b" * 64, n, too_short=2) for task, n in ITEMS.items()},
        sources={"gsm_symbolic": source, "arithmetic": source},
        findings=tuple(
            Finding("gsm8k", item, name, "row", False, 0.9, 1, "a.bin", 4, "d", "how many are left")
            for item, name in found
        ),
    )


def _rates(task: str, passes: dict[str, int], clusters: int | None = None) -> TaskScore:
    n = ITEMS[task]
    groups = None if clusters is None else [f"paragraph {i % clusters}" for i in range(n)]
    measures = {name: [1.0] * count + [0.0] * (n - count) for name, count in passes.items()}
    measures |= {NATS: [30.0 + i % 7 for i in range(n)], BYTES: [40.0] * n}
    return _score(task, measures, clusters=groups)


def _golds(
    task: str, nats_per_byte: float, *, answers: dict[str, int] | None, ended: bool
) -> TaskScore:
    n = ITEMS[task]
    measures = {NATS: [100 * nats_per_byte * (1 + 0.01 * (i % 5)) for i in range(n)],
                BYTES: [100.0] * n}  # fmt: skip
    missing = {"exact_match" if task == "gsm8k" else "pass_at_1": AT_STAGE_END}
    if ended and answers is not None:
        passed = {k: [1.0] * v + [0.0] * (n - v) for k, v in answers.items()}
        return _score(task, measures | passed)
    if ended:
        missing = {"pass_at_1": REASON}
    return _score(task, measures, not_run=missing, sandbox="L1" if task == "humaneval" else None)


def _score(task: str, measures: dict[str, list[float]], **more: object) -> TaskScore:
    n = ITEMS[task]
    assert all(math.isfinite(value) for values in measures.values() for value in values)
    return TaskScore(
        task=task,
        version="1.0",
        shots=5 if task == "gsm8k" else 0,
        origin=f"tests of {task}",
        prompts_sha256="a" * 64,
        items_sha256="b" * 64,
        ids=[f"{task}/{i}" for i in range(n)],
        measures=measures,
        **more,
    )


def evaluated(task: str, items: int, *, right: int, shots: int = 0, **more: object) -> TaskScore:
    """What `yxanul evaluate` may find of a checkpoint."""
    return TaskScore(
        task=task,
        version="1.0",
        shots=shots,
        origin="a made-up set",
        prompts_sha256="d" * 64,
        items_sha256="e" * 64,
        ids=[str(i) for i in range(items)],
        measures={FACTS[task].headline: [1.0] * right + [0.0] * (items - right)},
        **more,
    )


def write_evaluation(root: Path, checkpoint: str, score: TaskScore, *, of: str = "") -> Path:
    """Write a score where `yxanul evaluate` does; `of` is a part of the name."""
    folder = RunFolder(root).evaluation / checkpoint
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{score.task}-{score.shots}shot{of}.json"
    write_task_score(path, score)
    return path
