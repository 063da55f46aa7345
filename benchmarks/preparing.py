"""How fast text becomes shards, beside other programs: python -m benchmarks.preparing --out DIR.

The same real text for all (benchmarks.data.corpus), two processes each, one after the other. The
whole pipeline (rules of quality, near duplicates, tokens) is raced on a smaller part, since
datatrove's takes minutes for it. Needs the extras yxanul[data], yxanul[hub], and for datatrove's
near duplicates `pip install "datatrove[processing]"`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.data.contenders import CONTENDERS, RULES
from benchmarks.data.corpus import write_corpus
from benchmarks.data.watched import Watched, run_watched
from yxanul.config.treatment import TreatmentConfig
from yxanul.data.benchmarks.read import read_benchmark
from yxanul.data.contamination.wanted import wanted_items
from yxanul.data.prepared.documents import read_documents
from yxanul.data.prepared.manifest import SPLITS, load_manifest
from yxanul.data.prepared.shards import open_stream
from yxanul.data.tokenizer import EOT, load_tokenizer
from yxanul.data.treating.clean import clean
from yxanul.data.treating.treatment import Treater, Treatment

_TOKENS = ("ours, tiktoken", "ours, tokie", "datasets.map", "datatrove tokens")
_WHOLE = ("ours, whole", "datatrove whole")
_STEP_DOCUMENTS = 4000


def main() -> None:
    """Race, measure each step, the memory, and hold every id against tiktoken's."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, required=True, help="An empty folder for all of it.")
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--whole_megabytes", type=int, default=40)
    parser.add_argument("--memory_megabytes", type=int, nargs="*", default=[50, 500])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--bench_dir", type=Path, help="Also time the search for these items.")
    wanted = parser.parse_args()
    wanted.out.mkdir(parents=True, exist_ok=True)
    text = _corpus(wanted.out, wanted.megabytes)
    print("step, one core                        MB/s  documents/s")
    for name, megabytes_per_s, documents_per_s in _steps(text, wanted.bench_dir):
        print(f"{name:34} {megabytes_per_s:7.2f} {documents_per_s:12,.0f}", flush=True)
    _race(_TOKENS, text, out=wanted.out, repeats=wanted.repeats)
    _check_ids(text, wanted.out / "ours, tokie" / "data")
    whole = _corpus(wanted.out, wanted.whole_megabytes)
    _race(_WHOLE, whole, out=wanted.out, repeats=1)
    for megabytes in wanted.memory_megabytes:
        _race(("ours, whole",), _corpus(wanted.out, megabytes), out=wanted.out, repeats=1)


def _corpus(out: Path, megabytes: int) -> Path:
    folder = out / f"corpus-{megabytes}"
    if not folder.exists():
        documents, size = write_corpus(folder, megabytes=megabytes)
        print(f"{folder.name}: {documents:,} documents, {size / 1e6:.1f} MB", flush=True)
    return folder


def _size(corpus: Path) -> tuple[int, int]:
    """Return (documents, bytes of text)."""
    texts = list(_texts(corpus))
    return len(texts), sum(len(text.encode()) for text in texts)


def _texts(corpus: Path) -> Iterator[str]:
    for file in sorted(corpus.glob("*.jsonl")):
        with file.open() as lines:
            for line in lines:
                yield json.loads(line)["text"]


def _steps(corpus: Path, bench_dir: Path | None) -> Iterator[tuple[str, float, float]]:
    """Yield (step, MB/s, documents/s) on this core, each over the same sample."""
    every = list(_texts(corpus))
    texts = every[:: max(1, len(every) // _STEP_DOCUMENTS)]
    size = sum(len(text.encode()) for text in texts) / 1e6
    for name, work in _works(bench_dir):
        work(texts[:200])  # warm
        begin = time.process_time()
        work(texts)
        took = time.process_time() - begin
        yield name, size / took, len(texts) / took


def _works(bench_dir: Path | None) -> Iterator[tuple[str, Callable[[list[str]], object]]]:
    yield "clean", lambda texts: [clean(text) for text in texts]
    for rule in RULES:
        rules = _rules(rule)
        yield rule, rules
    for name, settings in (
        ("near duplicates, with clean, tiktoken", {"near_duplicates": 0.7}),
        ("clean, tiktoken", {}),
    ):
        yield name, Treater(Treatment(TreatmentConfig.model_validate(settings))).treat
    yield "clean, tokie", Treater(Treatment(encoder="tokie")).treat
    if bench_dir is not None:
        tasks = ("hellaswag", "triviaqa", "gsm8k", "humaneval")
        found = [read_benchmark(task, bench=str(bench_dir), news=print) for task in tasks]
        treatment = Treatment(wanted=tuple(wanted_items(found)))
        yield "items of benchmarks, clean, tiktoken", Treater(treatment).treat


def _rules(name: str) -> Callable[[list[str]], object]:
    from yxanul.data.quality.rules import Rules

    rules = Rules(TreatmentConfig.model_validate({name: {}}))
    return lambda texts: [rules.judge(text) for text in texts]


def _race(names: tuple[str, ...], corpus: Path, *, out: Path, repeats: int) -> None:
    documents, size = _size(corpus)
    print(f"\n{corpus.name}: program     seconds     MB/s  documents/s   peak MiB")
    for name in names:
        runs = [_run(name, corpus, out=out / name) for _ in range(repeats)]
        seconds = statistics.median(run.seconds for run in runs)
        peak = max(run.peak_bytes for run in runs) / 2**20
        rates = f"{size / 1e6 / seconds:8.2f} {documents / seconds:12,.0f} {peak:10,.0f}"
        print(f"{name:20} {seconds:11.1f} {rates}", flush=True)


def _run(name: str, corpus: Path, *, out: Path) -> Watched:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    target = out / "data" if name.startswith("ours") else out
    command = [sys.executable, "-m", "benchmarks.data.contenders", name, str(corpus), str(target)]
    return run_watched(command, log=out / "log.txt")


def _check_ids(corpus: Path, root: Path) -> None:
    """Compare every id that was written with tiktoken's; nothing may be lost or doubled."""
    tokenizer, manifest = load_tokenizer(), load_manifest(root)
    kept = {}
    for split in SPLITS:
        stream = open_stream(manifest, root, source="text", split=split)
        for begin, document in read_documents(manifest, root, source="text", split=split):
            kept[document.sha256] = stream.read(begin, document.tokens)
    from hashlib import sha256

    equal, seen = 0, set()
    for text in map(clean, _texts(corpus)):
        digest = sha256(text.encode()).hexdigest()
        if not text or digest in seen:
            continue
        seen.add(digest)
        ids = np.array([EOT, *tokenizer.encode(text)], dtype=np.uint16)
        equal += digest in kept and np.array_equal(ids, kept[digest])
    print(
        f"ids equal to tiktoken's in {equal:,} of {len(seen):,} different documents; "
        f"{len(kept):,} written",
        flush=True,
    )


if __name__ == "__main__":
    assert set(_TOKENS + _WHOLE) == set(CONTENDERS)
    main()
