"""Documentation becomes snippets whose code parses, with the words that lead to it."""

import ast
import hashlib
import json
import os
import subprocess
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from tests.data.memory import source, stage
from tests.needs import ANY_NAME
from yxanul.config.schema import SourceConfig
from yxanul.data import progress
from yxanul.data.document import Document
from yxanul.data.preparing.prepare import prepare
from yxanul.data.sources.catalog import open_source
from yxanul.data.sources.snippets.blocks import markdown_blocks, rst_blocks, snippets_of
from yxanul.data.sources.snippets.language import checked, normal_language
from yxanul.data.sources.snippets.origin import open_origin
from yxanul.data.sources.snippets.pages import llms_pages, notebook_pages, python_pages
from yxanul.data.sources.snippets.read import LARGEST_BYTES, read_documents, read_pages
from yxanul.data.sources.snippets.snippet import Page, Snippet
from yxanul.errors import StoppedOnRequest, UsageError

MARKDOWN = """
# Stones

Count what lies there:

```python
count = sum(1 for stone in field)
```

Then this is wrong:

```python
def broken(:
```

```json
{"stones": 3}
```

```text
just words
```

~~~{code-block} pycon
>>> 1 + 1
2
~~~
"""

RST = """
Stones
======

A stone is :class:`~field.Stone`, made like this::

    stone = Stone("grey")

.. code-block:: python
   :linenos:

   stone.roll()

It says

>>> stone.colour
'grey'

.. note:: nothing to see

.. code-block:: console

   $ roll stone
"""

MODULE = '''
"""Rolls stones.

>>> roll(1)
2
"""

def roll(stone):
    """Roll a stone.

    Example:

    >>> roll(3)
    4
    """

def _hidden():
    """>>> 1"""

class Stone:
    """A stone."""

    def throw(self):
        """Throw it::

            Stone().throw()

        Far.
        """
'''


def test_markdown_gives_code_under_its_heading_and_paragraph() -> None:
    dropped = Counter[str]()
    found = snippets_of(markdown_blocks(MARKDOWN), title="file", dropped=dropped)
    assert found[0] == Snippet(
        "Stones", "Count what lies there:", "python", "count = sum(1 for stone in field)"
    )
    assert [one.language for one in found] == ["python", "json", "python"]
    assert found[2].code == "1 + 1\n# 2"
    assert dropped == {"python that does not parse": 1, "no code": 1}


def test_restructured_text_of_sphinx_gives_its_blocks() -> None:
    found = snippets_of(rst_blocks(RST), title="file", dropped=Counter())
    assert [one.code for one in found] == [
        'stone = Stone("grey")',
        "stone.roll()",
        "stone.colour\n# 'grey'",
        "$ roll stone",
    ]
    assert found[0].title == "Stones"
    assert found[0].description == "A stone is field.Stone, made like this:"
    assert [one.language for one in found] == ["python", "python", "python", "bash"]


def test_a_module_gives_a_page_for_each_public_name_that_shows_code() -> None:
    pages = [
        page
        for page in python_pages("field/stones.py", MODULE, source="s", dropped=Counter())
        if page.snippets
    ]
    assert [page.name for page in pages] == [
        "field.stones",
        "field.stones.roll",
        "field.stones.Stone.throw",
    ]
    assert pages[1].snippets == [
        Snippet("field.stones.roll", "Roll a stone.", "python", "roll(3)\n# 4")
    ]


def test_a_notebook_gives_its_cells_but_not_magics() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Plot\n", "\n", "Draw it:"]},
        {"cell_type": "code", "source": ["draw(", "1)"]},
        {"cell_type": "code", "source": "%matplotlib inline\nx = 1"},
    ]
    text, dropped = json.dumps({"cells": cells}), Counter[str]()
    (page,) = notebook_pages("a.ipynb", text, source="s", dropped=dropped)
    assert page.snippets == [Snippet("Plot", "Draw it:", "python", "draw(1)")]
    assert dropped == {"python that does not parse": 1}
    assert list(notebook_pages("a.ipynb", "{", source="s", dropped=dropped)) == []
    assert dropped["damaged notebook"] == 1


