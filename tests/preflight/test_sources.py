"""Data, benchmarks and mirror: opened as a run opens them, and nothing is left behind."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps, loads
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from tests.data.bench_rows import write_bench_folder
from tests.data.closing import close
from tests.data.hub_sets import promised_sets, public_sets
from tests.data.hub_standin import Fault, StandIn, running
from tests.data.test_cluster import treat
from tests.preflight.mirrors import run_at
from tests.train.test_place_of_data import name_sources
from tests.train.world import STAGES, World
from yxanul.config.load import dump_config, load_config
from yxanul.config.schema import RunConfig
from yxanul.config.treatment import TreatmentConfig
from yxanul.data.parts.files import PartWriter, Provenance
from yxanul.data.places.folders import prepared_folder
from yxanul.data.preparing.prepare import prepare
from yxanul.data.treating.treatment import Recipe, Treatment
from yxanul.errors import CorruptDataError, CorruptShardError, InfrastructureError, UsageError
from yxanul.preflight.finding import Check
from yxanul.preflight.sources import (
    benchmark_checks,
    data_checks,
    kept_benchmarks,
    look_at_mirror,
    needed_benchmarks,
)
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import AttemptStart, begin_attempt
from yxanul.train.starting.corpus import prepared_root

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
    return data_checks(config, folder, root=prepared_root(config, folder))


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
def test_every_set_of_the_hub_gives_a_record_or_says_why_not(tmp_path):
    sets = promised_sets() | public_sets()  # of gsm8k with its test split
    with running(StandIn(sets)) as hub, looker(hub, tmp_path) as process:
        found = looked(process)
        assert len(found) == 5 + 4  # sources and benchmarks
        assert {one["state"] for one in found.values()} == {"pass"}, found
        origin = found["benchmark: triviaqa"]["value"]["origin"]
        assert origin.endswith(", rc.nocontext, validation")
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


def test_other_settings_are_a_warning_where_the_run_was_begun_with_that_folder(tmp_path):
    """As the run itself, which goes on with what it has."""
    world, folder, shared = World.create(tmp_path), RunFolder(tmp_path / "run"), tmp_path / "shared"
    name_sources(world)
    embedded = load_config(tmp_path / "configs", overrides=["data.source=embedded"])
    prepare(embedded.stages, shared, progress=lambda _: None)
    name_sources(world, min_tokens=9)
    config = load_config(tmp_path / "configs", overrides=[f"data.source={shared}"])
    folder.create()
    begin_attempt(folder.lineage, AttemptStart(0, 0, None, "a test"))
    folder.data_pointer.write_text(dumps({"prepared": str(tmp_path)}))
    assert found_at(config, tmp_path).code == UsageError.exit_code
    folder.data_pointer.write_text(dumps({"prepared": str(shared)}))
    found = found_at(config, tmp_path)
    assert (found.state, found.code) == ("warn", 0)
    assert "other settings of gsm_symbolic" in found.why
    assert "The run goes on with what it was begun with" in found.why
    # What it has prepared itself, or from an address, is refused by the run as well.
    folder.data_pointer.unlink()
    shutil.rmtree(folder.data, ignore_errors=True)
    shared.rename(folder.data)
    embedded = load_config(tmp_path / "configs", overrides=["data.source=embedded"])
    assert found_at(embedded, tmp_path).code == UsageError.exit_code


def at_address(tmp_path: Path, *overrides: str) -> RunConfig:
    """Return the world's configuration that reads its data from an address."""
    place = f"data.source=file://{tmp_path / 'shared'}"
    return load_config(tmp_path / "configs", overrides=[place, *overrides])


def found_at(config: RunConfig, tmp_path: Path):
    (check,) = checks_of(config, RunFolder(tmp_path / "run"))
    return check.made()


def test_an_address_must_hold_what_a_run_would_read_there(tmp_path):
    World.create(tmp_path)
    (tmp_path / "shared").mkdir()
    config = at_address(tmp_path)
    found = found_at(config, tmp_path)
    assert (found.state, found.code) == ("fail", UsageError.exit_code)
    assert "neither a prepared folder nor texts" in found.why
    texts = load_config(
        tmp_path / "configs",
        stages=STAGES[:1],
        overrides=[f"data.source={tmp_path / 'texts' / STAGES[0]}"],
    )
    prepare(texts.stages, tmp_path / "shared", progress=lambda _: None)
    found = found_at(config, tmp_path)
    assert (found.state, found.code) == ("fail", UsageError.exit_code)
    assert f"no stage {STAGES[1]}" in found.why


