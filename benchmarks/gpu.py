"""Everything that a single CUDA card can tell of this program, in minutes, as one table.

    python -m benchmarks.gpu [--out FOLDER] [--seconds 540] [--sections NAME ...]

Prints Markdown while it measures, and writes it as results of that day and card with --out. Rows
that no time was left for say so. Without a card there is one line and exit code 30; where a row
compiled anything after its first update there is one more, and the code is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import json
import re
import sys
import time
from pathlib import Path

import torch

from benchmarks.card import rates, updates
from benchmarks.card.section import Report, Section
from yxanul.bench.workload import shape as named_shape


def main() -> None:
    """Measure the asked sections in their order of worth."""
    asked = _arguments()
    if not torch.cuda.is_available():
        print("not measured: this machine has no CUDA card", file=sys.stderr)
        sys.exit(30)
    torch.set_float32_matmul_precision("high")
    known = {section.name: section for section in _sections(asked.shape, asked.compile)}
    unknown = [name for name in asked.sections or () if name not in known]
    if unknown:
        print(f"--sections {unknown[0]}: choose from {', '.join(known)}", file=sys.stderr)
        sys.exit(30)
    report = Report(deadline=time.monotonic() + asked.seconds)
    text = io.StringIO()
    with contextlib.redirect_stdout(_Both(sys.stdout, text)):
        print(_head(asked.shape))
        for name in asked.sections or known:
            report.measure(known[name])
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        card = re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-")
        base = asked.out / f"{datetime.date.today().isoformat()}-{card}"
        base.with_suffix(".md").write_text(text.getvalue(), encoding="utf-8")
        base.with_suffix(".json").write_text(
            json.dumps(report.sections, indent=1) + "\n", encoding="utf-8"
        )
    if again := report.recompiled():
        print(
            f"torch.compile made graphs after the first update in {', '.join(again)}, though all "
            "shapes were the same",
            file=sys.stderr,
        )
        sys.exit(1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for results")
    parser.add_argument("--seconds", type=float, default=540, help="begin no row after so many")
    parser.add_argument("--shape", default="flagship", help="a name in configs/models")
    parser.add_argument("--compile", default="block", choices=("off", "block", "model"))
    parser.add_argument("--sections", nargs="+", help="default: all")
    return parser.parse_args()


def _sections(name: str, how: str) -> list[Section]:
    shape, device = named_shape(name), torch.device("cuda", 0)
    return [
        Section(
            "products",
            "What rate do bf16 matrix products reach?",
            lambda: rates.products(shape, device),
        ),
        Section("copies", "What bandwidth has the card?", lambda: rates.copies(device)),
        Section(
            "attention",
            "Which kernel is fastest, forward and backward, at this head size?",
            lambda: rates.attention_kernels(shape, device),
        ),
        Section(
            "compile",
            "What does torch.compile bring, and what does it cost at the start?",
            lambda: updates.compilations(shape, device),
        ),
        Section(
            "lengths",
            "How fast is an update at each sequence length?",
            lambda: updates.lengths(shape, device, how),
        ),
        Section(
            "documents",
            "What does it cost to keep the documents of a row apart?",
            lambda: updates.documents(shape, device, how),
        ),
        Section(
            "peers",
            "How fast do others train this shape on this card?",
            lambda: updates.peers(shape, device, how),
        ),
        Section(
            "fp8",
            "Are 8-bit products worth their rounding at this width, and at twice the width?",
            lambda: updates.eight_bit(shape, device),
        ),
        Section(
            "loss",
            "How many tokens' logits at a time?",
            lambda: rates.losses(shape, device),
        ),
        Section(
            "micro-batches",
            "How many tokens in a forward pass, and is their memory as predicted?",
            lambda: updates.micro_batches(shape, device, how),
        ),
        Section(
            "24 GB",
            "Does the flagship train at 4,096 tokens on a card of 24 GB?",
            lambda: updates.small_card(shape, device),
        ),
        Section(
            "optimizers",
            "What does an update cost with each optimizer?",
            lambda: updates.optimizers(shape, device, how),
        ),
    ]


def _head(shape: str) -> str:
    properties = torch.cuda.get_device_properties(0)
    return (
        f"# {properties.name}, {datetime.date.today().isoformat()}\n\n"
        f"{properties.total_memory / 2**30:.0f} GiB, torch {torch.__version__}, CUDA "
        f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}; shape {shape}. "
        f"`python -m benchmarks.gpu`; updates of {updates.STEP_TOKENS:,} random tokens; medians."
    )


class _Both(io.TextIOBase):
    """Writes to the screen and keeps a copy."""

    def __init__(self, screen: io.TextIOBase, copy: io.StringIO) -> None:
        self._screen, self._copy = screen, copy

    def write(self, text: str) -> int:
        self._copy.write(text)
        return self._screen.write(text)

    def flush(self) -> None:
        self._screen.flush()


if __name__ == "__main__":
    main()
