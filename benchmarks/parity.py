"""Our scores beside lm-evaluation-harness' on real data: the same weights, the same local files.

    python -m benchmarks.parity --bench_dir DIR --model RUN [--items 500] [--shots 0,5]

Where other work wants the same cores, OMP_NUM_THREADS=1 is many times faster.

The model is a run of ours in fp32 on the CPU, for the harness converted in memory to transformers'
Gemma. Both read with `--positions` positions, more than it was trained with: the prompts are long,
and a cut prompt would hide a difference. Texts of answers end after `--max_new_tokens` for both.
Leaves with 1 if any prompt, text or judgement differs, or a likelihood by more than 1e-4 nats and a
millionth of itself.
"""

from __future__ import annotations

import argparse
import bz2
import contextlib
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.comparing import Comparison, compare
from benchmarks.gemma import as_gemma, gpt2_tokenizer
from benchmarks.harness import write_json_lines, write_task
from yxanul.data.benchmarks.read import read_benchmark
from yxanul.data.benchmarks.sets import SETS
from yxanul.data.tokenizer import load_tokenizer
from yxanul.evaluate.models.language_model import LanguageModel
from yxanul.evaluate.models.loaded import load_model
from yxanul.evaluate.models.ours import as_language_model
from yxanul.evaluate.tasks.options import TaskOptions
from yxanul.model.transformer import Transformer
from yxanul.runfolder.durable import sha256_of


def main() -> int:
    """Compare every task at every number of worked examples; return 0 if nothing differs."""
    asked = _arguments()
    ours, lm = _models(asked.model, positions=asked.positions, batch=asked.batch)
    differ = []
    print(
        f"{'task':<10} {'shots':>5} {'items':>5} {'prompts':>8} {'texts':>6} {'judged':>7} ", end=""
    )
    print(f"{'max nats':>10} {'of nats':>10}  figures, ours = theirs", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for task in asked.tasks.split(","):
            _write_definition(task, asked.bench_dir, Path(folder), asked.max_new_tokens)
            for shots in map(int, asked.shots.split(",")):
                options = TaskOptions(
                    limit=asked.items,
                    shots=shots,
                    max_new_tokens=asked.max_new_tokens,
                    batch=asked.batch,
                )
                begun = time.perf_counter()
                benchmark = read_benchmark(
                    task, bench=str(asked.bench_dir), with_shots=bool(shots), news=print
                )
                with contextlib.redirect_stdout(sys.stderr):
                    found = compare(ours, lm, benchmark, options, folder=Path(folder))
                _tell(found, seconds=time.perf_counter() - begun)
                differ += [] if found.agrees else [f"{task} {shots}-shot"]
    print("differs: " + ", ".join(differ) if differ else "nothing differs")
    return 1 if differ else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench_dir", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="run folder or checkpoint")
    parser.add_argument("--tasks", default=",".join(SETS))
    parser.add_argument("--items", type=int, default=500, help="at most, of each task")
    parser.add_argument("--shots", default="0,5")
    parser.add_argument("--max_new_tokens", type=int, default=256)
    parser.add_argument("--positions", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=16)
    return parser.parse_args()


def _models(place: Path, *, positions: int, batch: int) -> tuple[LanguageModel, Any]:
    """Return the same weights as ours and as the harness' Hugging Face model."""
    from lm_eval.models.huggingface import HFLM

    loaded = load_model(place, precision="fp32", device=torch.device("cpu"))
    config = loaded.model.config.model_copy(update={"max_position_embeddings": positions})
    model = Transformer.without_weights(config, compute_dtype=torch.float32, attention="plain")
    model.load_state_dict(loaded.model.state_dict(), assign=True)
    sha256 = sha256_of(loaded.info.path / "model.safetensors")
    print(
        f"model {loaded.info.name} of {loaded.config.model.name}, weights sha256 {sha256}\n"
        f"fp32, {positions} positions, {platform.machine()}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, transformers {version('transformers')}, lm_eval "
        f"{version('lm_eval')}",
        flush=True,
    )
    # The harness sets no <|endoftext|> before a text unless the tokenizer does, and GPT-2's does
    # not: so neither do we here.
    ours = as_language_model(model, load_tokenizer(), name=loaded.info.name, opening=())
    lm = HFLM(pretrained=as_gemma(model), tokenizer=gpt2_tokenizer(), batch_size=batch)
    return ours, lm


def _write_definition(task: str, bench_dir: Path, folder: Path, max_new_tokens: int) -> None:
    """Write the harness' definition over the very files that we read; HellaSwag's is no JSON."""
    where = SETS[task]
    changes: dict[str, Any] = {}
    splits = {where.split: bench_dir / where.file}
    if where.file_shots is not None and where.hub_shots is not None:
        splits[where.hub_shots] = bench_dir / where.file_shots
    if task == "hellaswag":
        splits = {where.split: _hellaswag_rows(bench_dir / where.file, folder)}
    else:
        changes["generation_kwargs"] = {"max_gen_toks": max_new_tokens}
    if task == "triviaqa":
        changes |= {"doc_to_text": "{{context}}", "doc_to_target": "{{aliases}}"}
    write_task(folder, task, splits=splits, changes=changes)


def _hellaswag_rows(path: Path, folder: Path) -> Path:
    lines = bz2.decompress(path.read_bytes()).decode().splitlines()
    rows = [
        {"query": lines[n], "label": lines[n + 1], "choices": lines[n + 2 : n + 6]}
        for n in range(0, len(lines), 6)
    ]
    return write_json_lines(folder / "hellaswag.jsonl", rows)


def _tell(found: Comparison, *, seconds: float) -> None:
    score = found.score
    figures = [f"{name} {score.rate(name):.4f} = {found.mean(name):.4f}" for name in found.judged]
    rest = [f"{name} {score.rate(name):.4f}" for name in ("pass_at_1",) if score.has(name)]
    rest += [f"gold_bpb {score.gold_bpb():.4f}"]
    rest += [f"{name} not run: {why}" for name, why in score.not_run.items()]
    print(
        f"{score.task:<10} {score.shots:>5} {len(score.ids):>5} {found.prompts:>8} "
        f"{found.texts:>6} {sum(found.judged.values()):>7} {found.largest:>10.1e} "
        f"{found.largest_share:>10.1e}  "
        f"{', '.join([*figures, *rest])} ({seconds:.0f} s)",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
