"""A data card per stage: what its text is, where it comes from, what was left out, and examples.

The one idea: everything in it is computed from the manifest and the lists beside it, so the card
cannot say anything else than the data. Written once as OUT/cards/<stage>.md with its plots (SVG),
which any viewer of Markdown shows. (Data cards: arXiv 2204.01075.)
"""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from yxanul.data.inspection.explain import Explanation, explain, one_line
from yxanul.data.prepared.documents import read_documents
from yxanul.data.prepared.manifest import SPLITS, Manifest, SourceRecord
from yxanul.data.progress import Pace, unheard
from yxanul.runfolder.durable import write_atomic, writing

CARDS = "cards"
_BAR, _GAP, _LABEL, _WIDTH = 18, 6, 190, 720
_EXAMPLE_CHARACTERS = 240


def write_cards(
    manifest: Manifest, root: Path, *, progress: Callable[[str], None] = unheard
) -> None:
    """Write the cards that are missing or tell of other data.

    The lists of documents are read for it: `progress` gets a line about every two seconds, and may
    raise to stop the work. Raises `CorruptShardError` for files that are not as written,
    `DiskError`.
    """
    folder = root / CARDS
    for stage in manifest.stages:
        mark = f"<!-- {_identity(manifest, stage)} -->"
        card = folder / f"{stage}.md"
        if card.is_file() and card.read_text(encoding="utf-8").startswith(mark):
            continue
        with writing(folder):
            folder.mkdir(exist_ok=True)
        for name, svg in _plots(manifest, root, stage=stage, progress=progress).items():
            write_atomic(folder / f"{stage}-{name}.svg", svg)
        told = _card(manifest, root, stage=stage, progress=progress)
        write_atomic(card, "\n".join([mark, *told]) + "\n")


def _identity(manifest: Manifest, stage: str) -> str:
    own = manifest.sources_of(stage).values()
    return " ".join(
        [manifest.stages[stage].settings_sha256, *(s.split(x).sha256 for s in own for x in SPLITS)]
    )


def _card(
    manifest: Manifest, root: Path, *, stage: str, progress: Callable[[str], None]
) -> Iterator[str]:
    record, sources = manifest.stages[stage], manifest.sources_of(stage)
    yield f"# Data of {stage}\n"
    yield (
        f"Prepared by yxanul {record.code_version} (Python {record.python_version}), settings "
        f"{record.settings_sha256[:12]}, GPT-2 tokens. Every file and its sha256 are in "
        "manifest.json; `yxanul inspect DIR --verify` compares them.\n"
    )
    yield "## Sources\n"
    yield "| source | domain | licence | attribution | version | documents | tokens | held out |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, one in sources.items():
        cells = [name, one.domain, one.licence, one.attribution, one.version]
        counts = [
            f"{one.train.documents:,}",
            f"{one.train.tokens:,}",
            f"{one.validation.documents:,}",
        ]
        yield f"| {' | '.join([*(_cell(cell or 'not stated') for cell in cells), *counts])} |"
    yield f"\n![tokens of each source]({stage}-sources.svg)\n"
    yield f"## Lengths\n\n![documents by their tokens]({stage}-lengths.svg)\n"
    yield f"## Left out\n\n![documents by the rule they broke]({stage}-dropped.svg)\n"
    for found in explain(manifest, root, stage=stage, samples=2, progress=progress):
        yield from _left_out(found, sources[found.source])


def _left_out(one: Explanation, record: SourceRecord) -> Iterator[str]:
    yield f"### {one.source}\n"
    made = ", ".join(f"{name} {version}" for name, version in record.tools.items())
    looked = ", ".join(f"{task} ({sha[:12]})" for task, sha in record.decontaminated.items())
    yield f"Rules by {made or 'none'}; items looked for: {looked or 'none'}.\n"
    yield "| rule | documents | share |\n|---|---|---|"
    total = one.kept + sum(rule.documents for rule in one.rules)
    yield f"| kept | {one.kept:,} | {one.kept / total:.2%} |"
    for rule in one.rules:
        yield f"| {_cell(rule.rule)} | {rule.documents:,} | {rule.documents / total:.2%} |"
    yield "\nExamples, kept:\n"
    for sample in one.kept_samples:
        yield f"- {_cell(sample.id)}: {_cell(sample.text[:_EXAMPLE_CHARACTERS])}"
    if any(rule.samples for rule in one.rules):
        yield "\nExamples, left out:\n"
    for rule in one.rules:
        for sample in rule.samples:
            why = f"{rule.rule}, {sample.why}" if sample.why else rule.rule
            text = sample.text[:_EXAMPLE_CHARACTERS]
            yield f"- {_cell(sample.id)} ({_cell(why)}): {_cell(text)}"
    yield ""


def _cell(text: str) -> str:
    """Return text that cannot break a table or become markup."""
    plain = html.escape(one_line(" ".join(text.split())), quote=False)
    # Also links and pictures: a viewer would fetch what other people's text names.
    return plain.translate({ord(mark): f"&#{ord(mark)};" for mark in "|`[]*\\"})


def _plots(
    manifest: Manifest, root: Path, *, stage: str, progress: Callable[[str], None]
) -> dict[str, str]:
    pace = Pace(progress)
    sources = manifest.sources_of(stage)
    lengths = Counter[int]()
    dropped = Counter[str]()
    for name, record in sources.items():
        dropped.update(record.dropped)
        for split in SPLITS:
            for _, document in read_documents(manifest, root, source=name, split=split):
                power = int(math.log2(document.tokens))
                lengths[power] += 1
                pace.tell(lambda: f"{stage}: {sum(lengths.values()):,} documents counted")
    spans = {f"{2**p:,} to {2 ** (p + 1) - 1:,} tokens": lengths[p] for p in sorted(lengths)}
    kept = sum(s.split(x).documents for s in sources.values() for x in SPLITS)
    return {
        "sources": _bars("tokens", {name: one.train.tokens for name, one in sources.items()}),
        "lengths": _bars("documents", spans),
        "dropped": _bars("documents", {"kept": kept, **dropped}),
    }


def _bars(unit: str, values: Mapping[str, int]) -> str:
    """Return horizontal bars with their numbers, as SVG."""
    largest = max(values.values(), default=0) or 1
    height = len(values) * (_BAR + _GAP) + _GAP
    rows: Sequence[str] = [
        f'<text x="{_LABEL - 8}" y="{y + 13}" text-anchor="end">{html.escape(label)}</text>'
        f'<rect x="{_LABEL}" y="{y}" width="{max(1, 400 * value // largest)}" height="{_BAR}"/>'
        f'<text x="{_LABEL + max(1, 400 * value // largest) + 6}" y="{y + 13}">'
        f"{value:,} {unit}</text>"
        for y, (label, value) in zip(range(_GAP, height, _BAR + _GAP), values.items(), strict=False)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12">'
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>'
        f'<g fill="#2a6f97">{"".join(rows)}</g></svg>\n'
    )
