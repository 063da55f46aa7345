"""Documents from documentation: one for each page that shows code.

The one idea: any folder, git checkout or installed package is a source, and nothing in it is
imported or run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from yxanul.data.document import Document
from yxanul.data.sources.snippets.origin import Origin
from yxanul.data.sources.snippets.pages import LLMS_NAMES, READERS, PageReader, llms_pages
from yxanul.data.sources.snippets.snippet import Page
from yxanul.data.walk import unreadable

LARGEST_BYTES = 8 << 20


def read_documents(origin: Origin, *, name: str, dropped: Counter[str]) -> Iterator[Document]:
    """Yield the pages in the order of the files' names.

    Counted in `dropped`: files that are not UTF-8 or over 8 MiB, pages without code, and blocks
    that are none. Raises CorruptDataError for a file that may not be read.
    """
    for page in read_pages(origin, dropped=dropped):
        url = page.source if page.source.startswith("https://") else None
        # Snippets of one file stay on one side of the held-out split, also in a later version.
        key = f"{name}/{page.source.removeprefix(origin.prefix)}"
        yield Document(page.text(), name, f"{name}/{page.name}", url, split_key=key)


def read_pages(origin: Origin, *, dropped: Counter[str]) -> Iterator[Page]:
    """Yield the pages that show code; of two with one name the second is left out."""
    seen: set[str] = set()
    for file, path in origin.files:
        try:
            if path.stat().st_size > LARGEST_BYTES:
                dropped["file over 8 MiB"] += 1
                continue
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            dropped["file that is not UTF-8"] += 1
            continue
        except OSError as error:
            raise unreadable(path, error) from error
        source = f"{origin.prefix}{file}"
        for page in _reader(file)(file, text, source=source, dropped=dropped):
            if not page.snippets:
                dropped["page without code"] += 1
            elif page.name in seen:
                dropped["defined twice"] += 1
            else:
                seen.add(page.name)
                yield page


def _reader(file: str) -> PageReader:
    name = file.rsplit("/", 1)[-1]
    if name in LLMS_NAMES:
        return llms_pages
    return READERS[name[name.rindex(".") :].lower()]
