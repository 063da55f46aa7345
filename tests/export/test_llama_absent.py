"""What becomes of an export where llama-cpp-python is not there, is broken, or fails."""

import importlib
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from tests.export.subjects import subject
from yxanul.errors import ExportCheckError, MissingExtraError
from yxanul.export.exporting import export_gguf
from yxanul.export.llamacpp import LlamaReader, import_llama_cpp

METADATA = "Metadata-Version: 2.1\nName: llama-cpp-python\nVersion: 9.9\n"
FAILS = """
class Llama:
    def __init__(self, path, **options):
        if "unreadable" in path:
            raise ValueError("Failed to load model from file")
    def tokenize(self, text, **options):
        raise RuntimeError("Failed to tokenize")
    def reset(self):
        pass
    def eval(self, ids):
        raise RuntimeError("llama_decode returned -3")
"""


@pytest.fixture
def install(tmp_path, monkeypatch) -> Iterator[Callable[[str], None]]:
    """Return what puts a llama-cpp-python of other code in the place of the one that is there."""
    known = sys.modules.pop("llama_cpp", None)
    site = tmp_path / "site"
    (site / "llama_cpp_python-9.9.dist-info").mkdir(parents=True)
    (site / "llama_cpp_python-9.9.dist-info" / "METADATA").write_text(METADATA)
    monkeypatch.syspath_prepend(site)

    def put(code: str) -> None:
        (site / "llama_cpp.py").write_text(code)
        importlib.invalidate_caches()

    yield put
    sys.modules.pop("llama_cpp", None)
    if known is not None:
        sys.modules["llama_cpp"] = known


def test_a_broken_llama_cpp_is_told_and_the_export_stands(install, tmp_path):
    install("raise RuntimeError(\"Failed to load shared library 'libllama.so': libgomp.so.1\")")
    said: list[str] = []
    done = export_gguf(subject(), tmp_path / "m.gguf", kind="f32", title="", say=said.append)
    assert done.place.is_file()
    assert {check.reader.split()[0] for check in done.checks} == {"gguf"}
    assert said[-1].startswith("not tried in llama.cpp itself: llama-cpp-python cannot be loaded: ")
    assert "libgomp.so.1" in said[-1]


@pytest.mark.parametrize("error", ["OSError", "AttributeError", "ImportError"])
def test_whatever_keeps_it_from_loading_is_told(install, error):
    install(f"raise {error}('libllama.so: undefined symbol')")
    with pytest.raises(MissingExtraError, match=r"cannot be loaded: libllama\.so: undefined"):
        import_llama_cpp()


def test_one_that_was_half_removed_is_told(install, tmp_path, monkeypatch):
    (tmp_path / "site" / "llama_cpp").mkdir()  # an empty folder is a package without a word
    with pytest.raises(MissingExtraError, match=r"cannot be loaded: .* no attribute 'Llama'"):
        import_llama_cpp()
    sys.modules.pop("llama_cpp")
    (tmp_path / "site" / "llama_cpp").rmdir()
    install(FAILS)

    def forgotten(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("yxanul.export.llamacpp.version", forgotten)
    with pytest.raises(MissingExtraError, match="cannot be loaded: No package metadata was found"):
        import_llama_cpp()


def test_one_that_is_not_installed_is_not_called_broken(monkeypatch):
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(MissingExtraError, match="llama-cpp-python is not installed"):
        import_llama_cpp()


def test_what_llama_cpp_cannot_do_with_an_export_is_a_failed_check(install):
    install(FAILS)
    with pytest.raises(ExportCheckError, match=r"9\.9 does not read the export: Failed to load"):
        LlamaReader(Path("unreadable.gguf"))
    reader = LlamaReader(Path("m.gguf"))
    with pytest.raises(ExportCheckError, match="does not compute with the export: llama_decode"):
        reader.logits([50256])
    with pytest.raises(ExportCheckError, match="does not tokenise with the export: Failed to"):
        reader.encode("a")
