"""Word problems from templates of gsm_symbolic that no training document comes from.

The one idea: problems of one template are variants of one problem, so what is held out are
templates, and a template is the cluster. The embedded split holds out two of the 85 that
reasoning-gym draws from; that is few. The package carries 15 more templates that it never draws
from; six of them are sound and are added. Every run gets the same problems, whatever its seed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from yxanul.data.items import AnswerItem, Benchmark
from yxanul.data.prepared.documents import read_documents
from yxanul.data.prepared.manifest import Manifest
from yxanul.data.sources.mathematics import (
    GSM_NAME,
    LICENCE,
    PACKAGE,
    gsm_template,
    sound_gsm_trace,
)
from yxanul.data.sources.packages import package_version
from yxanul.data.sources.traces.trace import Trace, open_family

TASK = "gsm_symbolic"
ITEMS = 128
# Of the 15 templates that reasoning-gym 0.1.25 leaves out (gsm_symbolic.py, tasks_ok), those whose
# solutions were right in 300 of 300 problems. The other nine round down (73 * 0.75 = 54).
UNDRAWN = (32, 63, 65, 74, 79, 87)
# More draws than any template needs: of template 66, the worst, one problem in eight is sound.
_MOST_DRAWS = 1000
_SEED = 1_000_000
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def gsm_symbolic(manifest: Manifest | None, root: Path) -> Benchmark:
    """Return about 128 problems of templates that the prepared folder does not train on.

    Without a manifest, or with one that has no gsm_symbolic, all templates count as held out. The
    problems of a template are the same whichever others are there. Raises `MissingExtraError`
    without reasoning-gym, `CorruptShardError` for a damaged folder.
    """
    dataset = open_family(GSM_NAME, seed=0, size=5000, settings={})
    drawn = set(dataset.task_indices)
    trained = _trained_templates(manifest, root)
    held_out = [
        template
        for template in sorted(drawn.union(UNDRAWN))
        if gsm_template(template) not in trained
    ]
    each = -(-ITEMS // max(1, len(held_out)))
    problems = [list(islice(_problems(dataset, template), each)) for template in held_out]
    # In turn over the templates, so that a part of the items has them all.
    items = [item for row in zip(*problems, strict=True) for item in row]
    return Benchmark(TASK, tuple(items), shots=(), origin=package_version(PACKAGE, licence=LICENCE))


def last_number(text: str) -> str | None:
    """Return the last number in a written answer without its commas, None if there is none.

    That is how lm-evaluation-harness judges GSM8K flexibly.
    """
    found = _NUMBER.findall(text)
    return found[-1].replace(",", "") if found else None


def _trained_templates(manifest: Manifest | None, root: Path) -> set[str]:
    if manifest is None or GSM_NAME not in manifest.sources:
        return set()
    documents = read_documents(manifest, root, source=GSM_NAME, split="train")
    return {document.id.rpartition("/")[0] for _, document in documents}


def _problems(dataset: Any, template: int) -> Iterator[AnswerItem]:
    """Yield the sound problems of a template, different ones."""
    seen: set[str] = set()
    cluster = gsm_template(template)
    for number in range(_MOST_DRAWS):
        drawn = dataset.generators[template](Random(_SEED + number), 1.0)
        trace = sound_gsm_trace(drawn, dataset=dataset)
        if isinstance(trace, Trace) and trace.question not in seen:
            seen.add(trace.question)
            # A training document's text, cut where the answer begins.
            question, mark, answer = trace.text().partition("\n\nReasoning:\n")
            yield AnswerItem(
                f"{cluster}/{number}", question + mark, answer, (trace.answer,), cluster
            )
