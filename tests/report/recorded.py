"""A run folder as the program writes it, without training: four stages, a rollback in the second.

Attempt 0 passes stage 1, forgets too much in stage 2, and is left; attempt 1 goes on from the end
of stage 1 and passes the rest. Everything goes through the project's own writers.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from yxanul.config.load import dump_config, load_config
from yxanul.config.schema import RunConfig
from yxanul.curriculum.stages import StagePlan, plan_stages, seq_len_at
from yxanul.data.prepared.manifest import (
    FORMAT_VERSION,
    IndexFile,
    Manifest,
    ShardFile,
    SourceRecord,
    SplitRecord,
    StageRecord,
    dropped_path,
    index_path,
    shard_path,
    write_manifest,
)
from yxanul.optim.schedule import learning_rate_factor
from yxanul.runfolder.durable import write_atomic, write_json
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.rows import append_row
from yxanul.runfolder.spending import Payment, record_payment

ROOT = Path(__file__).parents[2]
DOMAINS = ("wikipedia", "factbook", "reasoning", "math", "code", "api_docs")
OWN = (("wikipedia", "factbook"), ("reasoning",), ("math",), ("code", "api_docs"))
# Bits per byte of DOMAINS at the borders, by (stages finished, attempt).
BPB = {
    (0, 0): (3.2812, 3.3809, 5.1980, 5.1410, 6.6310, 5.0330),
    (1, 0): (1.6910, 1.6890, 3.5940, 3.7710, 5.4450, 4.1480),
    (2, 0): (1.9731, 1.9984, 1.3440, 3.0830, 5.0430, 4.1710),
    (2, 1): (1.7012, 1.7103, 1.3720, 3.1020, 5.0130, 4.1420),
    (3, 1): (1.7105, 1.7166, 1.3911, 1.9930, 5.0920, 4.1330),
    (4, 1): (1.7090, 1.7240, 1.4020, 2.0110, 2.4230, 2.2560),
}
DOCUMENTS = (124, 47, 44, 54, 8, 48)
PROMPTS = ("The river", "Question: what is 12 plus 30?", "def mean(values):")
LOG_EVERY = 5


@dataclass
class Recorder:
    """Writes one run folder; `hostile` is put into a sample, an attribution and a scored domain."""

    root: Path
    hostile: str = ""
    config: RunConfig = field(init=False)

    def __post_init__(self) -> None:
        # recorded_skills.py has a run with skills.
        changed = ["evaluation.skills=[]", "budget.usd_per_hour=12.5"]
        self.config = load_config(ROOT / "configs" / "embedded", overrides=changed)
        self.folder = RunFolder(self.root)
        self.folder.create()

    @property
    def plans(self) -> tuple[StagePlan, ...]:
        return plan_stages(self.config)

    @property
    def domains(self) -> tuple[str, ...]:
        """Names as the run's; the last one carries the hostile text."""
        return (*DOMAINS[:-1], DOMAINS[-1] + self.hostile)

    def write(self) -> Path:
        """Write the whole, finished run; return its folder."""
        self.begin()
        one, two, three, four = self.plans
        self.stage(one, attempt=0)
        self.stage(two, attempt=0)
        self.roll_back(two)
        for plan in (two, three, four):
            self.stage(plan, attempt=1)
        self.end()
        return self.root

    def begin(self) -> None:
        """Write what a run's start writes, and score and sample the new weights."""
        write_atomic(self.folder.config, dump_config(self.config))
        write_json(self.folder.environment, self._environment())
        self.folder.data.mkdir(exist_ok=True)
        write_manifest(self._manifest(), self.folder.data)
        self._attempt(0, parent=None, reason="the run begins", tokens_spent=0, changes=None)
        self._score(0, attempt=0, values=dict(zip(self.domains, BPB[0, 0], strict=True)))
        self._sample(self.plans[0], step=0, attempt=0)

    def stage(self, plan: StagePlan, *, attempt: int) -> None:
        """Write the rows of a whole stage, its scores, its gate and its samples."""
        self.train(plan, attempt=attempt)
        after = self._bpb(plan, attempt=attempt)
        self._score(plan.last_step, attempt=attempt, values=after)
        self._gate(plan, attempt=attempt)
        self._sample(plan, step=plan.last_step, attempt=attempt)

    def train(self, plan: StagePlan, *, attempt: int, steps: int | None = None) -> None:
        """Write the metric rows of a stage, or of its first steps."""
        half = plan.total_steps // 2
        for step in range(1, (steps or plan.total_steps) + 1):
            own = None
            if step == half:
                own = self._halfway(plan, attempt=attempt)
                self._score(plan.first_step + step, attempt=attempt, values=own)
            if step % LOG_EVERY == 0 or step == plan.total_steps or own:
                append_row(self.folder.metrics, self._metric(plan, step, attempt, own))

    def roll_back(self, plan: StagePlan) -> None:
        """Begin attempt 1 from the start of a stage."""
        changes = {"replay_share": 0.2, "rate_factor": 0.7, "extra_steps": 0}
        self._attempt(
            1,
            parent=f"step-{plan.first_step:08d}-a0",
            reason=f"the gate of {plan.name} says rollback: wikipedia was forgotten",
            tokens_spent=plan.first_token + plan.tokens,
            changes={**changes, "rollbacks": 1, "extensions": 0, "from_stage_step": 0},
            stage=plan.name,
        )

    def end(self, code: int = 0, reason: str = "done") -> None:
        """Write exit.json."""
        outcome = {"training_s": 176.093, "evaluation_s": 23.123}
        record = {"code": code, "reason": reason, "outcome": outcome, "ended_at": 1795544170.3}
        write_json(self.folder.exit_record, record)
        held = 1_234_567_168
        for payment in (Payment(0, 20.5, 2048, 3.25, 64, held),
                        Payment(0, 45.5, 102_400, 3.25, 64, held),
                        Payment(0, 150.75, 700_000, 18.5, 64, held),
                        Payment(1, 61.25, 1_013_760, 5.125, 256, held - 4096)):  # fmt: skip
            record_payment(self.folder.spending, payment)

    def _attempt(self, attempt: int, **row: object) -> None:
        row = {"event": "attempt", "attempt": attempt, **row}
        append_row(self.folder.lineage, row, durable=True)

    def _bpb(self, plan: StagePlan, *, attempt: int) -> dict[str, float]:
        return dict(zip(self.domains, BPB[plan.index + 1, attempt], strict=True))

    def _before(self, plan: StagePlan) -> dict[str, float]:
        attempt = 0 if plan.index < 2 else 1
        return dict(zip(self.domains, BPB[plan.index, attempt], strict=True))

    def _own(self, plan: StagePlan) -> list[str]:
        return [name for name in self.domains if name.startswith(OWN[plan.index])]

    def _halfway(self, plan: StagePlan, *, attempt: int) -> dict[str, float]:
        old, new = self._before(plan), self._bpb(plan, attempt=attempt)
        return {d: 0.2 * old[d] + 0.8 * new[d] for d in self._own(plan)}

    def _metric(self, plan: StagePlan, step: int, attempt: int, bpb: dict | None) -> dict:
        training = plan.config.training
        factor = learning_rate_factor(training, step - 1, total_steps=plan.total_steps)
        seq_len = seq_len_at(training, step - 1, total_steps=plan.total_steps)
        share = step / plan.total_steps
        first = (10.8, 7.2, 6.4, 8.6)[plan.index]
        loss = 2.4 + (first - 2.4) * math.exp(-3.5 * share**0.6) + 0.15 * math.sin(7 * step)
        loss += 0.0 if attempt or plan.index == 0 else 0.3 * share
        step_s = 0.31 + 0.0002 * seq_len + 0.01 * math.sin(3 * step)
        skipped = {"skipped": "its loss was far above the usual"} if step == 20 else {}
        return {
            "step": plan.first_step + step,
            "attempt": attempt,
            "stage": plan.name,
            "stage_step": step,
            "tokens_seen": plan.first_token + step * training.batch_tokens,
            "seq_len": seq_len,
            "loss": loss,
            "grad_norm": 0.5 + 0.1 * math.cos(step),
            "learning_rate": training.learning_rate * factor,
            "embedding_learning_rate": (training.embedding_learning_rate or 0.0) * factor,
            "norm_learning_rate": (training.norm_learning_rate or 0.0) * factor,
            "bpb": bpb,
            "step_s": step_s,
            "tokens_per_s": training.batch_tokens / step_s,
            "mfu": 0.37 - 0.0001 * seq_len,
            **skipped,
        }

    def _score(self, step: int, *, attempt: int, values: dict[str, float]) -> None:
        for domain, bpb in values.items():
            documents = DOCUMENTS[self.domains.index(domain)]
            size = 400
            record = {"step": step, "attempt": attempt, "domain": domain, "bpb": bpb}
            record["nats"] = [bpb * size * math.log(2)] * documents
            record |= {"bytes": [size] * documents, "tokens": [90] * documents}
            name = f"step-{step:08d}-a{attempt}-{DOMAINS[self.domains.index(domain)]}.json"
            write_json(self.folder.scores / name, record)

    def _gate(self, plan: StagePlan, *, attempt: int) -> None:
        before, after = self._before(plan), self._bpb(plan, attempt=attempt)
        place = {"stage": plan.name, "attempt": attempt, "step": plan.last_step}
        rows = list(self._checks(plan, before, after))
        word, why = self.verdict_of(rows)
        for row in rows:
            append_row(self.folder.gates, {"row": "check", **place, **row})
        verdict = {
            "row": "verdict",
            **place,
            "verdict": word,
            "why": why,
            "bpb_before": before,
            "bpb_after": after,
            "gate_sha256": f"{plan.index:064x}",
            "ledger": self._ledger(plan, attempt),
        }
        append_row(self.folder.gates, verdict, durable=True)

    def verdict_of(self, checks: list[dict]) -> tuple[str, str]:
        """Return the word and the sentence that follow from checks."""
        if any(check["result"] == "fail" for check in checks):
            return "rollback", "wikipedia and factbook rose beyond the margin"
        return "pass", "all checks pass"

    def _checks(self, plan: StagePlan, before: dict, after: dict) -> Iterator[dict]:
        none = dict.fromkeys(("subject", "low", "high", "margin", "action", "n", "mde"))
        whole = "the checkpoint verifies and its score repeats"
        yield {**none, "id": "G0", "value": None, "result": "pass", "why": whole}
        calm = "no step was skipped and every loss was finite"
        yield {**none, "id": "G1", "value": 0.0, "margin": 0.001, "result": "pass", "why": calm}
        for domain, documents in zip(self.domains, DOCUMENTS, strict=True):
            own = domain in self._own(plan)
            if not own and not domain.startswith(sum(OWN[: plan.index], ())):
                continue
            value = after[domain] / before[domain] - 1
            margin = -0.01 if own else 0.05
            passed = value + 0.012 < margin
            yield {
                "id": "G2" if own else "G3",
                "subject": domain,
                "value": value,
                "low": value - 0.009,
                "high": value + 0.012,
                "margin": margin,
                "result": "pass" if passed else "fail",
                "action": None if passed else "rollback",
                "n": documents,
                "mde": 0.0149,
                "why": f"bits per byte of {domain} {before[domain]:.4f} -> {after[domain]:.4f}",
            }

    def _ledger(self, plan: StagePlan, attempt: int) -> dict[str, int]:
        share = 0.0 if plan.index == 0 else 0.2 if attempt and plan.index == 1 else 0.1
        earlier = [s for p in self.plans[: plan.index] for s in p.config.data.embedded_sources]
        own = plan.config.data.embedded_sources
        replay = {s.name: round(plan.tokens * share / len(earlier)) for s in earlier}
        rest = plan.tokens - sum(replay.values())
        return {**replay, **{s.name: round(rest * s.weight) for s in own}}

    def _sample(self, plan: StagePlan, *, step: int, attempt: int) -> None:
        told = " and the mill stood by the water, as it had stood before" if step else " of,, the,"
        for number, prompt in enumerate(PROMPTS):
            row = {"step": step, "attempt": attempt, "stage": plan.name}
            row |= {"tokens_seen": step * plan.config.training.batch_tokens, "prompt": prompt}
            row["continuation"] = f"{told} ({step}, {number}).\n{self.hostile}"
            row |= {"temperature": 0.8, "seed": number, "max_new_tokens": 24}
            append_row(self.root / "samples.jsonl", row)

    def _environment(self) -> dict[str, object]:
        return {
            "yxanul": "0.1.0",
            "commit": "f11ffa20a2fd4a354a1581bcbc11824d97d7a58c",
            "python": "3.11.7",
            "torch": "2.13.0+cpu",
            "device": "AMD EPYC",
            "world_size": 1,
            "threads": 2,
            "seed": 42,
            "command": "yxanul run --config_dir configs/embedded --data embedded --out runs/first",
            "cpu_flags": ["avx2", "avx512_bf16"],
            "features": [
                {"name": "bf16 matrix products", "state": "active", "reason": "AVX512-BF16"},
                {"name": "compile", "state": "available", "reason": "off by configuration"},
                {"name": "FP8", "state": "unavailable", "reason": "needs a card of 2022 or later"},
            ],
        }

    def _manifest(self) -> Manifest:
        record = StageRecord("0" * 64, "0.1.0", "3.11.7")
        sources = {
            source.name: SourceRecord(
                stage=plan.name,
                domain=source.domain,  # a manifest with another name is refused
                licence="CC0-1.0",
                attribution=f"the tests {self.hostile}",
                version="tests 1",
                kind="embedded",
                settings={},
                tools={},
                decontaminated={},
                train=_split(source.name, "train", tokens=90_000, documents=900),
                validation=_split(source.name, "validation", tokens=4_500, documents=45),
                dropped={"duplicate": 3},
                dropped_list=IndexFile(dropped_path(source.name), "0" * 64, 300),
            )
            for plan in self.plans
            for source in plan.config.data.embedded_sources
        }
        stages = {plan.name: record for plan in self.plans}
        return Manifest(FORMAT_VERSION, "0" * 64, stages, sources)