def test_data_that_a_run_has_already_is_held_against_the_address_that_it_is_given(tmp_path):
    World.create(tmp_path)
    folder, text = RunFolder(tmp_path / "run"), tmp_path / "texts" / STAGES[0] / "more.txt"
    for out in (folder.data, tmp_path / "shared"):
        overrides = [f"data.source={tmp_path / 'texts'}"]
        config = load_config(tmp_path / "configs", overrides=overrides)
        prepare(config.stages, out, progress=lambda _: None)
        text.write_text("One text more.")
    found = found_at(at_address(tmp_path), tmp_path)
    assert (found.state, found.code) == ("fail", UsageError.exit_code)
    assert f"{folder.data} holds another {STAGES[0]} than file://" in found.why
    # Where the run was begun with that address it does not ask there, nor is it to be asked.
    folder.config.write_text(dump_config(at_address(tmp_path)))
    begin_attempt(folder.lineage, AttemptStart(0, step=0, parent=None, reason="the run begins"))
    assert found_at(at_address(tmp_path), tmp_path).state == "pass"
    elsewhere = at_address(tmp_path, f"data.source=file://{tmp_path / 'elsewhere'}")
    assert found_at(elsewhere, tmp_path).code == UsageError.exit_code
    # A lineage that nobody can read is a finding of its own.
    folder.lineage.write_text("no row\n" + folder.lineage.read_text())
    assert found_at(at_address(tmp_path), tmp_path).state == "pass"


def write_parts(place: Path, *, stage: str) -> None:
    """Leave what the only task of a cluster leaves of no texts."""
    treatment = Treatment(TreatmentConfig(), min_tokens=None)
    recipe = Recipe(treatment, decontaminated={}, tools=treatment.tools)
    with PartWriter(str(place), 0, provenance=Provenance(stage, "mine")) as writer:
        writer.finish(recipe, world_size=1)


def test_texts_that_a_cluster_treated_must_be_there_for_every_stage(tmp_path):
    World.create(tmp_path)
    states = []
    for stage in STAGES:
        write_parts(tmp_path / "shared" / stage, stage=stage)
        states.append(found_at(at_address(tmp_path), tmp_path).state)
    assert states == ["fail", "pass"]


@pytest.mark.parametrize("kind", ["texts", "parts", "parts at an address"])
def test_data_of_the_run_made_with_other_settings_is_refused_as_the_run_refuses_it(tmp_path, kind):
    World.create(tmp_path)
    place, folder = str(tmp_path / "texts" / STAGES[0]), RunFolder(tmp_path / "run")
    if kind != "texts":
        treat(tmp_path / "shared", 2, of=Provenance(STAGES[0], "mine"))
        place = f"{'file://' if 'address' in kind else ''}{tmp_path / 'shared'}"

    def config(*more: str) -> RunConfig:
        overrides = [f"data.source={place}", *more]
        return load_config(tmp_path / "configs", stages=STAGES[:1], overrides=overrides)

    prepare(config().stages, folder.data, progress=lambda _: None)
    assert found_at(config(), tmp_path).state == "pass"
    other = config("data.validation_fraction=0.3")
    found = found_at(other, tmp_path)
    assert (found.state, found.code) == ("fail", UsageError.exit_code)
    assert f"holds the stage {STAGES[0]}, prepared with other settings" in found.why
    with pytest.raises(UsageError) as refused:
        prepare(other.stages, folder.data, progress=lambda _: None)
    assert str(refused.value) == found.why
    # A run that was begun with texts of an address keeps them.
    folder.config.write_text(dump_config(config()))
    begin_attempt(folder.lineage, AttemptStart(0, step=0, parent=None, reason="the run begins"))
    assert (found_at(other, tmp_path).state == "pass") == ("address" in kind)


@pytest.mark.parametrize("source", ["s3://bucket/data", "shared"])
def test_stages_that_cannot_be_read_together_are_refused(tmp_path, monkeypatch, source):
    """An address of one stage was taken for a folder of this machine."""
    World.create(tmp_path)
    monkeypatch.chdir(tmp_path)
    texts = load_config(tmp_path / "configs", overrides=["data.source=texts"])
    prepare(texts.stages, tmp_path / "shared", progress=lambda _: None)
    overrides = ["data.source=texts", f"{STAGES[1]}.data.source={source}"]
    config = load_config(tmp_path / "configs", overrides=overrides)
    with pytest.raises(UsageError, match="for some stages only"):
        checks_of(config, RunFolder(tmp_path / "run"))


