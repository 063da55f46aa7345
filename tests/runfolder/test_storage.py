"""A place at an address, as another machine changes it meanwhile."""

import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import ModuleType

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from huggingface_hub import constants

from yxanul.errors import BrokenDiskError, CorruptDataError, InfrastructureError, UsageError
from yxanul.runfolder.bringing import bring_rows
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.storage import Place, reaching


class Remembering(MemoryFileSystem):
    """A storage that knows a file's size from its first look on, as those of s3:// and hf:// do."""

    protocol = "remembering"
    sizes: dict[str, int] = {}  # noqa: RUF012  (of all instances, as MemoryFileSystem's store is)

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("remembering://"))

    def info(self, path, **kwargs):
        found = super().info(path, **kwargs)
        return {**found, "size": self.sizes.setdefault(path, found["size"])}

    def _open(self, path, mode="rb", **kwargs):
        if mode != "rb":
            return super()._open(path, mode, **kwargs)
        size = self.info(path)["size"]
        return io.BytesIO(super()._open(path, mode, **kwargs).read()[:size])

    def invalidate_cache(self, path=None):
        self.sizes.clear()


@pytest.fixture
def address():
    fsspec.register_implementation("remembering", Remembering, clobber=True)
    yield "remembering://bucket/run"
    MemoryFileSystem.store.clear()
    Remembering.sizes.clear()


def test_a_file_that_has_grown_is_read_to_its_end(address):
    """Else a mirror that is watched stands still for ever."""
    elsewhere = MemoryFileSystem()
    elsewhere.pipe_file("/bucket/run/metrics.jsonl", b"one\n")
    place = Place(address)
    assert place.names() == ["metrics.jsonl"]
    assert place.read("metrics.jsonl", largest=100) == b"one\n"
    elsewhere.pipe_file("/bucket/run/metrics.jsonl", b"one\ntwo\n")
    assert place.read("metrics.jsonl", largest=100) == b"one\n", "this storage remembers nothing"
    assert Place(address).read("metrics.jsonl", largest=100) == b"one\ntwo\n"


def test_rows_that_are_as_long_as_before_are_not_read_again(address, tmp_path, monkeypatch):
    """Whoever watches a mirror pays for what is read out of it."""
    read, whole = [], Remembering._open

    def opened(self, path, mode="rb", **kwargs):
        read.append(path.rpartition("/")[2])
        return whole(self, path, mode, **kwargs)

    monkeypatch.setattr(Remembering, "_open", opened)
    elsewhere, folder = MemoryFileSystem(), RunFolder(tmp_path)
    for name in ("metrics.jsonl", "gates.jsonl", "exit.json"):
        elsewhere.pipe_file(f"/bucket/run/run/{name}", b"one\n")
    wanted = [folder.metrics, folder.gates, folder.exit_record, folder.lineage]
    assert bring_rows(address, wanted) == wanted[:3]
    assert read == ["metrics.jsonl", "gates.jsonl", "exit.json"]
    elsewhere.pipe_file("/bucket/run/run/metrics.jsonl", b"one\ntwo\n")
    assert bring_rows(address, wanted) == wanted[:3]
    assert read[3:] == ["metrics.jsonl", "exit.json"], "an end may be as long as another"
    assert folder.metrics.read_bytes() == b"one\ntwo\n"


@contextmanager
def answering(monkeypatch, status: int) -> Iterator[None]:
    """Be a hub that gives one answer to everything; 0 = none, the connection is closed."""

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not status:
                return
            self.send_response(status)
            self.send_header("Content-Length", "0")
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


HUB = "hf://buckets/somebody/promised/run"


@pytest.mark.parametrize(
    ("status", "words"), [(429, "429"), (503, "503"), (0, "without sending a response")]
)
def test_a_hub_that_does_not_answer_now_is_not_taken_for_an_empty_one(monkeypatch, status, words):
    """Else a machine that takes another's place begins anew, over what the other has trained."""
    with answering(monkeypatch, status):
        for ask in (
            lambda place: place.names(),
            lambda place: place.exists("run/lineage.jsonl"),
            lambda place: place.holds("checkpoints/x", size=1, sha256=""),
        ):
            with pytest.raises(InfrastructureError, match=words), reaching(HUB):
                ask(Place(HUB))


def test_a_bucket_that_is_not_there_is_told_when_it_is_tried_out(monkeypatch):
    with answering(monkeypatch, 404):
        with reaching(HUB):
            assert Place(HUB).names() == []
        with pytest.raises(UsageError, match="check the address"), reaching(HUB):
            Place(HUB).try_out()


@pytest.mark.parametrize("status", [401, 403])
def test_a_hub_that_lets_nobody_in_is_a_matter_of_the_keys(monkeypatch, status):
    refused = pytest.raises(UsageError, match=f"{status}.*keys in")
    with answering(monkeypatch, status), refused, reaching(HUB):
        Place(HUB).names()


def test_what_the_hubs_library_wraps_an_upload_into_may_pass():
    with pytest.raises(InfrastructureError, match="Error while uploading"), reaching(HUB):
        raise RuntimeError("Error while uploading 'model.safetensors' to the Hub.")


class Failing(LocalFileSystem):
    """A folder of a network's disk, of which one part cannot be read now."""

    protocol = "failing"

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("failing://"))

    def ls(self, path, detail=False, **kwargs):
        if path.endswith("checkpoints"):
            raise OSError(5, os.strerror(5))
        return super().ls(path, detail, **kwargs)


def test_a_folder_that_cannot_be_read_now_is_not_taken_for_an_empty_one(tmp_path):
    fsspec.register_implementation("failing", Failing, clobber=True)
    (tmp_path / "checkpoints").mkdir()
    address = f"failing://{tmp_path}"
    with pytest.raises(InfrastructureError, match="Input/output error"), reaching(address):
        Place(address).names()


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EACCES, CorruptDataError),
        (errno.EIO, BrokenDiskError),
        (errno.ENOENT, InfrastructureError),
    ],
)
def test_a_file_here_that_cannot_be_read_is_no_fault_of_the_address(
    tmp_path, monkeypatch, address, number, told
):
    local, whole = tmp_path / "card.md", io.open
    local.write_text("a card")

    def refused(path, *more, **options):  # root reads whatever there is
        if str(path) == str(local):
            raise OSError(number, os.strerror(number), str(path))
        return whole(path, *more, **options)

    monkeypatch.setattr("builtins.open", refused)
    monkeypatch.setattr("io.open", refused)
    with pytest.raises(told, match=re.escape(str(local))) as found, reaching(address):
        Place(address).put(local, "cards/card.md")
    assert address not in str(found.value)


class SSHException(Exception):  # noqa: N818  (the library's own)
    """As sftp's library has it, which is not installed here."""


class AzureError(Exception):
    """As azure's has it."""


class ClientAuthenticationError(AzureError):
    """As azure's has it."""


@pytest.mark.parametrize(
    ("module", "kind", "raised", "told"),
    [
        ("paramiko.ssh_exception", SSHException, SSHException, InfrastructureError),
        ("azure.core.exceptions", AzureError, AzureError, InfrastructureError),
        ("azure.core.exceptions", AzureError, ClientAuthenticationError, UsageError),
    ],
)
def test_what_other_storages_raise_is_one_sentence(monkeypatch, module, kind, raised, told):
    library = ModuleType(module)
    setattr(library, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, module, library)
    with pytest.raises(told, match=f"{raised.__name__}: a reason"), reaching("sftp://host/run"):
        raise raised("a reason")
