"""Targets of what is read before training: settings, prepared data, sources, benchmarks."""

import bz2
import gzip
import hashlib
import json
from collections import Counter
from functools import cache
from pathlib import Path

from tests.data.bench_rows import write_bench_folder
from tests.data.memory import prepare_texts, sentences
from tests.fuzz.target import Target, holding, refused, scratch
from tests.train.world import STAGES, write_configs
from yxanul.config.deepspeed import read_deepspeed
from yxanul.config.load import load_config, parse_config
from yxanul.config.schema import OptimizationConfig
from yxanul.data.benchmarks.read import read_benchmark
from yxanul.data.prepared.documents import read_documents as read_index
from yxanul.data.prepared.dropped import read_dropped
from yxanul.data.prepared.manifest import load_manifest, parse_manifest
from yxanul.data.prepared.shards import open_stream
from yxanul.data.prepared.unfinished import load_unfinished
from yxanul.data.prepared.verify import verify
from yxanul.data.prepared.workspace import unfinished
from yxanul.data.sources.folder import FolderReader
from yxanul.data.sources.snippets.origin import open_origin
from yxanul.data.sources.snippets.read import read_documents as read_pages
from yxanul.data.treating.clean import clean
from yxanul.runfolder.durable import seal

SOURCE = "stones"
SHARD, INDEX, DROPPED = "train-00000.bin", "train.documents.jsonl", "dropped.jsonl"
MARKDOWN = b"# Title\n\nA word on it:\n\n```python\nprint(1)\n```\n\n```yaml\na: [1, 2]\n```\n"
RST = b"Title\n=====\n\nSay::\n\n    x = 1\n\n.. code-block:: json\n\n    {}\n\n>>> 1 + 1\n2\n"
PYTHON = b'"""Module.\n\n>>> f(1)\n2\n"""\n\n\ndef f(x):\n    """Add::\n\n        f(1)\n    """\n'
LLMS = b"TITLE: a\nDESCRIPTION: b\nSOURCE: c\nLANGUAGE: python\nCODE:\n```\nprint(1)\n```\n"
NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": ["# Title\n", "Words."]},
        {"cell_type": "code", "source": ["x = 1\n", "x + 1"]},
    ]
}


@cache
def config_folder() -> Path:
    folder = write_configs(scratch("config") / "configs")
    for name in STAGES:  # as `--data DIR` says it; the folder is not looked at
        path = folder / f"{name}.yaml"
        path.write_text(path.read_text().replace("source: hub", "source: texts"))
    return folder


def read_config(content: bytes) -> None:
    """Put the bytes in the place of the file whose keys they seem to hold."""
    name = "optimization" if b"seed" in content or b"compute" in content else STAGES[0]
    path = config_folder() / f"{'model_config' if b'hidden_size' in content else name}.yaml"
    with holding(path, content):
        refused(load_config, config_folder())
    refused(parse_config, content.decode("utf-8", "replace"))
    (scratch("deepspeed") / "ds.json").write_bytes(content)
    refused(read_deepspeed, with_deepspeed(), precision="fp32")


@cache
def with_deepspeed() -> OptimizationConfig:
    given = load_config(config_folder()).optimization
    place = {"deepspeed_config": str(scratch("deepspeed") / "ds.json")}
    return given.model_copy(update={"compute": given.compute.model_copy(update=place)})


def config_seeds() -> list[bytes]:
    names = ("model_config", "optimization", STAGES[0])
    deepspeed = b'{"gradient_clipping": 1.0, "zero_optimization": {"stage": 1}}'
    return [*((config_folder() / f"{name}.yaml").read_bytes() for name in names), deepspeed]


@cache
def prepared_folder() -> Path:
    root = scratch("prepared") / "data"
    prepare_texts(root, stones=[*sentences(12), ""])
    return root


def read_manifest(content: bytes) -> None:
    refused(parse_manifest, _sealed(content), "manifest.json")
    place = scratch("manifest") / "manifest.json"
    place.write_bytes(content)
    refused(load_manifest, place)


def read_prepared(content: bytes) -> None:
    """Put the bytes in the place of each kind of file, as damage and as what the hashes say."""
    root = prepared_folder()
    for name in (SHARD, INDEX, DROPPED):
        path, manifest = root / SOURCE / name, root / "manifest.json"
        with holding(path, content):
            _read_folder(root)
            with holding(manifest, _agreeing(manifest.read_bytes(), name, content=content)):
                _read_folder(root)


