"""The programs that are raced: ours, `datasets.map` with tokenizers, datatrove's pipelines.

Each is a process of its own: `python -m benchmarks.data.contenders NAME CORPUS OUT`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

PROCESSES = 2
RULES: dict[str, Any] = {"fineweb": {}, "gopher_quality": {}, "gopher_repetition": {}}
"""Rule sets of the whole pipeline, all with the thresholds of datatrove."""


def ours(corpus: Path, out: Path, *, encoder: str, **treatment: Any) -> None:
    """Prepare a folder with this program."""
    from yxanul.config.treatment import TreatmentConfig
    from yxanul.data.preparing.build import prepare_sources
    from yxanul.data.preparing.pipeline import Effort, PlannedSource
    from yxanul.data.sources.catalog import open_folder
    from yxanul.data.treating.treatment import Treatment, plain_recipe

    config = TreatmentConfig.model_validate(treatment)
    plan = PlannedSource(
        name="text",
        stage="stage",
        kind="folder",
        validation_fraction=0.01,
        open=partial(open_folder, corpus, name="text", domain="text"),
        recipe=lambda: plain_recipe(Treatment(config, encoder=encoder)),
    )
    prepare_sources(
        [plan],
        out,
        settings={"stage": "0" * 64},
        progress=lambda line: print(line, file=sys.stderr),
        effort=Effort(processes=PROCESSES),
    )


def datasets_map(corpus: Path, out: Path) -> None:
    """Tokenise with `datasets.map` and tokenizers, and write one file, as nanoGPT does."""
    import datasets
    import numpy as np
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(gpt2_file(out)))
    rows = datasets.load_dataset(
        "json",
        data_files=sorted(map(str, corpus.glob("*.jsonl"))),
        split="train",
        cache_dir=str(out / "cache"),
    )

    def encode(batch: dict[str, list[str]]) -> dict[str, list[Any]]:
        ids = [[50256, *one.ids] for one in tokenizer.encode_batch(batch["text"])]
        return {"ids": ids, "len": [len(one) for one in ids]}

    done = rows.map(encode, batched=True, remove_columns=["id", "text"], num_proc=PROCESSES)
    tokens = np.memmap(out / "train.bin", dtype=np.uint16, mode="w+", shape=(sum(done["len"]),))
    place = 0
    for batch in done.with_format("numpy").iter(batch_size=1000):
        ids = np.concatenate(batch["ids"])
        tokens[place : place + len(ids)] = ids
        place += len(ids)
    tokens.flush()


def datatrove_tokens(corpus: Path, out: Path) -> None:
    """Tokenise with datatrove's own step, without its shuffling."""
    _run(corpus, out, name="tokens", steps=[_tokenizer(out)])


def datatrove_whole(corpus: Path, out: Path) -> None:
    """Filter, find near duplicates in four stages, tokenise."""
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.filters import (
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )
    from datatrove.pipeline.writers import JsonlWriter

    config = MinhashConfig()
    kept, signatures, buckets, remove = (
        str(out / name) for name in ("kept", "signatures", "buckets", "remove")
    )
    filters = [FineWebQualityFilter(), GopherQualityFilter(), GopherRepetitionFilter()]
    _run(corpus, out, name="filters", steps=[*filters, JsonlWriter(kept)])
    sign = MinhashDedupSignature(signatures, config=config)
    _run(Path(kept), out, name="signatures", steps=[sign])
    find = MinhashDedupBuckets(signatures, buckets, config=config)
    _run(None, out, name="buckets", steps=[find], tasks=config.num_buckets)
    cluster = MinhashDedupCluster(buckets, remove, config=config)
    _run(None, out, name="cluster", steps=[cluster], tasks=1)
    _run(Path(kept), out, name="tokens", steps=[MinhashDedupFilter(remove), _tokenizer(out)])


def _run(
    source: Path | None, out: Path, *, name: str, steps: list[Any], tasks: int = PROCESSES
) -> None:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader

    reader = [JsonlReader(str(source))] if source is not None else []
    LocalPipelineExecutor(
        pipeline=[*reader, *steps], tasks=tasks, workers=PROCESSES, logging_dir=str(out / name)
    ).run()


def _tokenizer(out: Path) -> Any:
    from datatrove.pipeline.tokens import DocumentTokenizer

    return DocumentTokenizer(
        str(out / "ids"),
        tokenizer_name_or_path=str(gpt2_file(out)),
        shuffle_documents=False,
        eos_token="<|endoftext|>",
    )


def gpt2_file(out: Path) -> Path:
    """Return GPT-2's tokenizer as one file of the library tokenizers."""
    from tokenizers import ByteLevelBPETokenizer

    from yxanul.data.tokenizer import vocabulary_files

    file = out / "gpt2.json"
    if not file.exists():
        found = vocabulary_files()
        tokenizer = ByteLevelBPETokenizer(str(found["encoder.json"]), str(found["vocab.bpe"]))
        tokenizer.add_special_tokens(["<|endoftext|>"])
        tokenizer.save(str(file))
    return file


CONTENDERS: dict[str, Callable[[Path, Path], None]] = {
    "ours, tiktoken": partial(ours, encoder="tiktoken"),
    "ours, tokie": partial(ours, encoder="tokie"),
    "datasets.map": datasets_map,
    "datatrove tokens": datatrove_tokens,
    "ours, whole": partial(ours, encoder="tokie", near_duplicates=0.7, **RULES),
    "datatrove whole": datatrove_whole,
}


if __name__ == "__main__":
    chosen, text, target = sys.argv[1:4]
    CONTENDERS[chosen](Path(text), Path(target))
    print(json.dumps({"done": chosen}))
