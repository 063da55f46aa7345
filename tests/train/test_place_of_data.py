"""A run keeps its data: where that lies may change, what is in it may not."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.train.world import STAGES, World, finished_world, write_texts
from yxanul.runfolder.layout import RunFolder

STEPS, SOURCES = "--max_steps", ("arithmetic", "gsm_symbolic")


@pytest.fixture
def world(tmp_path):
    return World.create(tmp_path)


def prepared(world: World, name: str) -> World:
    """Return the world with its texts prepared in a folder of this name."""
    world.finish("prepare", name, "--stage", "all")
    return World(world.root, world.root / name)


def kept(run: RunFolder) -> list[bytes]:
    files = (run.config, run.lineage, run.data_pointer)
    return [file.read_bytes() for file in files if file.exists()]


def name_sources(world: World, **settings: object) -> World:
    """Give the stages embedded sources, the later one's with `settings`; return their world."""
    for stage, name, more in zip(STAGES, SOURCES, ({}, settings), strict=True):
        file = world.root / "configs" / f"{stage}.yaml"
        changed = yaml.safe_load(file.read_text())
        own = {"name": name, "domain": name, "weight": 1.0, "max_documents": 220, **more}
        changed["data"]["embedded_sources"] = [own]
        file.write_text(yaml.safe_dump(changed))
    return World(world.root, Path("embedded"))


@pytest.mark.fault(22)
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


@pytest.mark.fault(22)
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


@pytest.mark.fault(22)
def test_a_stage_to_come_is_not_trained_on_data_of_other_settings(world, tmp_path):
    other = prepared(name_sources(world, min_tokens=9), "other")
    given, run = prepared(name_sources(world), "shared"), RunFolder(tmp_path / "run")
    given.finish("run", "run", STEPS, "1")
    before = kept(run)
    told = other.finish("run", "run", STEPS, "2", code=30).stderr
    assert f"{other.texts} was prepared with other settings of gsm_symbolic" in told
    assert kept(run) == before
    # Where it was begun with that: what was asked for since does not stop it.
    shutil.rmtree(given.texts)
    other.texts.rename(given.texts)
    assert "The run goes on with what it was" in given.finish("run", "run", STEPS, "2").stderr


@pytest.mark.fault(22)
def test_other_texts_are_not_written_down_as_what_a_run_was_trained_on(world, tmp_path):
    run = RunFolder(tmp_path / "run")
    world.finish("run", "run", STEPS, "1")
    before, fewer = kept(run), World(tmp_path, write_texts(tmp_path / "fewer", documents=90))
    told = fewer.finish("run", "run", STEPS, "2", code=30).stderr
    assert f"fewer/{STAGES[0]} is not as it was when {run.data} was prepared" in told
    assert kept(run) == before
    World(tmp_path, write_texts(tmp_path / "copy")).finish("run", "run", STEPS, "2")
    (tmp_path / "copy" / STAGES[0] / "more.txt").write_text("One text more.")
    told = World(tmp_path, tmp_path / "copy").finish("run", "run", STEPS, "3").stderr
    assert "What is prepared is in use, and stays as it is." in told


@pytest.mark.fault(22)
def test_data_of_a_wrong_address_is_not_brought_for_a_run_that_has_begun(world, tmp_path):
    run = RunFolder(tmp_path / "run")
    prepared(world, "shared")
    other = prepared(World(tmp_path, write_texts(tmp_path / "fewer", documents=90)), "other")
    right, wrong = (World(tmp_path, f"file://{tmp_path}/{name}") for name in ("shared", "other"))
    right.finish("run", "run", STEPS, "1")
    before = kept(run)
    shutil.rmtree(run.data)  # as on another machine
    wrong.finish("run", "run", STEPS, "2", code=31)
    assert not run.data.exists()
    assert kept(run) == before
    shutil.copytree(other.texts, run.data)  # as an earlier version left it
    told = right.finish("run", "run", STEPS, "2", code=31).stderr
    assert "(what lies in RUN/data is prepared anew once that is deleted)" in told
    assert "in use" not in told
    shutil.rmtree(run.data)
    right.finish("run", "run", STEPS, "2")


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


def test_an_earlier_stage_that_is_asked_for_again_needs_its_own_data_alone(tmp_path_factory):
    """As where RUN/data was deleted, and scripts/train_stage1.sh is started once more."""
    world = finished_world(tmp_path_factory, "earlier")
    shutil.rmtree(world.root / "run" / "data")
    told = world.finish("train", "run", "--stage", STAGES[0]).stderr
    assert "nothing is trained again" in told


def test_a_stage_with_too_little_text_is_refused_before_the_run_is_begun(world, tmp_path):
    """So that the same --out can be put right, with what is prepared there."""
    texts = world.texts / STAGES[1] / "texts.jsonl"
    texts.write_text("".join(texts.read_text().splitlines(keepends=True)[:7]))
    chunks = ("--set", "data.chunk_tokens=128")
    told = world.finish("run", "run", STEPS, "1", *chunks, code=30).stderr
    assert "training tokens, less than one chunk and one more" in told
    assert not RunFolder(tmp_path / "run").lineage.exists()
    world.finish("run", "run", STEPS, "1")


def test_a_part_of_the_data_does_not_become_where_a_finished_run_has_it(tmp_path_factory):
    world = finished_world(tmp_path_factory, "part")
    world.finish("prepare", "part", "--stage", STAGES[0])
    part = ("--data", str(world.root / "part"))
    told = world.finish("train", "run", "--stage", STAGES[0], *part).stderr
    assert "nothing is trained again" in told
    assert RunFolder(world.root / "run").prepared_data() == world.root / "run" / "data"


def test_a_run_that_goes_on_with_a_part_of_its_data_points_to_no_lost_folder(world, tmp_path):
    given, run = prepared(world, "shared"), RunFolder(tmp_path / "run")
    given.finish("run", "run", STEPS, "1")
    shutil.rmtree(given.texts)
    texts = World(tmp_path, tmp_path / "texts")
    texts.finish("train", "run", "--stage", STAGES[0], STEPS, "2")
    assert run.prepared_data() == run.data


def test_a_later_stage_with_too_little_text_leaves_the_run_as_it_was(world, tmp_path):
    """So that other settings of it, or more text, can still mend it."""
    world.finish("train", "run", "--stage", STAGES[0])
    run, later = RunFolder(tmp_path / "run"), ("--stage", STAGES[1], STEPS, "1")
    before = kept(run)
    texts = world.texts / STAGES[1] / "texts.jsonl"
    whole = texts.read_text()
    texts.write_text("".join(whole.splitlines(keepends=True)[:7]))
    chunks = ("--set", f"{STAGES[1]}.data.chunk_tokens=128")
    told = world.finish("train", "run", *later, *chunks, code=30).stderr
    assert kept(run) == before
    assert "more documents and delete the prepared folder" in told
    texts.write_text(whole)
    shutil.rmtree(run.data)
    world.finish("train", "run", *later, *chunks)
