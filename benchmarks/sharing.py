"""What it saves that all ranks score: documents and requests of one model, alone and shared.

    torchrun --standalone --nproc_per_node 2 -m benchmarks.sharing [--repeats 3]

Rank 0 scores alone while the others wait, then with their help, in turns in one run; each rank has
one thread. Random text and weights: the work is that of any.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from yxanul.bench.workload import shape
from yxanul.data.tokenizer import load_tokenizer
from yxanul.evaluate.answers.requests import Continuations, WritingRequest
from yxanul.hardware.device import device_name
from yxanul.hardware.memory import keep_freed_memory
from yxanul.model.transformer import Transformer
from yxanul.parallel.processes import ALONE, joined_processes
from yxanul.train.scoring.answering import Answering

CPU = torch.device("cpu")
_DOCUMENTS, _TOKENS, _REQUESTS, _TEXTS = 16, 512, 128, 32


def main() -> None:
    """Print a row for each kind of work."""
    repeats = _repeats()
    torch.set_num_threads(1)
    keep_freed_memory()
    tokenizer = load_tokenizer()
    model = Transformer.initialised(shape("nano"), seed=1)
    with joined_processes(CPU) as ranks:
        alone, together = (
            Answering(model, tokenizer, processes=processes, device=CPU)
            for processes in (ALONE, ranks)
        )
        seconds: dict[tuple[str, bool], list[float]] = {}
        for _ in range(repeats):
            for kind, work in _works().items():
                if ranks.is_main:
                    seconds.setdefault((kind, False), []).append(_timed(alone, work))
                ranks.barrier()
                with together.opened() as may_ask:
                    if may_ask:
                        seconds.setdefault((kind, True), []).append(_seconds(together, work))
        if ranks.is_main:
            print(f"{device_name(CPU)}, {ranks.world_size} ranks of one thread, nano\n")
            print("| work | alone, s | shared, s | |\n|---|---|---|---|")
            for kind in _works():
                one, all_ = (statistics.median(seconds[kind, shared]) for shared in (False, True))
                print(f"| {kind} | {one:.2f} | {all_:.2f} | {one / all_:.2f}x |")


def _works() -> dict[str, Callable[[Answering], Any]]:
    random = np.random.default_rng(7)
    documents = [
        random.integers(0, 50_000, _TOKENS + 1, dtype=np.uint16) for _ in range(_DOCUMENTS)
    ]
    words = [f"Question {n}: which of these is it, and why is it so?" for n in range(_REQUESTS)]
    endings = (" It is the first one.", " It is the second of them.", " None.", " All of them are.")
    asked = [Continuations(text, endings) for text in words]
    written = [WritingRequest(text, (), 48) for text in words[:_TEXTS]]
    return {
        f"{_DOCUMENTS} documents of {_TOKENS} tokens": lambda a: a.documents(
            documents, seq_len=_TOKENS
        ),
        f"{_REQUESTS} items of 4 endings": lambda a: a.likelihoods(asked, batch_tokens=4096),
        f"{_TEXTS} texts of 48 tokens": lambda a: a.write(written, batch=32),
    }


def _timed(answering: Answering, work: Callable[[Answering], Any]) -> float:
    with answering.opened():
        return _seconds(answering, work)


def _seconds(answering: Answering, work: Callable[[Answering], Any]) -> float:
    begin = time.perf_counter()
    work(answering)
    return time.perf_counter() - begin


def _repeats() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    return int(parser.parse_args().repeats)


if __name__ == "__main__":
    main()
