"""Which files of a user's folder are read, which are papers beside the data, and which stop it.

The one idea: text that would be left out without a word is an error. A file that looks like data
and cannot be read is refused by name; a README or LICENSE beside data files is no text to train on.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yxanul.data.walk import is_file, walk_files
from yxanul.errors import UsageError

TEXT_ENDINGS = (".txt", ".md")
ROW_ENDINGS = (".jsonl", ".parquet")
GZIP = ".gz"
_PLAIN = (*ROW_ENDINGS, *TEXT_ENDINGS)
ENDINGS = (*_PLAIN, *(ending + GZIP for ending in _PLAIN if ending != ".parquet"))
# What holds texts for other programs, packed or not; pictures and programs are no such thing.
_UNREADABLE = re.compile(
    r"\.(7z|arrow|avro|br|bz2|csv|db|docx|epub|feather|gz|json|jsonlines|lz4|ndjson|npy|npz|orc|pdf"
    r"|pickle|pkl|rar|snappy|sqlite|tar|tgz|tsv|warc|xlsx|xml|xz|zip|zst|zstd)"
)
# What the hub and its library write beside a data set.
_PAPER = re.compile(r"(readme|licen[sc]e|copying|notice|citation|changelog)([^a-z].*)?")
_NO_DATA = ("dataset_infos.json", "dataset_dict.json", "dataset_info.json", "state.json")

PART_FILE = re.compile(r"\d{5,}\.(ids\.bin|signatures\.bin|done\.json)")
"""What a task of a cluster leaves and no folder of texts has: its .texts.jsonl looks like one."""


@dataclass(frozen=True, slots=True)
class Found:
    """The files to read, sorted by name, and how many papers and other files lie beside them."""

    files: list[Path]
    papers: int
    others: int


def find_files(path: Path) -> Found:
    """Return the readable files below `path`, sorted by name.

    Beside JSON lines or Parquet a README, a LICENSE and the like are no text. Raises UsageError
    when the path does not exist or holds no file to read, for files that look like data and
    cannot be read, for what the tasks of a cluster wrote, and for a link to what is not there;
    CorruptDataError for a folder that may not be read. Names that start with a dot are skipped.
    """
    if not path.exists():
        raise UsageError(f"The data folder {path} does not exist: give --data an existing folder.")
    below = (file for file in walk_files(path, skips=_is_hidden) if not _is_hidden(file.name))
    named = sorted((file.relative_to(path).as_posix(), file) for file in below if is_file(file))
    _refuse_parts(path, [file for _, file in named])
    _refuse_unreadable(path, [file for _, file in named])
    files = [file for _, file in named if ending_of(file)]
    has_rows = any(ending_of(file).removesuffix(GZIP) in ROW_ENDINGS for file in files)
    texts = [file for file in files if not (has_rows and _is_paper(file))]
    if not texts:
        raise UsageError(
            f"There is no file to read in {path}: --data takes a folder with files that end in "
            f"{', '.join(ENDINGS)}."
        )
    papers = sum(_is_named_paper(file) for _, file in named) - sum(map(_is_named_paper, texts))
    return Found(texts, papers, len(named) - len(texts) - papers)


def ending_of(file: Path) -> str:
    """Return which of `ENDINGS` a file has, "" for another."""
    name = file.name.lower()
    return next((ending for ending in ENDINGS if name.endswith(ending)), "")


def readable_name(path: Path) -> str:
    """Return a path as text, with slashes; bytes of a name that are not UTF-8 become escapes."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def _refuse_parts(path: Path, files: Sequence[Path]) -> None:
    begun = next((file for file in files if PART_FILE.fullmatch(file.name)), None)
    if begun is not None:
        raise UsageError(
            f"{path} holds what the tasks of a cluster write ({begun.relative_to(path)}), "
            f"which has only the beginnings of texts to read: give --data {begun.parent} to join "
            "it, or move it away."
        )


def _refuse_unreadable(path: Path, files: Sequence[Path]) -> None:
    others = Counter(
        "".join(file.suffixes[-2:]).lower() if file.suffix.lower() == GZIP else file.suffix.lower()
        for file in files
        if not ending_of(file)
        and _UNREADABLE.fullmatch(file.suffix.lower())
        and file.name not in _NO_DATA
    )
    if others:
        told = ", ".join(f"{count:,} of {ending}" for ending, count in sorted(others.items()))
        raise UsageError(
            f"{path} holds files that look like data and cannot be read ({told}), and they would "
            f"be left out: unpack or convert them to one of {', '.join(ENDINGS)}, or move them "
            "away."
        )


def _is_paper(file: Path) -> bool:
    is_text = ending_of(file).removesuffix(GZIP) in TEXT_ENDINGS
    return is_text and _is_named_paper(file)


def _is_named_paper(file: Path) -> bool:
    return _PAPER.fullmatch(file.name.lower()) is not None or file.name in _NO_DATA


def _is_hidden(name: str) -> bool:
    return name.startswith(".")
