"""Look through the training text of a prepared folder for the items of benchmarks.

The one idea: the shards are read, not the sources, so what is looked through is what is trained on,
to the last token. A stretch of tokens is a job of its own: many go to several processes. About 1.5
million words a second on one core (EPYC, Zen 4), with 700,000 runs of words to look for.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

from yxanul.data.children import children, most_processes
from yxanul.data.contamination.judge import Judge
from yxanul.data.contamination.stretch import Held, ScannedStretch, Stretch, scan_stretch
from yxanul.data.contamination.wanted import Wanted, wanted_items
from yxanul.data.items import Benchmark
from yxanul.data.prepared.documents import read_documents
from yxanul.data.prepared.manifest import Manifest, load_manifest
from yxanul.runfolder.contamination import (
    Contamination,
    Finding,
    ScannedBenchmark,
    ScannedSource,
    read_contamination,
    write_contamination,
)

RULES = "3"
"""Version of the rules: another one looks at everything again."""
STRETCH_TOKENS = 8_000_000
# Below, starting processes costs more than it saves.
_FEWEST_TOKENS = 32_000_000
# Stretches for which the wanted items are handed to a process once; a stop waits for them.
_MOST_AT_ONCE = 4
SECONDS_BETWEEN_LINES = 5.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Corpus:
    """A prepared folder and the stages of it that count."""

    root: Path
    manifest: Manifest
    stages: tuple[str, ...]

    @property
    def sources(self) -> list[str]:
        """The sources of these stages, in the order of the manifest."""
        return list(self.manifest.sources_of(*self.stages))


def scan(
    root: Path,
    benchmarks: Sequence[Benchmark],
    *,
    stages: Collection[str] | None = None,
    previous: Contamination | None = None,
    processes: int | None = None,
    say: Say = lambda line: None,
) -> Contamination:
    """Return which items of the benchmarks stand in the training text of a prepared folder.

    stages: whose sources are looked through; None = all. What `previous` found in the same text for
    the same items is taken over. processes: None = one for each core, or just this one for less
    than 32M tokens. `say` gets a line every five seconds, and may stop the scan by an error of its
    own.
    Raises `UsageError` without a prepared folder, `CorruptShardError` for damaged files.
    """
    manifest = load_manifest(root)
    corpus = Corpus(root, manifest, tuple(manifest.stages if stages is None else stages))
    wanted = wanted_items(benchmarks)
    now = _benchmarks(benchmarks, wanted)
    known = _still_true(previous, now, corpus=corpus)
    new = [source for source in corpus.sources if source not in known.sources]
    sources, findings = dict(known.sources), list(known.findings)
    if new:
        scanned = _scan_sources(new, wanted, corpus=corpus, processes=processes, say=say)
        for source, (facts, found) in scanned.items():
            sources[source] = facts
            findings += found
    return Contamination(
        RULES,
        benchmarks=known.benchmarks,
        sources={source: sources[source] for source in corpus.sources},
        findings=tuple(sorted(findings, key=lambda one: (one.task, one.item, one.source))),
    )


def scan_once(
    path: Path,
    root: Path,
    *,
    benchmarks: Sequence[Benchmark],
    stages: Collection[str] | None = None,
    say: Say = lambda line: None,
) -> Contamination:
    """Return `scan`, read from `path` as far as it stands there, and written to it.

    Raises what `scan` does, and `CorruptDataError` if the file is damaged.
    """
    previous = read_contamination(path) if path.exists() else None
    found = scan(root, benchmarks, stages=stages, previous=previous, say=say)
    if found != previous:
        write_contamination(path, found)
    return found


def _benchmarks(
    benchmarks: Sequence[Benchmark], wanted: Sequence[Wanted]
) -> dict[str, ScannedBenchmark]:
    too_short = Counter(item.task for item in wanted if item.is_too_short)
    return {
        benchmark.task: ScannedBenchmark(
            benchmark.sha256, len(benchmark.items), too_short[benchmark.task]
        )
        for benchmark in benchmarks
    }


def _still_true(
    previous: Contamination | None, now: dict[str, ScannedBenchmark], *, corpus: Corpus
) -> Contamination:
    """Return what an earlier scan found in the same sources for the very same items."""
    if previous is None or (previous.rules, previous.benchmarks) != (RULES, now):
        return Contamination(RULES, now, {}, ())
    same = {
        name: facts
        for name, facts in previous.sources.items()
        if name in corpus.sources and facts.sha256 == corpus.manifest.source(name).train.sha256
    }
    kept = tuple(finding for finding in previous.findings if finding.source in same)
    return Contamination(RULES, now, same, kept)


def _scan_sources(
    sources: Sequence[str],
    wanted: Sequence[Wanted],
    *,
    corpus: Corpus,
    processes: int | None,
    say: Say,
) -> dict[str, tuple[ScannedSource, list[Finding]]]:
    stretches = [
        Stretch(
            source, begin, min(begin + STRETCH_TOKENS, corpus.manifest.source(source).train.tokens)
        )
        for source in sources
        for begin in range(0, corpus.manifest.source(source).train.tokens, STRETCH_TOKENS)
    ]
    words = dict.fromkeys(sources, 0)
    held: dict[str, list[Held]] = {source: [] for source in sources}
    total, done, told = sum(s.end - s.begin for s in stretches), 0, time.monotonic()
    # A generator that is left by an error of `say` is closed at once, and with it the processes.
    results = _results(stretches, Judge(wanted), corpus=corpus, processes=processes)
    with closing(results):
        for result in results:
            words[result.stretch.source] += result.words
            held[result.stretch.source] += result.held
            done += result.stretch.end - result.stretch.begin
            if time.monotonic() - told > SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                say(f"looked for benchmark items in {done:,} of {total:,} training tokens")
    return {
        source: (
            _facts(corpus, source, words=words[source]),
            list(_findings(held[source], wanted, corpus=corpus, source=source)),
        )
        for source in sources
    }


def _results(
    stretches: Sequence[Stretch], judge: Judge, *, corpus: Corpus, processes: int | None
) -> Generator[ScannedStretch, None, None]:
    """Yield the result of each stretch in order, computed here or in several processes."""
    work = partial(scan_stretch, manifest=corpus.manifest, root=corpus.root, judge=judge)
    if processes is None:
        tokens = sum(stretch.end - stretch.begin for stretch in stretches)
        processes = most_processes() if tokens >= _FEWEST_TOKENS else 1
    if processes == 1:
        yield from map(work, stretches)
        return
    chunk = max(1, min(_MOST_AT_ONCE, len(stretches) // (4 * processes)))
    what = "looked for benchmark items in the training text"
    with children(min(processes, len(stretches)), what) as pool:
        yield from pool.map(work, stretches, chunksize=chunk)


def _facts(corpus: Corpus, source: str, *, words: int) -> ScannedSource:
    train = corpus.manifest.source(source).train
    return ScannedSource(train.sha256, train.tokens, train.documents, words)


def _findings(
    held: Sequence[Held], wanted: Sequence[Wanted], *, corpus: Corpus, source: str
) -> Iterator[Finding]:
    """Yield one finding per item: its first document, and in how many it is."""
    if not held:
        return
    files = corpus.manifest.source(source).train.files
    ends = list(accumulate(file.tokens for file in files))
    documents: dict[int, set[int]] = defaultdict(set)
    first: dict[int, tuple[Held, int, int, str]] = {}
    for one, number, begin, id in _in_documents(held, corpus=corpus, source=source):
        documents[one.item].add(number)
        first.setdefault(one.item, (one, number, begin, id))
    for item, (one, number, begin, id) in first.items():
        yield Finding(
            task=wanted[item].task,
            item=wanted[item].id,
            source=source,
            rule=one.rule,
            masked=one.masked,
            coverage=one.coverage,
            documents=len(documents[item]),
            shard=files[bisect_right(ends, begin)].path,
            document=number,
            document_id=id,
            span=one.span,
        )


def _in_documents(
    held: Iterable[Held], *, corpus: Corpus, source: str
) -> Iterator[tuple[Held, int, int, str]]:
    """Yield (what is held, the document's index, its first token, its id) in stream order."""
    waiting = deque(sorted(held, key=lambda one: (one.position, one.item)))
    listed = read_documents(corpus.manifest, corpus.root, source=source, split="train")
    for number, (begin, document) in enumerate(listed):
        while waiting and waiting[0].position < begin + document.tokens:
            yield waiting.popleft(), number, begin, document.id