def test_a_run_folder_inside_the_texts_is_refused_as_the_run_refuses_it(tmp_path):
    World.create(tmp_path)
    texts = tmp_path / "texts" / STAGES[0]
    config = load_config(
        tmp_path / "configs", stages=STAGES[:1], overrides=[f"data.source={texts}"]
    )
    with pytest.raises(UsageError, match="choose a place outside it"):
        checks_of(config, RunFolder(texts / "run"))


def test_parts_that_cannot_be_joined_are_a_finding_where_the_run_lies_beside_them(tmp_path):
    """To tell whether the run folder would be read they are opened before any check."""
    World.create(tmp_path)
    parts, folder = tmp_path / "parts", RunFolder(tmp_path / "parts" / "run")
    config = load_config(
        tmp_path / "configs", stages=STAGES[:1], overrides=[f"data.source={parts}"]
    )
    write_parts(parts, stage=STAGES[0])
    done = parts / "00000.done.json"
    whole, found = done.read_text(), []
    for left in (whole, whole.replace('"world_size": 1', '"world_size": 2'), "{"):
        done.write_text(left)
        (check,) = checks_of(config, folder)
        found.append(check.made().code)
    assert found == [0, UsageError.exit_code, CorruptDataError.exit_code]


def test_a_closed_folder_of_texts_is_a_finding(tmp_path, monkeypatch):
    World.create(tmp_path)
    texts = tmp_path / "texts"
    config = load_config(tmp_path / "configs", overrides=[f"data.source={texts}"])
    close(texts, monkeypatch)
    found = [check.made() for check in checks_of(config, RunFolder(tmp_path / "run"))]
    assert {(one.state, one.code) for one in found} == {("fail", CorruptDataError.exit_code)}
    assert {f"{texts} cannot be read (Permission denied)" in one.why for one in found} == {True}


SKILLS = "evaluation.skills=[{task: hellaswag}, {task: triviaqa, shots: 2}, {task: cloze}]"


def scored(tmp_path: Path, bench: str, *overrides: str) -> RunConfig:
    """Return the world's configuration with skills, whose items lie in a folder."""
    given = ["data.source=texts", SKILLS, f"evaluation.bench={bench}", *overrides]
    return load_config(tmp_path / "configs", overrides=given)


def benchmarks_of(
    config: RunConfig, tmp_path: Path, *, is_prepared: bool = True
) -> dict[str, tuple[str, int]]:
    mirror = config.optimization.checkpoint.mirror
    kept = kept_benchmarks(RunFolder(tmp_path / "run"), mirror=mirror, is_reachable=True)
    assert kept is not None
    checks = benchmark_checks(needed_benchmarks(config, is_prepared=is_prepared), kept=kept)
    found = [check.made() for check in checks]
    assert len({one.name for one in found}) == len(found)
    return {one.name.removeprefix("benchmark: "): (one.state, one.code) for one in found}


def test_a_benchmark_is_looked_for_where_the_run_would_read_it(tmp_path):
    """Once, though both stages are scored on it; cloze is made of prepared data."""
    World.create(tmp_path)
    bench = write_bench_folder(tmp_path / "bench")
    config = scored(tmp_path, str(bench))
    assert benchmarks_of(config, tmp_path) == {"hellaswag": ("pass", 0), "triviaqa": ("pass", 0)}
    (bench / "triviaqa" / "triviaqa_sm_sub.jsonl").write_text("{}\n")
    assert benchmarks_of(config, tmp_path)["triviaqa"] == ("fail", 31)
    gone = scored(tmp_path, str(tmp_path / "benhc"))
    assert benchmarks_of(gone, tmp_path) == dict.fromkeys(("hellaswag", "triviaqa"), ("fail", 30))


def test_items_that_a_run_keeps_are_not_looked_for(tmp_path):
    """A run that goes on reads them in its own folder, or brings them from its mirror."""
    World.create(tmp_path)
    here, there = RunFolder(tmp_path / "run"), run_at(tmp_path / "mirror")
    config = scored(tmp_path, "nowhere", f"checkpoint.mirror={tmp_path / 'mirror'}")
    for folder in (there, here):
        folder.bench.mkdir(parents=True)
        # The one at the mirror counts for nothing where a run has begun.
        if folder is here:
            begin_attempt(here.lineage, AttemptStart(0, 0, None, "a test"))
        assert benchmarks_of(config, tmp_path)["hellaswag"] == ("fail", 30)
        (folder.bench / "hellaswag.json").touch()
        found = benchmarks_of(config, tmp_path)
        assert found == {"hellaswag": ("pass", 0), "triviaqa": ("fail", 30)}
        if folder is there:  # whose copy no run goes on from before a checkpoint is there
            shutil.rmtree(tmp_path / "mirror" / "checkpoints")
            assert benchmarks_of(config, tmp_path)["hellaswag"] == ("fail", 30)
    here.lineage.write_text("no row\n" + here.lineage.read_text())
    assert benchmarks_of(config, tmp_path) == found


