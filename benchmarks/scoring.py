"""Our scorer's time beside lm-evaluation-harness' own Hugging Face model's, as a table.

    python -m benchmarks.scoring --bench_dir DIR --model RUN [--items 96] [--repeats 5]

Three contestants have the same weights: the harness' HFLM on transformers' Gemma, our scorer on
that same object, and our scorer on our own transformer. They take turns in one process with the
same type and threads; the harness takes --batch items at a time, ours as many as have 4,096 tokens.
A figure is the median of the repeats. --shape NAME instead of --model
takes random weights in a shape of configs/models.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.gemma import as_gemma, gpt2_tokenizer
from yxanul.config.load import load_config
from yxanul.data.benchmarks.read import read_benchmark
from yxanul.data.items import ChoiceItem
from yxanul.data.tokenizer import load_tokenizer
from yxanul.evaluate.answers.likelihood import likelihoods
from yxanul.evaluate.answers.requests import Continuations, WritingRequest
from yxanul.evaluate.answers.writing import write
from yxanul.evaluate.models.huggingface import wrap_pretrained
from yxanul.evaluate.models.language_model import LanguageModel
from yxanul.evaluate.models.loaded import load_model
from yxanul.evaluate.models.ours import as_language_model
from yxanul.evaluate.tasks.asking import Asked
from yxanul.evaluate.tasks.definitions import DEFINITIONS
from yxanul.evaluate.tasks.gold import right_answers
from yxanul.evaluate.tasks.options import TaskOptions
from yxanul.evaluate.tasks.score import ask
from yxanul.hardware.choices import DTYPES
from yxanul.model.transformer import Transformer

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Contest = dict[str, Callable[[], list[Any]]]
"""What each contestant does."""


def main() -> None:
    """Time every contest, and print a line for each."""
    asked = _arguments()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(asked.threads)
    told = [asked.model or asked.shape, f"{asked.items} items", f"batch {asked.batch}"]
    told += [
        f"{asked.threads} threads",
        f"{asked.max_new_tokens} new tokens",
        f"{asked.clock} clock",
    ]
    print(", ".join(map(str, told)), end="\n\n")
    print("| task | type | harness, s | ours on its object, s | | our model, s | | agreement |")
    print("|---|---|---|---|---|---|---|---|")
    model = trained(asked.model) if asked.model else untrained(asked.shape)
    for precision in asked.precision:
        arena = Arena(model, DTYPES[precision], batch=asked.batch)
        for name in asked.contests:
            contest = CONTESTS[name](arena, asked)
            print(_row(name, precision, _timed(contest, asked)), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench_dir", required=True)
    parser.add_argument("--model", type=Path, help="run folder or checkpoint")
    parser.add_argument("--shape", help="a name in configs/models: random weights")
    parser.add_argument("--contests", nargs="+", default=list(CONTESTS), choices=list(CONTESTS))
    parser.add_argument("--items", type=int, default=64, help="of each set")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", nargs="+", default=list(DTYPES), choices=list(DTYPES))
    parser.add_argument("--max_new_tokens", type=int, default=64)
    parser.add_argument(
        "--clock",
        default="wall",
        choices=list(CLOCKS),
        help="cpu counts the work of all threads, where others use the cores too",
    )
    asked = parser.parse_args()
    if (asked.model is None) == (asked.shape is None):
        parser.error("name one of --model and --shape")
    return asked


def trained(place: Path) -> Transformer:
    """Return a run's weights in fp32, on the CPU as all contestants are."""
    return load_model(place, precision="fp32", device=torch.device("cpu")).model


def untrained(name: str) -> Transformer:
    """Return random weights in a shape of configs/models."""
    config = load_config(Path("configs"), model=name).model
    return Transformer.initialised(config, seed=1, attention="plain")


