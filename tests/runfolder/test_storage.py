"""A place at an address, as another machine changes it meanwhile."""

import io

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from yxanul.runfolder.storage import Place


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
