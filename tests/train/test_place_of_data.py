"""A run keeps its data: where that lies may change, what is in it may not."""

import json
from pathlib import Path

import pytest
import yaml

from tests.train.world import STAGES, World, finished_world, write_texts
from yxanul.runfolder.layout import RunFolder

STEPS = "--max_steps"


@pytest.fixture
def world(tmp_path):
    return World.create(tmp_path)


def prepared(world: World, name: str) -> World:
    """Return the world with its texts prepared in a folder of this name."""
    world.finish("prepare", name, "--stage", "all")
    return World(world.root, world.root / name)


def kept(run: RunFolder) -> list[bytes]:
    return [file.read_bytes() for file in (run.config, run.lineage, run.data_pointer)]


def test_a_run_goes_on_with_its_data_wherever_it_lies_now(world, tmp_path, monkeypatch):
    given, run = prepared(world, "shared"), RunFolder(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    World(tmp_path, Path("shared")).finish("run", "run", STEPS, "1")
    for step, place in enumerate((f"{tmp_path}/shared", "shared/", "./moved"), start=2):
        if place == "./moved":
            given.texts.rename("moved")
        told = given.finish("run", "run", STEPS, str(step), "--data", place).stderr
        assert f"may change differs from the run's: {STAGES[0]}.data.source: " in told
        assert f"-> {place}" in told
    assert run.prepared_data() == tmp_path / "moved"


def test_other_data_is_refused_and_changes_nothing_of_the_run(world, tmp_path):
    given, run = prepared(world, "shared"), RunFolder(tmp_path / "run")
    given.finish("run", "run", STEPS, "1")
    before = kept(run)
    other = prepared(World(tmp_path, write_texts(tmp_path / "fewer", documents=90)), "other")
    told = other.finish("run", "run", STEPS, "2", code=31).stderr
    assert f"was trained on other data than is prepared now ({', '.join(STAGES[:1])})" in told
    assert kept(run) == before
    given.finish("run", "run", STEPS, "2")


def test_a_run_that_has_its_own_data_points_to_no_other(world, tmp_path):
    run = RunFolder(tmp_path / "run")
    world.finish("run", "run", STEPS, "1")
    other = prepared(World(tmp_path, write_texts(tmp_path / "fewer", documents=90)), "other")
    other.finish("run", "run", STEPS, "2", code=31)
    assert run.prepared_data() == run.data
    run.data_pointer.write_text(json.dumps({"prepared": str(other.texts)}))  # of an older version
    world.finish("run", "run", STEPS, "2")
    assert run.prepared_data() == run.data


def test_a_finished_run_is_not_said_to_be_one_of_other_data(tmp_path_factory):
    world = finished_world(tmp_path_factory, "done")
    other = prepared(World(world.root, write_texts(world.root / "fewer", documents=90)), "other")
    told = other.finish("run", "run", code=31).stderr
    assert f"other data than is prepared now ({', '.join(STAGES)})" in told
    assert not RunFolder(world.root / "run").data_pointer.exists()


def test_papers_of_a_source_may_be_corrected_in_a_run(world, tmp_path):
    def name(**papers: str) -> None:
        file = tmp_path / "configs" / f"{STAGES[0]}.yaml"
        stage = yaml.safe_load(file.read_text())
        sources = [{"name": "jinja", "domain": "code", "weight": 1.0}]
        sources[0] |= {"documentation": "package:jinja2", **papers}
        stage["data"]["hub_sources"] = sources
        file.write_text(yaml.safe_dump(stage))

    name(licence="MIT")
    world.finish("run", "run", STEPS, "1")
    name(licence="BSD-3-Clause", attribution="Pallets")
    told = world.finish("run", "run", STEPS, "2").stderr
    assert f"the run's: {STAGES[0]}.data.hub_sources.0.licence: MIT -> BSD-3-Clause" in told
    name(licence="MIT", min_tokens="9")
    assert "min_tokens" in world.finish("run", "run", STEPS, "3", code=30).stderr
