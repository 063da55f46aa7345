"""What a folder has from elsewhere is not taken for what lies at the address that is asked for."""

from pathlib import Path

import fsspec
import pytest

from tests.data.memory import source, stage
from tests.data.test_prepare_in_use import write_parts
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
    said: list[str] = []
    assert prepare(reading(FIRST), out, progress=said.append, is_in_use=True) == held
    assert said[0] == f"{told} What is prepared is in use, and stays as it is."
    assert "holds another s" in refused(FIRST, out)  # still
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
    storage.store.clear()
    assert prepare(reading(f"{FIRST}/"), out, progress=hush) == held  # it is not asked
    assert "neither a prepared folder nor" in refused(SECOND, out)


def test_an_address_out_of_reach_stops_no_run_that_has_begun_before_there_was_a_record(
    storage: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    made(tmp_path / "first", seed=42, to=FIRST)
    held = prepare(reading(FIRST), out, progress=hush)
    (out / "address.json").unlink()

    def silent(*_: object, **__: object) -> None:
        raise TimeoutError("slow")

    monkeypatch.setattr(storage.__class__, "exists", silent)
    monkeypatch.setattr(storage.__class__, "info", silent)
    with pytest.raises(InfrastructureError, match="slow"):
        prepare(reading(FIRST), out, progress=hush)
    said: list[str] = []
    assert prepare(reading(FIRST), out, progress=said.append, is_in_use=True) == held
    assert said[0].endswith("What is prepared is in use, and stays as it is.")


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
    assert prepare(asked, out, progress=hush) == held