def test_llms_txt_in_the_form_of_fields_and_as_markdown() -> None:
    text = (
        "TITLE: Roll\nDESCRIPTION: Rolls a\nstone.\nSOURCE: https://x\n\nLANGUAGE: Python\nCODE:\n"
        "```\nroll()\n```\n\n----------------------------------------\n\n"
        "TITLE: Bad\nDESCRIPTION: d\n\nLANGUAGE: python\nCODE:\n```\nroll(\n```\n"
    )
    dropped = Counter[str]()
    (page,) = llms_pages("llms.txt", text, source="s", dropped=dropped)
    assert page.snippets == [Snippet("Roll", "Rolls a stone.", "python", "roll()")]
    assert dropped == {"python that does not parse": 1}
    (page,) = llms_pages("llms.txt", MARKDOWN, source="s", dropped=Counter())
    assert len(page.snippets) == 3


@pytest.mark.parametrize(
    ("label", "code", "language"),
    [
        ("py", "x = 1", "python"),
        ("pycon", ">>> x", "python"),
        ("", "x = f(1)", "python"),
        ("", "some words", None),
        ("", "word", None),
        ("text", "x = 1", None),
        ("Bash", "ls", "bash"),
        ('python title="x"', "x = 1", "python"),
    ],
)
def test_the_language_of_a_block(label: str, code: str, language: str | None) -> None:
    assert normal_language(label, code) == language


@pytest.mark.parametrize(
    ("code", "language"),
    [
        ("def f(:", "python"),
        ("{", "json"),
        ("a: [", "yaml"),
        (">>> f(\n1", "python"),
        ("\0", "python"),
    ],
)
def test_code_that_does_not_parse_is_none(code: str, language: str) -> None:
    assert checked(code, language) is None


def test_a_page_says_title_description_source_and_language_once() -> None:
    one, two = Snippet("T", "D", "python", "x"), Snippet("T", "D", "json", "{}")
    assert Page("n", "where", [one, two]).text() == (
        "Source: where\n\n# T\n\nD\n\n```python\nx\n```\n\n```json\n{}\n```\n"
    )


def test_a_git_checkout_names_its_commit_and_the_address_of_each_page(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text(MARKDOWN)
    (tmp_path / "docs" / "b.md").write_bytes(b"\xff\xfe")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "c.md").write_text(MARKDOWN)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (
        ["init", "-q"],
        ["remote", "add", "origin", "https://me:secret@example.org/stones.git"],
        ["add", "."],
        ["commit", "-q", "-m", "first"],
    ):
        subprocess.run([*git, *command], check=True)
    told = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    commit = told.stdout.strip()
    origin = open_origin(str(tmp_path))
    assert origin.version.startswith(f"https://example.org/stones.git@{commit}, 2 files, sha256 ")
    (tmp_path / "docs" / "b.md").write_bytes(b"\xff\xff")
    assert open_origin(str(tmp_path)).version != origin.version, "a change that is not committed"
    dropped = Counter[str]()
    (document,) = read_documents(origin, name="stones", dropped=dropped)
    assert document.url == f"https://example.org/stones/blob/{commit}/docs/a.md"
    assert dropped["file that is not UTF-8"] == 1
    (tmp_path / "docs" / "big.md").write_text("x" * (LARGEST_BYTES + 1))
    list(read_documents(open_origin(str(tmp_path)), name="stones", dropped=dropped))
    assert dropped["file over 8 MiB"] == 1


