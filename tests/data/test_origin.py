"""What a folder has from elsewhere is not taken for what lies at the address that is asked for."""

from pathlib import Path

import fsspec
import pytest

from tests.data.memory import source, stage
from tests.data.test_prepare_in_use import write_parts, write_texts
from yxanul.config.schema import StageConfig
from yxanul.data.places.remote import upload
from yxanul.data.prepared.manifest import Manifest
from yxanul.data.preparing.prepare import prepare
from yxanul.errors import InfrastructureError, UsageError

FIRST, SECOND = "memory://bucket/first", "memory://bucket/second"
SUMS = source("arithmetic", max_documents=90)


def hush(_: str) -> None:
    """Say nothing."""


def reading(place: str, **settings: object) -> list[StageConfig]:
    return [stage("s", source=place, embedded_sources=[{**SUMS, **settings}])]


def made(out: Path, *, seed: int, to: str | None = None) -> Manifest:
    """Prepare sums, which another seed makes others of, and put them at an address."""
    asked = [stage("s", source="embedded", embedded_sources=[SUMS], seed=seed)]
    manifest = prepare(asked, out, progress=hush)
    if to is not None:
        upload(out, to, say=hush)
    return manifest


def refused(place: str, out: Path) -> str:
    with pytest.raises(UsageError) as told:
        prepare(reading(place), out, progress=hush)
    return str(told.value)


def test_what_was_prepared_here_is_no_data_of_an_address(
    storage: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    held = made(out, seed=42)
    made(tmp_path / "other", seed=7, to=FIRST)
    told = refused(FIRST, out)
    assert told.startswith(f"{out} holds another s than {FIRST} does: to use what is prepared give")
    made(tmp_path / "same", seed=42, to=SECOND)
    assert prepare(reading(SECOND), out, progress=hush) == held


def test_data_of_one_address_is_not_taken_for_that_of_another(
    storage: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    made(tmp_path / "first", seed=42, to=FIRST)
    made(tmp_path / "second", seed=7, to=SECOND)
    held = prepare(reading(FIRST), out, progress=hush)
    assert "holds another s" in refused(SECOND, out)
    assert prepare(reading(f"{FIRST}/"), out, progress=hush) == held
    storage.store.clear()
    assert "neither a prepared folder nor" in refused(FIRST, out)


def test_an_address_is_not_asked_for_what_a_run_that_has_begun_holds(
    storage: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    made(tmp_path / "first", seed=42, to=FIRST)
    held = prepare(reading(FIRST), out, progress=hush)
    files = {file: file.stat().st_mtime_ns for file in out.rglob("*")}

    def silent(*_: object, **__: object) -> None:
        raise TimeoutError("slow")

    monkeypatch.setattr(storage.__class__, "exists", silent)
    monkeypatch.setattr(storage.__class__, "info", silent)
    with pytest.raises(InfrastructureError, match="slow"):
        prepare(reading(FIRST), out, progress=hush)
    assert prepare(reading(FIRST), out, progress=hush, is_in_use=True) == held
    # A run's data may be a link to a folder in which nobody may write.
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*")} == files


def test_data_with_other_settings_is_refused_before_it_is_brought(
    storage: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    made(tmp_path / "first", seed=42, to=FIRST)
    with pytest.raises(UsageError, match=f"{FIRST} was prepared with other settings of arithmetic"):
        prepare(reading(FIRST, min_tokens=30), out, progress=hush)
    with pytest.raises(UsageError, match="no stage t"):
        prepare([stage("t", source=FIRST)], out, progress=hush)
    assert not out.exists()
    prepare(reading(FIRST), out, progress=hush)


def test_parts_of_one_address_are_not_those_of_another(
    storage: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    for place, name in ((FIRST, "a"), (SECOND, "b")):
        folder = write_parts(tmp_path / name, cleared_of={})
        if place == SECOND:
            for file in sorted(folder.glob("00001.*")):
                file.unlink()  # the same task alone
            done = folder / "00000.done.json"
            done.write_text(done.read_text().replace('"world_size": 2', '"world_size": 1'))
        storage.put(str(folder), place.removeprefix("memory:/"), recursive=True)
    out, asked = tmp_path / "out", [stage("s", source=FIRST)]
    held = prepare(asked, out, progress=hush)
    with pytest.raises(UsageError, match="holds another s than"):
        prepare([stage("s", source=SECOND)], out, progress=hush)
    storage.store.clear()
    assert prepare(asked, out, progress=hush, is_in_use=True) == held


def test_a_stage_that_lies_here_is_compared_also_where_others_are_missing(
    storage: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    prepare([stage("s", source=str(write_texts(tmp_path / "texts")))], out, progress=hush)
    for name in "st":
        folder = write_parts(tmp_path / name, cleared_of={}, of=name)
        storage.put(str(folder), f"/bucket/first/{name}", recursive=True)
    with pytest.raises(UsageError, match="holds another s than"):
        prepare([stage(name, source=FIRST) for name in "st"], out, progress=hush)


def test_one_stage_that_is_the_same_vouches_for_no_other(
    storage: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    out, theirs = tmp_path / "out", tmp_path / "theirs"
    for place, seed in ((out, 7), (theirs, 42)):
        made(place, seed=42)
        other = source("gsm_symbolic", max_documents=90)
        last = stage("t", source="embedded", embedded_sources=[other], seed=seed)
        prepare([last], place, progress=hush)
    upload(theirs, FIRST, say=hush)
    prepare(reading(FIRST), out, progress=hush)
    with pytest.raises(UsageError, match="holds another t than"):
        prepare([*reading(FIRST), stage("t", source=FIRST)], out, progress=hush)
