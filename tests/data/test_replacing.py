"""What would be refused once all is prepared is refused before, and nothing else is."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.data.memory import (
    MemorySource,
    plan,
    prepare_plans,
    sentences,
    source,
    stage,
)
from tests.data.test_prepare_stages import write_jsonl
from yxanul.config.schema import StageConfig
from yxanul.data.places.remote import try_upload, upload
from yxanul.data.prepared.settings import settings_sha256, source_settings
from yxanul.data.preparing.prepare import prepare
from yxanul.data.progress import unheard as hush
from yxanul.errors import UsageError
from yxanul.runfolder.storage import Place, reaching

ADDRESS = "memory://bucket/prepared"
SUMS = source("arithmetic", max_documents=90)
OTHER = source("gsm_symbolic", max_documents=90)
FAR = source("far", hub_id="a/b", text_template="{text}", hub_revision="main")


pytestmark = pytest.mark.usefixtures("storage")


def reading(*sources: Mapping[str, object], name: str = "s", **data: Any) -> list[StageConfig]:
    return [stage(name, **{"source": "embedded", "embedded_sources": list(sources), **data})]


def put(stages: list[StageConfig], out: Path) -> None:
    prepare(stages, out, progress=hush)
    upload(out, ADDRESS, say=hush)


def ask(stages: list[StageConfig], out: Path) -> None:
    try_upload(ADDRESS, stages, out=out, say=hush)


def test_what_may_lie_there_already_is_let_through(tmp_path: Path) -> None:
    put(reading(SUMS), tmp_path / "old")
    ask(reading(SUMS), tmp_path / "new")
    ask(reading({**SUMS, "domain": "sums", "licence": "MIT"}), tmp_path / "new")
    ask(reading(OTHER, name="t"), tmp_path / "old")
    ask([stage("s", source="memory://elsewhere")], tmp_path / "new")
    # Another source beside it, which only adds files.
    more = reading(SUMS, OTHER)
    ask(more, tmp_path / "new")
    put(more, tmp_path / "new")


REFUSED = {
    "settings": (reading({**SUMS, "min_tokens": 30}), "arithmetic: min_tokens was null and is 30"),
    "seed": (reading(SUMS, seed=9), r"data\.seed, data\.validation_fraction or"),
    "split": (reading(SUMS, validation_fraction=0.3), r"data\.seed, data\.validation_fraction or"),
    "kind": (reading(source="hub", hub_sources=[FAR]), "data.source was embedded and is hub"),
    "folder": (reading(source="texts"), "data.source was embedded and is folder"),
    "source": (reading(OTHER), f"{ADDRESS} holds arithmetic, which .*new does not"),
    "stage": (reading(OTHER, name="t"), f"{ADDRESS} holds s, arithmetic, which .*new does not"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_other_and_more_data_is_refused_before_ours_is_prepared(tmp_path: Path, what: str) -> None:
    put(reading(SUMS), tmp_path / "old")
    stages, says = REFUSED[what]
    with pytest.raises(UsageError, match=f"{says}.*choose another address"):
        ask(stages, tmp_path / "new")


def test_a_folder_is_held_against_its_split_and_what_its_treatment_drops_its_texts_tell(
    tmp_path: Path,
) -> None:
    write_jsonl(tmp_path / "texts/a.jsonl", sentences(80))
    texts = str(tmp_path / "texts")
    put(reading(source=texts), tmp_path / "old")
    ask(reading(SUMS, source=texts), tmp_path / "new")  # its domain is another
    treated = {"folder_treatment": {"require_pattern": "Number"}}  # as all of them have it
    ask(reading(source=texts, **treated), tmp_path / "new")
    put(reading(source=texts, **treated), tmp_path / "new")
    with pytest.raises(UsageError, match=r"\(data\.validation_fraction or the program's version"):
        ask(reading(source=texts, validation_fraction=0.3), tmp_path / "late")
    with pytest.raises(UsageError, match=r"data\.source was folder and is embedded"):
        ask(reading(SUMS), tmp_path / "new")


def test_a_tag_may_be_of_the_commit_that_lies_there(tmp_path: Path) -> None:
    commit, config = "a" * 40, reading(source="hub", hub_sources=[FAR])[0]
    made = replace(
        plan(MemorySource("far", sentences(80), version=f"a/b@{commit}"), stage="s"),
        kind="hub",
        settings=source_settings(config.data.hub_sources[0]),
    )
    prepare_plans(tmp_path / "old", plans=[made], settings=settings_sha256(config))
    upload(tmp_path / "old", ADDRESS, say=hush)
    for seed, revision in enumerate(("v1", None, commit)):
        asked = reading(source="hub", hub_sources=[{**FAR, "hub_revision": revision}], seed=seed)
        ask(asked, tmp_path / "new")
    asked = reading(source="hub", hub_sources=[{**FAR, "hub_revision": "b" * 40}])
    with pytest.raises(UsageError, match=f"far was a/b@{commit} and is a/b@bbb"):
        ask(asked, tmp_path / "new")


def test_a_seed_is_none_of_what_is_read_from_the_hub_or_of_documentation(tmp_path: Path) -> None:
    jinja = source("jinja", documentation="package:jinja2")
    put(reading(jinja), tmp_path / "old")
    for asked in (reading(jinja, seed=7), reading(source="hub", hub_sources=[jinja])):
        ask(asked, tmp_path / asked[0].data.source)
        put(asked, tmp_path / f"{asked[0].data.source}{asked[0].data.seed}")
    with pytest.raises(UsageError, match=r"jinja: min_tokens was null and is 30"):
        ask(reading({**jinja, "min_tokens": 30}), tmp_path / "late")


def test_keys_that_may_not_delete_are_enough_for_a_copy_but_not_for_a_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("AccessDenied")

    monkeypatch.setattr(MemoryFileSystem, "rm", refuse)
    said: list[str] = []
    try_upload(ADDRESS, reading(SUMS), out=tmp_path / "new", say=said.append)
    assert len(said) == 1
    assert said[0].startswith(f"{ADDRESS}/trial-")
    assert said[0].endswith("cannot be deleted (PermissionError) and stays there")
    with pytest.raises(UsageError, match="check the address and the keys"), reaching(ADDRESS):
        Place(ADDRESS).try_out()
