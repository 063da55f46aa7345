"""What tests of prepared data share."""

from collections.abc import Iterator

import fsspec
import pytest


@pytest.fixture
def storage() -> Iterator[fsspec.AbstractFileSystem]:
    """A storage that lives in this process, as fsspec has it, empty."""
    found = fsspec.filesystem("memory")
    found.store.clear()
    found.pseudo_dirs[:] = [""]
    yield found
    found.store.clear()
