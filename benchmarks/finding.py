"""How much of what is planted is found, and how much clean text is lost.

Real text (lead paragraphs of Wikipedia, files of the standard library) with planted copies, texts
of a Jaccard similarity of 0.8 over runs of five words, and items of the four benchmarks, word for
word and, for GSM8K, with other numbers. Prepared as a folder, and read back from what was dropped.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.data.corpus import files_below
from yxanul.config.treatment import TreatmentConfig
from yxanul.data.benchmarks.read import read_benchmark
from yxanul.data.contamination.wanted import Wanted, wanted_items
from yxanul.data.items import AnswerItem, ChoiceItem, Item
from yxanul.data.prepared.dropped import read_dropped
from yxanul.data.preparing.build import prepare_sources
from yxanul.data.preparing.pipeline import PlannedSource
from yxanul.data.sources.catalog import open_folder
from yxanul.data.sources.wikipedia import read_documents
from yxanul.data.treating.treatment import Treatment, plain_recipe

TASKS = ("hellaswag", "triviaqa", "gsm8k", "humaneval")
_NUMBER = re.compile(r"\d+")


def main() -> None:
    """Plant, prepare, count."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--bench_dir", type=Path, required=True)
    parser.add_argument("--planted", type=int, default=500, help="Of each kind.")
    parser.add_argument("--similarity", type=float, default=0.8)
    wanted = parser.parse_args()
    draw = random.Random(1)
    clean = _clean_texts()
    benchmarks = [read_benchmark(t, bench=str(wanted.bench_dir), news=print) for t in TASKS]
    targets = wanted_items(benchmarks)
    texts: dict[str, list[str]] = {"clean": clean}
    long = [text for text in clean if len(text.split()) >= 60]
    texts["equal"] = draw.sample(clean, wanted.planted)
    texts["near"] = [
        _changed(text, draw, until=wanted.similarity) for text in draw.sample(long, wanted.planted)
    ]
    by_task = {benchmark.task: benchmark for benchmark in benchmarks}
    carriers = draw.sample(long, 400)
    for task, benchmark in by_task.items():
        usable = _usable(benchmark.items, targets, task=task)
        chosen = draw.sample(usable, min(wanted.planted, len(usable)))
        texts[task] = [_carried(_text(item), draw.choice(carriers), draw) for item in chosen]
    chosen = draw.sample(_usable(by_task["gsm8k"].items, targets, task="gsm8k"), wanted.planted)
    texts["gsm8k, other numbers"] = [
        _carried(_renumbered(_text(item), draw), draw.choice(carriers), draw) for item in chosen
    ]
    _report(texts, targets)


def _clean_texts() -> list[str]:
    import sysconfig

    leads = [one.text for one in read_documents(dropped=Counter())]
    files = (text for _, text in files_below(Path(sysconfig.get_path("stdlib")) / "asyncio"))
    return list(dict.fromkeys([*leads, *files]))


def _changed(text: str, draw: random.Random, *, until: float) -> str:
    """Return a text with so many words replaced that the similarity is just above `until`."""
    words = text.split()
    found = words
    while True:
        trial = list(found)
        trial[draw.randrange(len(trial))] = f"other{draw.randrange(10**6)}"
        if _jaccard(words, trial) < until:
            return " ".join(found)
        found = trial


def _jaccard(one: Sequence[str], other: Sequence[str]) -> float:
    runs = [
        {tuple(re.findall(r"\w+", " ".join(words).lower())[n : n + 5]) for n in range(len(words))}
        for words in (one, other)
    ]
    return len(runs[0] & runs[1]) / len(runs[0] | runs[1])


def _usable(items: Sequence[Item], targets: Sequence[Wanted], *, task: str) -> list[Item]:
    """Return the items that are long enough for the rules to say anything of them."""
    too_short = {one.id for one in targets if one.task == task and one.is_too_short}
    return [item for item in items if item.id not in too_short]


def _text(item: Item) -> str:
    if isinstance(item, ChoiceItem):
        return f"{item.prompt} {item.choices[item.answer]}"
    if isinstance(item, AnswerItem):
        return f"{item.prompt} {item.answer}"
    return f"{item.prompt}{item.solution}"


def _renumbered(text: str, draw: random.Random) -> str:
    return _NUMBER.sub(lambda match: str(int(match[0]) + draw.randint(1, 9)), text)


def _carried(text: str, carrier: str, draw: random.Random) -> str:
    """Return a text in the middle of another one, with a mark that makes it no equal copy."""
    words = carrier.split()
    middle = draw.randrange(len(words))
    return f"{' '.join(words[:middle])}\n\n{text}\n\n{' '.join(words[middle:])} {draw.random()}"


def _report(texts: dict[str, list[str]], targets: Sequence[Wanted]) -> None:
    config = TreatmentConfig(near_duplicates=0.7, decontaminate=TASKS)
    treatment = Treatment(config, wanted=tuple(targets))
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place) / "texts", Path(place) / "out"
        folder.mkdir()
        kinds: dict[str, str] = {}
        with (folder / "all.jsonl").open("w") as lines:
            for kind, found in texts.items():
                for text in found:
                    lines.write(json.dumps({"text": text}) + "\n")
                    kinds[f"text/all.jsonl:{len(kinds) + 1}"] = kind
        plan = PlannedSource(
            name="text",
            stage="stage",
            kind="folder",
            validation_fraction=0.01,
            open=lambda: open_folder(folder, name="text", domain="text"),
            recipe=lambda: plain_recipe(treatment),
        )
        manifest = prepare_sources(
            [plan], out, settings={"stage": "0" * 64}, progress=lambda line: None
        )
        found_by: dict[str, Counter[str]] = {kind: Counter() for kind in texts}
        for document in read_dropped(manifest, out, source="text"):
            found_by[kinds[document.id]][document.drop.rule] += 1
    print(f"{'planted':22} {'texts':>7} {'dropped':>8}    share  by rule")
    for kind, rules in found_by.items():
        total = len(texts[kind])
        told = ", ".join(f"{count} {rule}" for rule, count in rules.most_common())
        dropped = rules.total()
        print(f"{kind:22} {total:7,} {dropped:8,} {dropped / total:8.2%}  {told}")


if __name__ == "__main__":
    main()
