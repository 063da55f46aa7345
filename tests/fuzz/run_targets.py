"""Targets of what a run left behind: checkpoints, rows, scores, and how it ended."""

import hashlib
import io
import json
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from tests.fuzz.target import Target, holding, refused, scratch
from yxanul.config.load import dump_config, load_config
from yxanul.data.benchmarks.frozen import keep_benchmark, load_kept
from yxanul.data.items import AnswerItem, Benchmark, ChoiceItem, ProgramItem
from yxanul.runfolder.checkpoints import (
    CheckpointInfo,
    checkpoint_name,
    load_checkpoint,
    load_weights,
)
from yxanul.runfolder.contamination import Contamination, read_contamination, write_contamination
from yxanul.runfolder.decisions import override_verdict
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import (
    attempt_at,
    attempt_step,
    checkpoint_at,
    current_attempt,
    current_branch,
    first_parent,
    stage_changes,
    tokens_spent_before,
)
from yxanul.runfolder.rows import read_rows
from yxanul.runfolder.saving import save_checkpoint
from yxanul.runfolder.scores import DomainScore, domain_course, read_score, scores_at, write_score
from yxanul.runfolder.skill_scores import TaskScore, read_task_score, skills_at, write_task_score
from yxanul.runfolder.spending import read_spending
from yxanul.runfolder.supervised import read_note
from yxanul.runfolder.verdicts import all_plateaus, read_checks, read_verdicts
from yxanul.supervise.ending import Ending, read_ending
from yxanul.watch.screen import screen
from yxanul.watch.snapshot import Watch

STATE = {"position": {"step": 3}, "torch_rng": "AAAA", "float": 0.1}
PLACE = {"stage": "s1", "attempt": 0, "step": 8}
SCORES = {"why": "a test", "bpb_before": None, "bpb_after": {"a": 1.0}}
BEGUN = {"event": "attempt", "attempt": 0, "step": 0, "parent": None, "reason": "new"}
BACK = {**BEGUN, "attempt": 1, "step": 8, "parent": "step-00000008-a0", "tokens_spent": 9}
STEP = {"step": 1, "attempt": 0, "stage": "stage1_wikipedia", "stage_step": 1, "tokens_seen": 100}
STEP |= {"seq_len": 64, "step_s": 0.5, "tokens_per_s": 200.0, "grad_norm": 1.0, "mfu": None}
PAID = {"process": 0, "seconds": 1.5, "tokens_spent": 100, "seq_len": 64}
CONFIG = dump_config(load_config(Path("configs/embedded")))
ROWS = {
    "lineage": [BEGUN, {**BACK, "stage": "s1", "changes": {"x": 1}}],
    "gates": [
        {"row": "check", **PLACE, "id": "G0"},
        {"row": "verdict", **PLACE, **SCORES, "verdict": "stop"},
        {"row": "override", **PLACE, "verdict": "pass", "by": "Ada", "reason": "so"},
    ],
    "metrics": [{**STEP, "loss": 2.5}, {**STEP, "step": 2, "stage_step": 2, "loss": None}],
    "spending": [PAID, {**PAID, "seconds": 2.5, "tokens_spent": 200, "scoring_s": 0.5}],
}
ITEMS = (
    ChoiceItem("c1", "The mill", (" turns.", " flies."), 0),
    AnswerItem("a1", "Question: 1 + 1?\nAnswer:", "2", ("2", "two")),
    ProgramItem("p1", "def f():\n", "    return 1\n", "def check(f): assert f() == 1", "f"),
)


@cache
def checkpoint() -> Path:
    path = scratch("checkpoints") / checkpoint_name(3, 0)
    info = CheckpointInfo(
        path,
        step=3,
        attempt=0,
        tokens_seen=300,
        stage="s",
        permanent=False,
        parent=None,
        config_sha256="a" * 64,
        world_size=2,
        code_version="0.1",
    )
    model = {"a": np.ones((2, 3), np.float32), "b": np.zeros(0, np.int64)}
    save_checkpoint(path.parent, info, model=model, optimizer={"n": np.array(3)}, state=STATE)
    return path


def read_checkpoint_json(content: bytes) -> None:
    """Put the bytes in the place of the state, and of the manifest, which is sealed anew."""
    _loaded_with("state.json", content)
    for one in (content, _sealed(content)):
        with holding(checkpoint() / "manifest.json", one):
            refused(load_checkpoint, checkpoint())


def read_tensors(content: bytes) -> None:
    _loaded_with("model.safetensors", content)


