"""What a single CUDA card can tell of this program, in nine minutes, as one table.

    python -m benchmarks.gpu [--out FOLDER] [--seconds 540] [--sections NAME ...]

Prints Markdown while it measures, and writes it as results of that day and card with --out. The
sections come in their order of worth. A row that would end too late, by what it took last
(benchmarks/results), is not begun and says so.

Left out, unless its section is named, is what another row tells or earlier results have settled:
all blocks compiled as one; the Trainer compiled; FP8 scaled by rows, in the feed-forward layers
alone, and bf16 beside it at the usual width; 24 GB with nothing compiled; joined documents through
other kernels than flash. What is the lengths' row at 2,048 once more is left out too: ours before
the peers, a block's first compilation, micro-batches of 32,768.

Of the peers nanochat trains with Muon and is to be compared with ours under Muon, the others with
AdamW. Trainer with Liger's kernels needs `pip install liger-kernel==0.8.5`, which is in no extra.

Of several cards the first that is visible is measured, and no other is seen: transformers' Trainer
would share its rows among all.

A wrong word, or no card, is one line and exit code 30. Where a row compiled anything after its
first update, none was measured, or the card answers no more, there is one more line, and the code
is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import os
import re
import shlex
import sys
import time
from pathlib import Path
from typing import NoReturn, TextIO

from yxanul.hardware.memory import allocator_settings, settle_allocator

if __name__ == "__main__":  # before torch is loaded, as the program does
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    settle_allocator()

import torch

from benchmarks.card import rates, updates
from benchmarks.card.section import Conditions, History, Report, Section
from benchmarks.keeping import Kept
from yxanul.bench.workload import shape as named_shape
from yxanul.errors import UsageError
from yxanul.hardware.compiler import compile_obstacle

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measure the asked sections in their order of worth."""
    asked = _arguments()
    try:
        sections = card_sections(asked.shape, asked.compile, every=asked.sections is not None)
    except UsageError as error:
        _refuse(str(error).replace("--model", "--shape"))
    known = {section.name: section for section in sections}
    unknown = [name for name in asked.sections or () if name not in known]
    if unknown:
        _refuse(f"--sections {unknown[0]}: choose from {', '.join(known)}")
    if not torch.cuda.is_available():
        _refuse("not measured: this machine has no CUDA card")
    obstacle = compile_obstacle(torch.device("cuda", 0))
    if asked.compile != "off" and obstacle is not None:
        _refuse(f"--compile {asked.compile}: {obstacle}; or take --compile off")
    torch.set_float32_matmul_precision("high")
    history = History(RESULTS, Conditions(asked.shape, asked.compile))
    report = Report(time.monotonic() + asked.seconds, history)
    card = re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-")
    kept = None if asked.out is None else Kept(asked.out, card)
    text = io.StringIO()
    with contextlib.redirect_stdout(_Both(sys.stdout, text)):
        print(_head(asked.shape))
        if kept is not None:  # whoever ends it early has the rows before
            report.keep = lambda: kept.write(text.getvalue(), report.sections)
        for name in asked.sections or known:
            if report.gone is None:
                report.measure(known[name])
    if faults := report.faults():
        print(*faults, sep="\n", file=sys.stderr)
        sys.exit(1)


def _refuse(reason: str) -> NoReturn:
    print(reason, file=sys.stderr)
    sys.exit(UsageError.exit_code)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for results")
    parser.add_argument(
        "--seconds", type=float, default=540, help="begin no row that would end later"
    )
    parser.add_argument("--shape", default="flagship", help="a name in configs/models")
    parser.add_argument("--compile", default="block", choices=("off", "block", "model"))
    parser.add_argument("--sections", nargs="+", help="with every row of theirs")
    return parser.parse_args()


def card_sections(name: str = "flagship", how: str = "block", *, every: bool) -> list[Section]:
    """Return all sections in their order of worth; `every` row of them or no row twice."""
    shape, device = named_shape(name), torch.device("cuda", 0)
    asked = [
        (
            "lengths",
            "How fast is an update at each sequence length?",
            lambda: updates.lengths(shape, device, how),
        ),
        (
            "compile",
            "What does torch.compile bring, and what does it cost at the start?",
            lambda: updates.compilations(shape, device, how, every=every),
        ),
        (
            "peers",
            "How fast do others train this shape on this card: nanochat with Muon, the rest with "
            "AdamW?",
            lambda: updates.peers(shape, device, how, every=every),
        ),
        # After the peers: some of their kernels never ran on a card, and a dead one ends all.
        (
            "attention",
            "Which kernel is fastest, forward and backward, at this head size?",
            lambda: rates.attention_kernels(shape, device),
        ),
        (
            "documents",
            "What does it cost to keep the documents of a row apart?",
            lambda: updates.documents(shape, device, how, every=every),
        ),
        (
            "products",
            "What rate do bf16 matrix products reach?",
            lambda: rates.products(shape, device),
        ),
        ("copies", "What bandwidth has the card?", lambda: rates.copies(device)),
        ("loss", "How many tokens' logits at a time?", lambda: rates.losses(shape, device)),
        (
            "24 GB",
            "Does the flagship train at 4,096 tokens on a card of 24 GB?",
            lambda: updates.small_card(shape, device, every=every),
        ),
        (
            "fp8",
            "Are 8-bit products worth their rounding at this width, and at twice the width?",
            lambda: updates.eight_bit(shape, device, every=every),
        ),
        (
            "micro-batches",
            "How many tokens in a forward pass, and is their memory as predicted?",
            lambda: updates.micro_batches(shape, device, how, every=every),
        ),
    ]
    return [Section(*each) for each in asked]


def _head(shape: str) -> str:
    properties = torch.cuda.get_device_properties(0)
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    command = shlex.join(["python", "-m", "benchmarks.gpu", *sys.argv[1:]])
    return (
        f"# {properties.name}, {datetime.date.today().isoformat()}\n\n"
        f"{properties.total_memory / 2**30:.0f} GiB, torch {torch.__version__}, CUDA "
        f"{torch.version.cuda}, cuDNN {cudnn}, "
        f"{'='.join(allocator_settings() or ())}; shape {shape}. "
        f"`{command}`; updates of {updates.STEP_TOKENS:,} random tokens; medians."
    )


class _Both(io.TextIOBase):
    """Writes to the screen and keeps a copy."""

    def __init__(self, screen: TextIO, copy: io.StringIO) -> None:
        self._screen, self._copy = screen, copy

    def write(self, text: str) -> int:
        self._copy.write(text)
        return self._screen.write(text)

    def flush(self) -> None:
        self._screen.flush()


if __name__ == "__main__":
    main()