class Arena:
    """The three contestants in one type."""

    def __init__(self, model: Transformer, dtype: torch.dtype, *, batch: int) -> None:
        from lm_eval.models.huggingface import HFLM

        self.batch = batch
        theirs, tokenizer = as_gemma(model).to(dtype), gpt2_tokenizer()
        self.harness = HFLM(pretrained=theirs, tokenizer=tokenizer, batch_size=batch)
        own = Transformer.without_weights(model.config, compute_dtype=dtype, attention="plain")
        own.load_state_dict(model.state_dict(), assign=True)
        self.ours: dict[str, LanguageModel] = {
            "wrapped": wrap_pretrained(theirs, tokenizer, name="transformers"),
            "ours": as_language_model(own, load_tokenizer(), name="ours", opening=()),
        }

    def scoring(self, requests: list[Continuations]) -> Contest:
        """Log-likelihoods of all continuations."""
        flat = [SimpleNamespace(args=(r.context, text)) for r in requests for text in r.texts]

        def score(lm: LanguageModel) -> list[float]:
            return [-one.nats for texts in likelihoods(lm, requests) for one in texts]

        return {
            "harness": lambda: [a for a, _ in self.harness.loglikelihood(flat, disable_tqdm=True)],
            **{name: partial(score, lm) for name, lm in self.ours.items()},
        }

    def writing(self, requests: list[WritingRequest]) -> Contest:
        """Greedy texts."""
        flat = [
            SimpleNamespace(
                args=(r.prompt, {"until": list(r.stop_texts), "max_gen_toks": r.max_new_tokens})
            )
            for r in requests
        ]
        return {
            "harness": lambda: self.harness.generate_until(flat, disable_tqdm=True),
            **{
                name: partial(write, lm, requests, batch=self.batch)
                for name, lm in self.ours.items()
            },
        }


def _items(task: str, asked: argparse.Namespace, *, shots: int) -> Asked:
    benchmark = read_benchmark(task, bench=asked.bench_dir, with_shots=bool(shots), news=print)
    return ask(benchmark, TaskOptions(limit=asked.items, shots=shots))


def _endings(arena: Arena, asked: argparse.Namespace) -> Contest:
    items = _items("hellaswag", asked, shots=0)
    choices = [one.choices for one in items.items if isinstance(one, ChoiceItem)]  # all are
    return arena.scoring([items.after(n, *one) for n, one in enumerate(choices)])


def _answers(arena: Arena, asked: argparse.Namespace) -> Contest:
    return arena.scoring(right_answers(_items("gsm8k", asked, shots=0)))


def _written(task: str) -> Callable[[Arena, argparse.Namespace], Contest]:
    def contest(arena: Arena, asked: argparse.Namespace) -> Contest:
        stops = DEFINITIONS[task].stop_texts
        prompts = _items(task, asked, shots=5).prompts
        return arena.writing([WritingRequest(one, stops, asked.max_new_tokens) for one in prompts])

    return contest


CONTESTS: dict[str, Callable[[Arena, argparse.Namespace], Contest]] = {
    "hellaswag": _endings,
    "gsm8k-answers": _answers,
    "gsm8k": _written("gsm8k"),
    "triviaqa": _written("triviaqa"),
}


def _timed(contest: Contest, asked: argparse.Namespace) -> dict[str, tuple[float, list[Any]]]:
    """Return each contestant's median seconds, and what it found."""
    clock = CLOCKS[asked.clock]
    seconds: dict[str, list[float]] = {name: [] for name in contest}
    # The first turn warms up.
    found: dict[str, list[Any]] = {name: work() for name, work in contest.items()}
    for _ in range(asked.repeats):
        for name, work in contest.items():
            begin = clock()
            work()
            seconds[name].append(clock() - begin)
    return {name: (statistics.median(times), found[name]) for name, times in seconds.items()}


def _row(name: str, precision: str, found: dict[str, tuple[float, list[Any]]]) -> str:
    reference, wanted = found["harness"]
    cells = [name, precision, f"{reference:.2f}"]
    for contestant in ("wrapped", "ours"):
        seconds = found[contestant][0]
        cells += [f"{seconds:.2f}", f"{reference / seconds:.2f}x"]
    agreement = [_agreement(wanted, found[contestant][1]) for contestant in ("wrapped", "ours")]
    return f"| {' | '.join([*cells, ', '.join(agreement)])} |"


def _agreement(wanted: list[Any], found: list[Any]) -> str:
    """Return the largest difference of numbers, or how many texts are the same."""
    pairs = list(zip(wanted, found, strict=True))
    if isinstance(wanted[0], str):
        return f"{sum(a == b for a, b in pairs)} of {len(pairs)} texts"
    return f"{max(abs(a - b) for a, b in pairs):.0e} nats"


if __name__ == "__main__":
    main()
