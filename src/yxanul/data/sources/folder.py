"""Documents from a folder of the user's own: JSON lines, Parquet, plain text.

Files are read in the order of their names, so the same folder gives the same documents. A line that
cannot be read is an error that names file and line: what to do with it is the user's choice.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from yxanul.data.document import Document
from yxanul.data.lines import parse_line
from yxanul.errors import CorruptDataError, MissingExtraError, UsageError

TEXT_ENDINGS = (".txt", ".md")
ENDINGS = (".jsonl", ".parquet", *TEXT_ENDINGS)


def folder_files(path: Path) -> list[Path]:
    """Return the readable files at or below `path`, sorted by name.

    Raises UsageError when the path does not exist or holds none. Names that start with a dot are
    skipped.
    """
    if not path.exists():
        raise UsageError(f"The data folder {path} does not exist: give --data an existing folder.")
    if path.is_file():
        found = [path] if path.suffix.lower() in ENDINGS else []
    else:
        below = ((file.relative_to(path), file) for file in path.rglob("*"))
        named = sorted((name.as_posix(), file) for name, file in below if not _hidden(name))
        found = [file for _, file in named if file.is_file() and file.suffix.lower() in ENDINGS]
    if not found:
        raise UsageError(
            f"There is no file to read in {path}: --data takes a folder with files that end in "
            f"{', '.join(ENDINGS)}."
        )
    return found


def folder_version(path: Path) -> str:
    """Return the number of files, their bytes and a hash of names and contents."""
    digest, size = hashlib.sha256(), 0
    files = folder_files(path)
    for file in files:
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
                size += len(block)
    return f"{len(files)} files, {size} bytes, sha256 {digest.hexdigest()[:16]}"


def read_documents(
    path: Path, *, name: str, column: str, dropped: dict[str, int]
) -> Iterator[Document]:
    """Yield the documents below `path`; `column` holds the text in JSON lines and Parquet.

    Ids are the file's name and the line (JSON lines) or row (Parquet), both counted from 1.
    Raises CorruptDataError for bytes that cannot be read, UsageError for a missing column.
    Dropped: empty texts.
    """
    for file in folder_files(path):
        relative = file.relative_to(path).as_posix() if path.is_dir() else file.name
        suffix = file.suffix.lower()
        if suffix == ".jsonl":
            rows = _read_json_lines(file, column)
        elif suffix == ".parquet":
            rows = _read_parquet(file, column)
        else:
            rows = _read_text(file)
        for number, text in rows:
            if not text.strip():
                dropped["empty"] = dropped.get("empty", 0) + 1
                continue
            place = f":{number}" if number else ""
            yield Document(text=text, source=name, id=f"{name}/{relative}{place}")


def _read_json_lines(path: Path, column: str) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            row = parse_line(line, f"{path}, line {number}")
            if not isinstance(row, dict) or not isinstance(row.get(column), str):
                raise UsageError(
                    f"{path}, line {number} has no text in column {column!r}"
                    f"{_columns(row)}: every line must be an object with the text in that column."
                )
            yield number, row[column]


def _read_parquet(path: Path, column: str) -> Iterator[tuple[int, str]]:
    try:
        import pyarrow as pa  # an optional extra, needed for this kind of file only
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError(
            f"Reading {path} needs the package pyarrow, which is not installed: pip install "
            f'"yxanul[hub]".'
        ) from error
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if column not in names:
                raise UsageError(
                    f"{path} has no column {column!r}, only {', '.join(names)}: name the column "
                    f"with the text."
                )
            batches = file.iter_batches(batch_size=1024, columns=[column])
            values = (value for batch in batches for value in batch.column(0).to_pylist())
            for number, value in enumerate(values, start=1):
                yield number, _cell(value, f"{path}, row {number}")
    except (pa.ArrowException, OSError) as error:
        raise CorruptDataError(
            f"{path} cannot be read as Parquet ({str(error).splitlines()[0]}): replace or remove "
            f"the file."
        ) from error


def _cell(value: object, place: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UsageError(f"{place}: the column does not hold text but {type(value).__name__}.")
    return value


def _read_text(path: Path) -> Iterator[tuple[int, str]]:
    raw = path.read_bytes()
    try:
        yield 0, raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise CorruptDataError(
            f"{path}, line {line} is not UTF-8: convert the file to UTF-8 or remove it."
        ) from error


def _columns(row: object) -> str:
    return f" (it has {', '.join(map(str, row))})" if isinstance(row, dict) and row else ""


def _hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)
