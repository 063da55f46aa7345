"""A place holds the parts of one source, and a stage joins those that were treated for it."""

import errno
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.data.memory import source, stage
from tests.data.test_cluster import joined, treat
from yxanul.data.parts.files import Provenance, holds_parts, open_parts
from yxanul.data.preparing.prepare import prepare
from yxanul.data.progress import unheard as hush
from yxanul.errors import BrokenDiskError, UsageError

OF_STAGE_2 = Provenance("stage2_tests", "mine")


def test_parts_that_more_tasks_left_are_refused_and_not_passed_over(tmp_path: Path) -> None:
    treat(tmp_path / "parts", 5)
    treat(tmp_path / "parts", 3)
    with pytest.raises(UsageError, match=r"the work of 3 tasks with that of 5 \(task 3\)"):
        joined(tmp_path / "parts", tmp_path / "out")


@pytest.mark.parametrize("other", [Provenance("stage1_tests", "theirs"), OF_STAGE_2])
def test_a_place_that_holds_one_source_takes_no_other(tmp_path: Path, other: Provenance) -> None:
    parts = tmp_path / "parts"
    treat(parts, 3)
    before = {file.name: file.read_bytes() for file in parts.iterdir()}
    refused = r"mine \(stage1_tests\) and of .* a place of its own"
    with pytest.raises(UsageError, match=refused):
        treat(parts, 2, of=other)
    assert {file.name: file.read_bytes() for file in parts.iterdir()} == before
    # Where no task of the one met a part of the other.
    treat(tmp_path / "other", 3, of=other)
    for file in (tmp_path / "other").glob("00001.*"):
        file.replace(parts / file.name)
    with pytest.raises(UsageError, match=refused):
        joined(parts, tmp_path / "out")


def test_a_part_whose_end_is_damaged_may_be_written_again(tmp_path: Path) -> None:
    treat(tmp_path / "parts", 2)
    (tmp_path / "parts" / "00001.done.json").write_bytes(b"{")
    treat(tmp_path / "parts", 2)
    joined(tmp_path / "parts", tmp_path / "out")


def test_parts_of_an_earlier_version_are_one_sentence(tmp_path: Path) -> None:
    treat(tmp_path / "parts", 2)
    for file in (tmp_path / "parts").glob("*.done.json"):
        done = json.loads(file.read_text())
        done["provenance"] = {"licence": None, "attribution": None}
        file.write_text(json.dumps(done))
    says = "an earlier version wrote, .* empty it, and run all"
    with pytest.raises(UsageError, match=says):
        joined(tmp_path / "parts", tmp_path / "out")
    with pytest.raises(UsageError, match=says):
        treat(tmp_path / "parts", 2)


