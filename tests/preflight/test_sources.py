"""Data and mirror: opened as a run opens them, and nothing is left behind."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from json import loads
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from tests.data.hub_sets import promised_sets
from tests.data.hub_standin import Fault, StandIn, running
from tests.train.world import STAGES, World
from yxanul.config.load import load_config
from yxanul.config.schema import RunConfig
from yxanul.data.prepare import prepare
from yxanul.errors import CorruptShardError, InfrastructureError, UsageError
from yxanul.preflight.finding import Check
from yxanul.preflight.sources import data_checks, look_at_mirror, prepared_root
from yxanul.runfolder.layout import RunFolder

ROOT = Path(__file__).parents[2]


class Storage(LocalFileSystem):
    """A folder of this machine that does not answer, or changes what it is given."""

    protocol = "preflight"
    mood = "well"

    def put_file(self, lpath, rpath, **options):
        if self.mood == "silent":
            raise ConnectionError("connection refused")
        super().put_file(lpath, rpath, **options)
        if self.mood == "mad":
            Path(self._strip_protocol(rpath)).write_bytes(b"other bytes")


@pytest.fixture(scope="module", autouse=True)
def _storage():
    fsspec.register_implementation("preflight", Storage, clobber=True)


def checks_of(config: RunConfig, folder: RunFolder) -> list[Check]:
    return data_checks(config, root=prepared_root(config, folder))


@contextmanager
def looker(hub: StandIn, home: Path) -> Iterator[subprocess.Popen]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.preflight.data_looker", ROOT / "configs", home / "run"],
        cwd=ROOT,
        env=hub.environment(home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


def looked(process: subprocess.Popen) -> dict[str, dict]:
    """Return the findings of one look, by name."""
    process.stdin.write("look\n")
    process.stdin.flush()
    return {one["name"]: one for one in loads(process.stdout.readline())}


@pytest.mark.slow
def test_every_source_of_the_hub_gives_a_record_or_says_why_not(tmp_path):
    with running(StandIn(promised_sets())) as hub, looker(hub, tmp_path) as process:
        found = looked(process)
        assert len(found) == 5
        assert {one["state"] for one in found.values()} == {"pass"}, found
        wikipedia = found["data: wikipedia"]
        assert wikipedia["value"]["version"].startswith("wikimedia/wikipedia@")
        hub.break_with(
            Fault("/api/datasets/openai/gsm8k", 404, times=99),
            Fault("/api/datasets/nvidia/AceReason-Math", 503, times=99),
        )
        broken = [one for one in looked(process).values() if one["state"] == "fail"]
        codes = {why["why"].split("data set ")[1].split()[0]: why["code"] for why in broken}
        assert codes == {"openai/gsm8k": 30, "nvidia/AceReason-Math": 11}
        assert not (tmp_path / "run").exists()


def test_a_folder_of_texts_is_opened_and_one_that_is_not_there_is_refused(tmp_path):
    world = World.create(tmp_path)
    config = load_config(tmp_path / "configs", overrides=[f"data.source={tmp_path / 'texts'}"])
    found = [check.made() for check in checks_of(config, RunFolder(tmp_path / "run"))]
    assert [(one.name, one.state) for one in found] == [(f"data: {s}", "pass") for s in STAGES]
    (tmp_path / "texts" / STAGES[0] / "texts.jsonl").write_text("{}\n")
    assert checks_of(config, RunFolder(tmp_path / "run"))[0].made().code == 30
    gone = load_config(world.root / "configs", overrides=["data.source=nowhere"])
    with pytest.raises(UsageError, match="nowhere does not exist"):
        checks_of(gone, RunFolder(tmp_path / "run"))


def test_prepared_data_is_looked_at_wherever_it_lies(tmp_path):
    World.create(tmp_path)
    overrides = [f"data.source={tmp_path / 'texts'}"]
    config = load_config(tmp_path / "configs", overrides=overrides)
    folder = RunFolder(tmp_path / "run")
    prepare(config.stages, folder.data, progress=lambda _: None)
    (check,) = checks_of(config, folder)
    assert check.made().state == "pass"
    elsewhere = load_config(tmp_path / "configs", overrides=[f"data.source={folder.data}"])
    (check,) = checks_of(elsewhere, RunFolder(tmp_path / "other"))
    assert check.made().state == "pass"
    remote = load_config(tmp_path / "configs", overrides=[f"data.source=file://{folder.data}"])
    (check,) = checks_of(remote, RunFolder(tmp_path / "other"))
    assert check.made().state == "pass"
    next(folder.data.rglob("*.bin")).unlink()
    (check,) = checks_of(config, folder)
    found = check.made()
    assert (found.state, found.code) == ("fail", CorruptShardError.exit_code)


def test_embedded_sources_are_installed():
    config = load_config(ROOT / "configs" / "embedded")
    found = [check.made() for check in checks_of(config, RunFolder(Path("nowhere")))]
    assert {one.state for one in found} == {"pass"}
    assert "data: wikipedia_leads" in {one.name for one in found}


def test_a_mirror_takes_an_object_and_keeps_nothing(tmp_path, monkeypatch):
    for address in (str(tmp_path / "mirror"), f"preflight://{tmp_path}/mirror"):
        assert look_at_mirror(address).state == "pass"
        assert list((tmp_path / "mirror").iterdir()) == []
    monkeypatch.setattr(Storage, "mood", "silent")
    with pytest.raises(InfrastructureError, match="connection refused"):
        look_at_mirror(f"preflight://{tmp_path}/mirror")
    monkeypatch.setattr(Storage, "mood", "mad")
    with pytest.raises(InfrastructureError, match="other bytes"):
        look_at_mirror(f"preflight://{tmp_path}/mirror")
    assert list((tmp_path / "mirror").iterdir()) == []


def test_a_wrong_address_is_a_wrong_setting_and_none_is_a_warning():
    with pytest.raises(UsageError, match="nosuch"):
        look_at_mirror("nosuch://bucket/run")
    found = look_at_mirror(None)
    assert found.state == "warn"
    assert "checkpoint.mirror" in found.why