def _agreeing(manifest: bytes, name: str, *, content: bytes) -> bytes:
    """Return the manifest for a file of this content, which is no longer damage to it."""
    table = json.loads(manifest)
    side = table["sources"][SOURCE]["train"]
    record = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    if name == SHARD:
        side["files"] = [{**side["files"][0], **record, "tokens": len(content) // 2}]
        side["tokens"] = len(content) // 2
    elif name == INDEX:
        side["index"].update(record)
    else:
        table["sources"][SOURCE]["dropped_list"].update(record)
    return _sealed(json.dumps(table).encode())


def _sealed(content: bytes) -> bytes:
    """Return a manifest that agrees with its own sha256, where there is an object to agree with."""
    try:
        table = json.loads(content)
    except (ValueError, RecursionError):
        return content
    if not isinstance(table, dict) or "sha256" not in table:
        return content
    return json.dumps({**table, "sha256": seal(table)}).encode()


def _read_folder(root: Path) -> None:
    refused(_verified, root)
    refused(_streamed, root)
    refused(lambda: read_index(load_manifest(root), root, source=SOURCE, split="train"))
    refused(lambda: read_dropped(load_manifest(root), root, source=SOURCE))


def _verified(root: Path) -> None:
    verify(load_manifest(root), root)


def _streamed(root: Path) -> None:
    stream = open_stream(load_manifest(root), root, source=SOURCE, split="train")
    stream.read(0, len(stream))


def prepared_seeds() -> list[bytes]:
    return [(prepared_folder() / SOURCE / name).read_bytes() for name in (SHARD, INDEX, DROPPED)]


def read_sets(content: bytes) -> None:
    """Put the bytes in the place of each benchmark's file, and packed where it is packed."""
    folder = scratch("benchmarks")
    files = {
        "hellaswag": ("hellaswag/hellaswag_val_full.txt.bz2", [content, bz2.compress(content)]),
        "humaneval": ("human-eval/HumanEval.jsonl.gz", [content, gzip.compress(content)]),
        "gsm8k": ("gsm8k/test.jsonl", [content]),
        "triviaqa": ("triviaqa/triviaqa_sm_sub.jsonl", [content]),
    }
    for task, (name, contents) in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        for one in contents:
            (folder / name).write_bytes(one)
            refused(_hashed, task, bench=str(folder))


def _hashed(task: str, *, bench: str) -> str:
    return read_benchmark(task, bench=bench, news=lambda line: None).sha256


def set_seeds() -> list[bytes]:
    folder = write_bench_folder(scratch("benchmark seeds") / "bench", items=2)
    packed = sorted(path for path in folder.rglob("*") if path.is_file())
    plain = [gzip.decompress(path.read_bytes()) for path in packed if path.suffix == ".gz"]
    plain += [bz2.decompress(path.read_bytes()) for path in packed if path.suffix == ".bz2"]
    return [*(path.read_bytes() for path in packed), *plain]


def read_snippets(content: bytes) -> None:
    """Read the bytes as each kind of page; the text of every document must be fit to keep."""
    folder = scratch("snippets")
    for name in ("a.md", "b.rst", "c.ipynb", "d.py", "llms.txt"):
        (folder / name).write_bytes(content)
    refused(_cleaned, folder)


def _cleaned(folder: Path) -> None:
    for document in read_pages(open_origin(str(folder)), name="docs", dropped=Counter()):
        clean(document.text).encode()


def snippet_seeds() -> list[bytes]:
    return [MARKDOWN, RST, PYTHON, LLMS, json.dumps(NOTEBOOK).encode()]


def read_folder_texts(content: bytes) -> None:
    for ending in (".jsonl", ".txt", ".parquet", ".jsonl.gz", ".txt.gz"):
        folder = scratch("texts" + ending)
        (folder / f"a{ending}").write_bytes(content)
        reader = FolderReader(folder, name="own", dropped=Counter())
        refused(reader.documents)


def folder_seeds() -> list[bytes]:
    seeds = [b'{"text": "one"}\n\n{"text": "two", "more": 1}\n', "\ufeffWörter\n".encode()]
    seeds.append(gzip.compress(seeds[0], mtime=0))
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return seeds
    path = scratch("parquet seed") / "a.parquet"
    pq.write_table(pa.table({"text": ["one", None, "two"], "n": [1, 2, 3]}), path)
    return [*seeds, path.read_bytes()]


def read_unfinished(content: bytes) -> None:
    """Read the bytes as how far a source came, and as the marker of a killed `prepare`."""
    folder = scratch("unfinished") / SOURCE
    folder.mkdir(exist_ok=True)
    (folder / "unfinished.json").write_bytes(content)
    refused(_taken_up, folder)
    (folder.parent / "preparing.json").write_bytes(content)
    refused(unfinished, folder.parent, held=())


def _taken_up(folder: Path) -> None:
    texts = scratch("marked texts")
    (texts / "a.txt").write_text("one")
    state = load_unfinished(folder)
    assert state is not None
    reader = FolderReader(texts, name=SOURCE, dropped=Counter())
    list(reader.resume(state.mark))


def unfinished_seeds() -> list[bytes]:
    source = json.loads((prepared_folder() / "manifest.json").read_bytes())["sources"][SOURCE]
    train = source["train"]
    side = {key: train[key] for key in ("documents", "tokens", "bytes")}
    side |= {"index_bytes": 9, "signature_bytes": 0, "shards": train["files"]}
    state = {
        "settings": "0" * 64,
        "version": "1",
        "identity": "0" * 64,
        "finished": None,
        "mark": {"file": 0, "row": 0, "dropped": {"empty": 1}},
        "dropped": {},
        "dropped_bytes": 0,
        "sides": {"train": side, "validation": {**side, "tokens": 0, "shards": []}},
    }
    whole = {**state, "finished": source, "sides": {}}
    return [json.dumps(one).encode() for one in (state, whole, [SOURCE, "trees"])]


TARGETS = (
    Target("config", read_config, config_seeds),
    Target("manifest", read_manifest, lambda: [(prepared_folder() / "manifest.json").read_bytes()]),
    Target("prepared", read_prepared, prepared_seeds),
    Target("benchmarks", read_sets, set_seeds),
    Target("snippets", read_snippets, snippet_seeds),
    Target("texts", read_folder_texts, folder_seeds),
    Target("unfinished", read_unfinished, unfinished_seeds),
)