def test_hashing_documentation_holds_no_file_whole_tells_how_far_it_is_and_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, megabyte = tmp_path / "b.md", 1 << 20
    (tmp_path / "a.md").write_text(MARKDOWN)
    with large.open("wb") as file:
        file.truncate(32 * megabyte)
    whole = b"".join(
        f"{page.name}\0{page.stat().st_size}\0".encode() + page.read_bytes()
        for page in (tmp_path / "a.md", large)
    )
    digest = hashlib.sha256(whole).hexdigest()[:16]
    del whole
    tracemalloc.start()
    try:
        origin = open_origin(str(tmp_path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert origin.version == f"2 files, sha256 {digest}"
    assert peak < 8 * megabyte
    monkeypatch.setattr(progress, "_PROGRESS_S", 0)

    def stop(line: str) -> None:
        raise StoppedOnRequest(line)

    sources = [source("docs", documentation=str(tmp_path))]
    config = stage("s", source="embedded", embedded_sources=sources)
    with pytest.raises(StoppedOnRequest, match=f"^{tmp_path}: reading for its hash"):
        prepare([config], tmp_path.parent / "out", progress=stop)


def test_a_page_keeps_its_side_when_another_file_changes(tmp_path: Path) -> None:
    for name in ("a.md", "b.md"):
        (tmp_path / name).write_text(MARKDOWN)

    def read() -> list[Document]:
        return list(read_documents(open_origin(str(tmp_path)), name="stones", dropped=Counter()))

    before = read()
    assert [one.split_key for one in before] == ["stones/a.md", "stones/b.md"]
    assert before[0].text.startswith(f"Source: {tmp_path.name}: a.md\n")
    (tmp_path / "b.md").write_text(MARKDOWN.replace("field", "garden"))
    assert read()[0] == before[0]
    for commit in ("0" * 40, "1" * 40):
        (tmp_path / ".git").mkdir(exist_ok=True)
        (tmp_path / ".git" / "HEAD").write_text(commit)
        (first, _) = read()
        assert first.split_key == "stones/a.md"
        assert f"@{commit}: a.md" in first.text


@ANY_NAME
def test_a_file_of_documentation_may_have_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.md")).write_text(MARKDOWN)
    (page,) = read_documents(open_origin(str(tmp_path)), name="stones", dropped=Counter())
    assert page.id == r"stones/caf\xe9.md"
    page.text.encode()


def test_documentation_behind_a_link_is_read_and_a_link_to_nothing_refused(tmp_path: Path) -> None:
    for name in ("docs/own/a.md", "docs/tests/b.md", "elsewhere/c.md"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(MARKDOWN)
    docs = tmp_path / "docs"
    (docs / "again").symlink_to(docs / "own", target_is_directory=True)
    (docs / "far").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (docs / "picture.png").symlink_to(tmp_path / "gone.png")
    assert [name for name, _ in open_origin(str(docs)).files] == ["far/c.md", "own/a.md"]
    (docs / "d.md").symlink_to(tmp_path / "gone.md")
    with pytest.raises(UsageError, match=r"d\.md is a link to .*gone\.md, which is not there"):
        open_origin(str(docs))


def test_a_folder_or_package_without_documentation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no documentation"):
        open_origin(str(tmp_path))
    with pytest.raises(UsageError, match="does not exist"):
        open_origin(str(tmp_path / "no"))
    with pytest.raises(UsageError, match="is not installed: pip install no-such"):
        open_origin("package:no-such")
    for nameless in ("package:", "package: "):
        with pytest.raises(UsageError, match="names no package"):
            open_origin(nameless)


@pytest.mark.parametrize("package", ["numpy", "datasets", "jinja2"])
def test_every_python_snippet_of_a_real_package_parses(package: str) -> None:
    origin = open_origin(f"package:{package}")
    pages = list(read_pages(origin, dropped=Counter()))
    code = [one.code for page in pages for one in page.snippets if one.language == "python"]
    for one in code:
        ast.parse(one)
    assert len(code) >= 5
    assert len({page.name for page in pages}) == len(pages)


def test_documentation_is_a_source_that_can_be_read_on() -> None:
    config = SourceConfig(name="docs", domain="d", weight=1.0, documentation="package:jinja2")
    source = open_source(config, "hub", seed=1)
    every = list(source.documents())
    assert source.version.startswith("jinja2 ")
    reading = source.documents()
    next(reading)
    rest = list(source.bookmark.resume(source.bookmark.mark()))
    assert rest == every[1:]