def _loaded_with(name: str, content: bytes) -> None:
    """Load a checkpoint whose manifest says that this file should hold these bytes."""
    path = checkpoint()
    table = json.loads((path / "manifest.json").read_bytes())
    table["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest = _sealed(json.dumps(table).encode())
    with holding(path / name, content), holding(path / "manifest.json", manifest):
        refused(load_checkpoint, path)
        refused(load_weights, path)


def _sealed(manifest: bytes) -> bytes:
    """Return the manifest with the hash of its own content, if it is a JSON object at all."""
    try:
        table = json.loads(manifest)
        table.pop("sha256", None)
        seal = hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()
        return json.dumps({**table, "sha256": seal}).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return manifest


def json_seeds() -> list[bytes]:
    return [(checkpoint() / name).read_bytes() for name in ("state.json", "manifest.json")]


def read_rows_of_a_run(content: bytes) -> None:
    """Put the bytes in the place of each file of rows, beside whole ones, and ask all readers."""
    folder = RunFolder(scratch("rows"))
    folder.config.write_text(CONFIG)
    # One of four: reading its settings takes a watch a tenth of a second.
    watched = list(ROWS)[len(content) % len(ROWS)]
    for name in ROWS:
        for other, rows in ROWS.items():
            (folder.root / f"{other}.jsonl").write_bytes(lines(rows))
        (folder.root / f"{name}.jsonl").write_bytes(content)
        refused(read_rows, folder.metrics)
        for reader in (current_attempt, attempt_step, tokens_spent_before, first_parent):
            refused(reader, folder.lineage)
        refused(checkpoint_at, folder.lineage, 9)
        refused(lambda: stage_changes(folder.lineage, current_attempt(folder.lineage)))
        refused(lambda: attempt_at(current_branch(folder.lineage), 3))
        refused(_verdicts, folder)
        refused(all_plateaus, folder)
        refused(read_spending, folder.spending)
        if name == watched:
            refused(_watched, folder)
        refused(override_verdict, folder, "s1", decided="pass", by="Ada", reason="so")


def _verdicts(folder: RunFolder) -> None:
    for verdict in read_verdicts(folder).values():
        read_checks(folder, verdict)


def _watched(folder: RunFolder) -> None:
    Console(file=io.StringIO()).print(screen(Watch(folder).look(), source="a run"))


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def read_scores(content: bytes) -> None:
    """Read the bytes as each file of one JSON object that a run keeps."""
    folder = RunFolder(scratch("scores"))
    path = folder.data_pointer
    path.write_bytes(content)
    refused(folder.prepared_data)
    for reader in (read_score, _task_values, read_contamination, load_kept):
        refused(reader, path)
    for kept in (folder.scores, folder.scores / "skills"):
        kept.mkdir(exist_ok=True)
        (kept / "step-00000008-a0-docs.json").write_bytes(content)
    refused(scores_at, folder.scores, 8, branch={0: 8})
    refused(domain_course, folder.scores, "docs", branch={0: 8})
    refused(skills_at, folder.scores, 8, branch={0: 8})


def _task_values(path: Path) -> None:
    """A score of at least one item has a figure for each measure."""
    score = read_task_score(path)
    for measure in score.measures if score.ids else ():
        score.rate(measure)


def score_seeds() -> list[bytes]:
    folder = scratch("score seeds")
    write_score(folder, DomainScore(8, 0, "docs", 1.0, [1.5, 2.5], [10, 20], [3, 6]))
    score = TaskScore("t", "1", 0, "a test", "0", "0", ["a", "b"], {"acc": [1.0, 0.0]})
    write_task_score(folder / "task.json", score)
    write_contamination(folder / "contamination.json", Contamination("1", {}, {}, ()))
    keep_benchmark(folder, "mixed", read=lambda: Benchmark("mixed", ITEMS, (), "a test"))
    (folder / "data.json").write_text('{"prepared": "data"}')
    return [path.read_bytes() for path in sorted(folder.glob("*.json"))]


def read_end(content: bytes) -> None:
    """Read the bytes as exit.json of a run, and as what its process told its supervisor."""
    folder = RunFolder(scratch("ended"))
    note = folder.root / "note"
    note.write_text(json.dumps({"run_folder": str(folder.root)}) + "\n")
    folder.exit_record.write_bytes(content)
    refused(_read_ending, 1, note)
    note.write_bytes(content)
    refused(_read_ending, -9, note)


def _read_ending(returncode: int, note: Path) -> Ending:
    return read_ending(returncode, read_note(note), started_at=0.0)


def end_seeds() -> list[bytes]:
    ended = {"code": 10, "reason": "asked to stop", "ended_at": time.time()}
    return [lines([ended]), lines([{"run_folder": "nowhere"}, {"code": 30, "reason": "no"}])]


TARGETS = (
    Target("checkpoint_json", read_checkpoint_json, json_seeds),
    Target("tensors", read_tensors, lambda: [(checkpoint() / "model.safetensors").read_bytes()]),
    Target("rows", read_rows_of_a_run, lambda: [lines(rows) for rows in ROWS.values()]),
    Target("scores", read_scores, score_seeds),
    Target("ending", read_end, end_seeds),
)