def move(root: Path, *machines: str) -> None:
    """Let each process of a recorded run have worked on a machine of its own."""
    path = root / "spending.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    moved = ({**row, "machine": machines[row["process"]]} for row in rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in moved))


def begin_late(root: Path, *, parent: str | None = None) -> None:
    """Let a recorded run have begun with its last stage, as `train --stage --init_from` does."""
    rows = {name: _rows(root / name) for name in ("metrics.jsonl", "gates.jsonl")}
    stage = rows["metrics.jsonl"][-1]["stage"]
    own = {name: [row | {"attempt": 0} for row in found if row["stage"] == stage]
           for name, found in rows.items()}  # fmt: skip
    first = own["metrics.jsonl"][0]
    begun = {"event": "attempt", "attempt": 0, "step": first["step"] - first["stage_step"]}
    begun |= {"parent": parent, "reason": "the run begins", "tokens_spent": 0, "changes": None}
    for name, found in {**own, "lineage.jsonl": [begun]}.items():
        (root / name).write_text("".join(json.dumps(row) + "\n" for row in found))


def _rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _split(source: str, split: str, *, tokens: int, documents: int) -> SplitRecord:
    shard = ShardFile(shard_path(source, split, number=0), "0" * 64, 2 * tokens, tokens)
    index = IndexFile(index_path(source, split), "0" * 64, 100 * documents)
    return SplitRecord(tokens, documents, 4 * tokens, (shard,), index, None)