def test_a_benchmark_by_which_texts_are_left_out_is_read_where_data_is_prepared(tmp_path):
    """Also of a run that keeps its own items: preparing does not look there."""
    World.create(tmp_path)
    (tmp_path / "run" / "bench").mkdir(parents=True)
    (tmp_path / "run" / "bench" / "triviaqa.json").touch()
    begin_attempt(RunFolder(tmp_path / "run").lineage, AttemptStart(0, 0, None, "a test"))
    left_out = "data.folder_treatment.decontaminate=[gsm8k, triviaqa]"
    skills = "evaluation.skills=[{task: triviaqa}]"
    config = scored(tmp_path, "nowhere", left_out, skills)
    assert benchmarks_of(config, tmp_path) == {"triviaqa": ("pass", 0)}
    missing = dict.fromkeys(("triviaqa", "gsm8k"), ("fail", 30))
    assert benchmarks_of(config, tmp_path, is_prepared=False) == missing
    # At an address lies what is treated already.
    shared = scored(tmp_path, "nowhere", left_out, skills, "data.source=file:///shared")
    assert benchmarks_of(shared, tmp_path, is_prepared=False) == {"triviaqa": ("pass", 0)}
    # So is what tasks of a cluster treated, by a recipe of its own.
    for stage in STAGES:
        write_parts(tmp_path / "parts" / stage, stage=stage)
    parts = scored(tmp_path, "nowhere", left_out, skills, f"data.source={tmp_path / 'parts'}")
    assert benchmarks_of(parts, tmp_path, is_prepared=False) == {"triviaqa": ("pass", 0)}


def test_embedded_sources_are_installed():
    config = load_config(ROOT / "configs" / "embedded")
    nowhere = RunFolder(Path("nowhere"))
    needed = needed_benchmarks(config, is_prepared=False)
    checks = [*checks_of(config, nowhere), *benchmark_checks(needed, kept=())]
    found = [check.made() for check in checks]
    assert {one.state for one in found} == {"pass"}
    assert {"data: wikipedia_leads", "benchmark: humaneval"} <= {one.name for one in found}


def test_a_mirror_takes_an_object_and_keeps_nothing(tmp_path, monkeypatch):
    run = RunFolder(tmp_path / "run")
    for address in (str(tmp_path / "mirror"), f"preflight://{tmp_path}/mirror"):
        assert look_at_mirror(address, run).state == "pass"
        assert list((tmp_path / "mirror").iterdir()) == []
    monkeypatch.setattr(Storage, "mood", "silent")
    with pytest.raises(InfrastructureError, match="connection refused"):
        look_at_mirror(f"preflight://{tmp_path}/mirror", run)
    monkeypatch.setattr(Storage, "mood", "mad")
    with pytest.raises(InfrastructureError, match="other bytes"):
        look_at_mirror(f"preflight://{tmp_path}/mirror", run)
    assert list((tmp_path / "mirror").iterdir()) == []


def test_a_mirror_in_the_run_folder_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(UsageError, match="lie in one another"):
        look_at_mirror(str(tmp_path / "run" / "mirror"), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_wrong_address_is_a_wrong_setting_and_none_is_a_warning(tmp_path):
    with pytest.raises(UsageError, match="nosuch"):
        look_at_mirror("nosuch://bucket/run", RunFolder(tmp_path))
    found = look_at_mirror(None, RunFolder(tmp_path))
    assert found.state == "warn"
    assert "checkpoint.mirror" in found.why


@pytest.mark.parametrize("word", ["hub", "embedded"])
def test_a_folder_with_the_name_of_a_kind_of_source_is_not_taken_for_it(
    tmp_path, monkeypatch, word
):
    config = load_config(ROOT / "configs", overrides=[f"data.source={word}"])
    (tmp_path / word).mkdir()
    (tmp_path / word / "manifest.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert prepared_root(config, RunFolder(tmp_path / "run")) is None
    assert prepared_folder(f"./{word}") == Path(word), "so it can still be meant"
