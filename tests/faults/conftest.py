"""Runs that the faults are held against."""

import pytest

from tests.train.world import World


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory) -> World:
    """Return a world in which one run has gone from its beginning to its end."""
    world = World.create(tmp_path_factory.mktemp("unbroken"))
    world.finish("run", "run")
    return world


@pytest.fixture
def world(tmp_path) -> World:
    return World.create(tmp_path / "world")
