"""Runs that the faults are held against."""

import pytest

from tests.train.world import World, finished_world


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory) -> World:
    """Return a world in which one run has gone from its beginning to its end."""
    return finished_world(tmp_path_factory, "unbroken")


@pytest.fixture
def world(tmp_path) -> World:
    return World.create(tmp_path / "world")