def test_parts_of_another_stage_are_not_joined(tmp_path: Path) -> None:
    treat(tmp_path / "parts", 2, of=OF_STAGE_2)
    with pytest.raises(UsageError, match="treated for stage2_tests, and none for stage1_tests;"):
        joined(tmp_path / "parts", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_parts_at_the_root_of_an_address_are_those_of_their_stage_alone(tmp_path: Path) -> None:
    treat(tmp_path / "parts", 2, of=OF_STAGE_2)
    fsspec.filesystem("memory").put(str(tmp_path / "parts"), "/rooted", recursive=True)
    stages = [stage(f"stage{n}_tests", source="memory://rooted") for n in (1, 2)]
    said: list[str] = []
    with pytest.raises(UsageError, match=r"none for stage1_tests; .* a subfolder each"):
        prepare(stages, tmp_path / "out", progress=said.append)
    assert said == []
    (tmp_path / "texts").mkdir()
    for n in range(60):
        (tmp_path / "texts" / f"{n}.txt").write_text(f"Another text, number {n}.")
    first = stage("stage1_tests", source=str(tmp_path / "texts"))
    prepare([first], tmp_path / "out", progress=said.append)
    with pytest.raises(UsageError, match="none for stage1_tests"):
        prepare(stages, tmp_path / "out", progress=said.append)
    both = prepare(stages[1:], tmp_path / "out", progress=said.append)
    assert list(both.stages) == ["stage1_tests", "stage2_tests"]


def test_parts_have_the_domain_of_the_source_that_they_are_of(tmp_path: Path) -> None:
    treat(tmp_path / "parts", 2)
    config = stage(
        "stage1_tests",
        source=str(tmp_path / "parts"),
        hub_sources=[
            source(name, hub_id="a/b", text_template="{text}", domain=domain)
            for name, domain in (("theirs", "maths"), ("mine", "web"))
        ],
        embedded_sources=[source("ours", domain="prose")],
    )
    for _ in range(2):  # what is there is used again
        manifest = prepare([config], tmp_path / "out", progress=lambda line: None)
        assert manifest.sources["stage1_tests"].domain == "web"


def test_sources_of_a_stage_that_are_not_joined_are_told(tmp_path: Path) -> None:
    treat(tmp_path / "parts", 2)
    config = stage(
        "stage1_tests",
        source=str(tmp_path / "parts"),
        embedded_sources=[source(name) for name in ("mine", "theirs", "ours")],
    )
    said: list[str] = []
    prepare([config], tmp_path / "out", progress=said.append)
    assert said[0].startswith("stage1_tests is made of mine alone: ")
    assert said[0].endswith("/parts has no texts of theirs, ours")


def test_the_recipe_of_a_cluster_is_not_told_as_another_setting_of_the_stage(
    tmp_path: Path,
) -> None:
    treat(tmp_path / "parts", 2)
    asked = partial(stage, "stage1_tests", source=str(tmp_path / "parts"))
    prepare([asked(folder_treatment={"near_duplicates": 0.7})], tmp_path / "out", progress=hush)
    for changed in (
        {"folder_treatment": {"near_duplicates": 0.8}},
        {"folder_treatment": {"near_duplicates": 0.7}, "validation_fraction": 0.3},
    ):
        with pytest.raises(UsageError) as told:
            prepare([asked(**changed)], tmp_path / "out", progress=hush)
        assert "(data.validation_fraction, data.folder_treatment, the domain" in str(told.value)


@pytest.mark.parametrize("own", ["", "stage1_tests"])
def test_parts_that_are_joined_may_be_gone_from_beside_something_else(
    tmp_path: Path, own: str
) -> None:
    parts, out = tmp_path / "parts", tmp_path / "out"
    treat(parts / own, 2)
    jinja = source("jinja", documentation="package:jinja2")
    stages = [
        stage("stage1_tests", source=str(parts)),
        stage("stage2_tests", source="embedded", embedded_sources=[jinja]),
    ]
    held = prepare(stages, out, progress=hush)
    for file in (parts / own).iterdir():
        file.unlink()
    if own:
        (parts / own).rmdir()
    (parts / "notes.txt").write_text("another's")
    for asked in (stages, stages[:1]):
        assert prepare(asked, out, progress=hush) == held
    treat(parts, 3)
    with pytest.raises(UsageError, match="is not as it was when"):
        prepare(stages, out, progress=hush)


def test_parts_at_an_address_are_not_used_for_other_settings_than_they_were_joined_with(
    tmp_path: Path,
) -> None:
    treat(tmp_path / "parts", 2)
    fsspec.filesystem("memory").put(str(tmp_path / "parts"), "/joined_once", recursive=True)
    asked = partial(stage, "stage1_tests", source="memory://joined_once")
    held = prepare([asked()], tmp_path / "out", progress=hush)
    assert prepare([asked()], tmp_path / "out", progress=hush) == held
    for changed in (
        {"folder_treatment": {"near_duplicates": 0.8}},
        {"validation_fraction": 0.3},
        {"embedded_sources": [source("mine")]},
    ):
        with pytest.raises(UsageError, match="prepared with other settings"):
            prepare([asked(**changed)], tmp_path / "out", progress=hush)
    assert prepare([asked()], tmp_path / "out", progress=hush, is_in_use=True) == held


def test_parts_on_a_disk_that_is_away_are_not_to_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    treat(tmp_path, 1)
    parts = open_parts(str(tmp_path))
    assert parts is not None

    def away(place: Any, *_: Any, **__: Any) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(place))

    monkeypatch.setattr("builtins.open", away)
    with pytest.raises(BrokenDiskError, match="the disk failed at "):
        list(parts.read())
    with pytest.raises(BrokenDiskError, match="the disk failed at "):
        holds_parts(tmp_path, parts.version)
