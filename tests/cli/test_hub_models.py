"""MODEL may be owner/name on the hub: what was put there is written with, exported, trained on."""

import errno
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from tests.data.hub_standin import Fault, HubSet, StandIn, running
from tests.evaluate.runs import new_model, write_run
from tests.sentences import assert_one_sentence
from tests.train.world import STAGES, World
from yxanul.cli.writing import open_writing_model
from yxanul.data.tokenizer import load_tokenizer
from yxanul.errors import (
    BrokenDiskError,
    CorruptDataError,
    DiskError,
    HubUnreachableError,
    InfrastructureError,
    UsageError,
)
from yxanul.evaluate.models.hub import Snapshot, failure, of_cache, snapshot
from yxanul.export.checks import Subject
from yxanul.export.exporting import export_folder
from yxanul.export.reading import read_folder, read_shape
from yxanul.train.starting.init_from import brought_again

NAME, COMMIT = "me/first", "5" * 40


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """An export of a model of the test world's shape."""
    root = tmp_path_factory.mktemp("export")
    model = new_model(write_run(root / "run"), seed=3)
    subject = Subject(model, load_tokenizer(), ())
    return export_folder(
        subject, root / "model", kind="f32", card="# Ours\n", say=lambda _: None
    ).place


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of the hub's library. The tests run without the hub."""
    folder = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture
def cached(exported, cache) -> Path:
    """What lies in the cache after a download: a folder of links."""
    root = cache / "models--me--first"
    folder = root / "snapshots" / COMMIT
    for place in (folder, root / "blobs", root / "refs"):
        place.mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    for path in exported.iterdir():
        blob = root / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blob)
        (folder / path.name).symlink_to(f"../../blobs/{blob.name}")
    return folder


@pytest.mark.usefixtures("cached")
def test_a_model_of_the_hub_writes_what_its_export_writes(call, exported):
    words = ("The city of", "--max_new_tokens", "8", "--json")
    code, out, err = call("generate", NAME, *words)
    assert code == 0, err
    assert f"{NAME} is the copy that is on this machine, of commit {COMMIT}" in err
    theirs = json.loads(call("generate", exported, *words)[1])
    found = json.loads(out)
    assert (found["model"], found["text"]) == (NAME, theirs["text"])
    assert open_writing_model(NAME).name == "first"


@pytest.mark.usefixtures("cache")
def test_chat_with_what_is_no_run_is_refused_before_anything_is_brought_or_read(call, exported):
    for model in (NAME, exported):
        code, out, err = call("generate", model, "How many?", "--chat")
        assert (code, out) == (30, "")
        assert_one_sentence(err, f"--chat needs a run folder or a checkpoint: {model} does not")


@pytest.mark.usefixtures("cached")
def test_a_model_of_the_hub_is_exported_as_its_export_is(call, exported, tmp_path):
    code, _, err = call("export", NAME, "--to", "hf", "--out", tmp_path / "again")
    assert code == 0, err
    assert COMMIT in err
    for path in exported.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name
    more = ("--average", "last:2", "--out", tmp_path / "mean")
    code, _, err = call("export", NAME, "--to", "hf", *more)
    assert (code, "--average takes a run folder" in err) == (30, True)


def test_a_model_of_the_hub_with_another_tokenizer_is_refused(call, cached, tmp_path):
    config = (cached / "config.json").resolve()
    config.write_text(json.dumps({**json.loads(config.read_text()), "eos_token_id": 1}))
    for words in (("generate", NAME, "x"), ("export", NAME, "--to", "hf", "--out", tmp_path / "o")):
        code, _, err = call(*words)
        assert (code, "eos_token_id is 1, and that of GPT-2's tokenizer" in err) == (30, True)
    world = World.create(tmp_path / "world")
    for name in (NAME, str(cached)):
        words = ("--stage", STAGES[0], "--init_from", name)
        told = world.finish("train", "run", *words, code=30).stderr
        assert "eos_token_id is 1, and that of GPT-2's tokenizer" in told


def test_a_run_begins_with_a_model_of_the_hub(cached, tmp_path, monkeypatch):
    world, compared = World.create(tmp_path / "world"), {}
    monkeypatch.setattr(
        "yxanul.train.run.refuse_disagreement", lambda mine, *_, **__: compared.update(mine)
    )
    words = ("--stage", STAGES[0], "--init_from", NAME, "--max_steps")
    done = world.finish("train", "new", *words, "1")
    assert f"--init_from: the hub could not be reached: {NAME} is the copy" in done.stderr
    assert compared["the weights to begin with"] == {"--init_from": COMMIT}
    shutil.rmtree(cached.parents[2])  # a run that has begun reads them no more
    world.finish("train", "new", *words, "2")
    rows = [json.loads(x) for x in (world.root / "new" / "lineage.jsonl").read_text().splitlines()]
    assert rows[0]["parent"] == str(cached)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("verb", ["generate", "serve", "export", "train"])
def test_no_hub_and_no_copy_is_one_sentence_with_ways_on(call, verb, tmp_path):
    world = World.create(tmp_path)
    words = {
        "generate": ("generate", NAME, "x"),
        "serve": ("serve", NAME, "--port", "0"),
        "export": ("export", NAME, "--to", "hf", "--out", tmp_path / "out"),
        "train": (*world.command("train", "run", "--stage", STAGES[0], "--init_from", NAME)[3:],),
    }
    code, _, err = call(*words[verb])
    assert code == 11
    (line,) = err.splitlines()
    for part in (NAME, "no folder here", "could not be reached", "later", "name a folder"):
        assert part in line


@pytest.mark.parametrize("target", ["../../elsewhere", "../../blobs/below/config.json"])
def test_links_that_are_not_the_caches_are_refused(cached, target):
    place = (cached / target).resolve()
    place.parent.mkdir(exist_ok=True)
    shutil.copy(cached / "config.json", place)
    (cached / "config.json").unlink()
    (cached / "config.json").symlink_to(target)
    with pytest.raises(CorruptDataError, match="a link"):
        read_folder(cached)


def test_a_link_in_a_relative_folder_is_told_and_a_linked_card_is_no_card(
    call, exported, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(exported, "m")
    Path("m/README.md").rename("README.md")
    Path("m/README.md").symlink_to("../README.md")
    code, _, err = call("export", "m", "--to", "hf", "--out", "again")
    assert code == 0, err
    assert Path("again/README.md").read_text() != "# Ours\n"
    Path("m/config.json").rename("config.json")
    Path("m/config.json").symlink_to("../config.json")
    code, _, err = call("generate", "m", "x")
    assert (code, "m/config.json is missing, or a link" in err) == (31, True)


def test_links_of_the_cache_are_read_by_a_relative_path(cached, monkeypatch):
    monkeypatch.chdir(cached)
    assert read_folder(Path()).tensors
    monkeypatch.chdir(cached.parent)
    assert read_folder(Path(COMMIT)).tensors


@pytest.mark.parametrize("name", ["runs/frist", "./runs/frist", "./nowhere/frist"])
def test_a_mistyped_path_stays_on_this_machine(call, name, tmp_path, monkeypatch):
    def asked(name: str) -> str:
        raise AssertionError(f"the hub was asked for {name}")

    monkeypatch.setattr("yxanul.evaluate.models.hub.newest_commit", asked)
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    for words in (("generate", name, "x"), ("export", name, "--to", "hf", "--out", "out")):
        code, _, err = call(*words)
        assert (code, "neither a run folder nor one of its checkpoints" in err) == (30, True)
        assert "runs/NAME" in err
    code, _, err = call("evaluate", name)
    assert (code, "is no folder here, and no hub id" in err) == (30, True)
    world = World.create(tmp_path / "world")
    words = ("--stage", STAGES[0], "--init_from", name)
    refused = world.finish("train", "new", *words, code=30)
    assert f"--init_from {name}: there is no such folder" in refused.stderr
    assert not (world.root / "new").exists()


@pytest.fixture
def hub(exported, cache, monkeypatch):
    """A hub that has the export, asked from this process."""
    files = {path.name: path.read_bytes() for path in exported.iterdir()}
    with running(StandIn({NAME: HubSet(files)})) as found:
        constants = "huggingface_hub.constants"
        monkeypatch.setattr(f"{constants}.ENDPOINT", found.address)
        url = f"{found.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", url)
        monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", False)
        yield found


def bring() -> Snapshot:
    return snapshot(NAME, accept=read_shape)


def test_weights_that_a_run_began_with_are_brought_again_at_their_commit(hub, cache):
    begun = bring().folder
    shutil.rmtree(cache)  # as on another machine
    said: list[str] = []
    assert brought_again(begun, say=said.append) == begun
    assert said == [f"--init_from: {NAME} at commit {hub.sets[NAME].sha}"]
    assert read_folder(begun).tensors
    assert brought_again(begun, say=said.append) == begun
    shutil.rmtree(cache)
    hub.break_with(Fault("/api/models/", 502))
    with pytest.raises(HubUnreachableError):
        brought_again(begun, say=said.append)
    assert len(said) == 1
    for place in (Path("run/checkpoints/step-00000008-a0"), Path("a/b"), Path()):
        assert of_cache(place) is None


def test_half_of_the_weights_that_a_run_began_with_is_completed(hub):
    begun = bring().folder
    (begun / "model.safetensors").unlink()  # as a download leaves it that is interrupted
    hub.break_with(Fault("/api/models/", 502))
    with pytest.raises(HubUnreachableError):
        brought_again(begun, say=print)
    assert brought_again(begun, say=print) == begun
    assert read_folder(begun).tensors


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_token_is_no_outage(hub, status):
    bring()  # an older copy does not stand in for what the token may not read
    words = {"X-Error-Message": "Invalid credentials in Authorization header"}
    hub.break_with(Fault("/api/models/", status, headers=words))
    with pytest.raises(UsageError, match="HF_TOKEN"):
        bring()
    hub.break_with(Fault("/api/models/", 502))
    assert "could not be reached" in bring().note


def test_half_a_newer_commit_does_not_hide_the_whole_one(hub, monkeypatch):
    first = hub.sets[NAME].sha
    assert bring().note == f"{NAME} at commit {first}"
    hub.sets[NAME].files["model.safetensors"] += b" "
    hub.break_with(Fault("model.safetensors", 501, times=99))
    with pytest.raises(HubUnreachableError):
        bring()
    assert hub.asked(f"/{hub.sets[NAME].sha}/config.json")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert bring().note.endswith(f"of commit {first}")


BRING = """
import sys
from yxanul.errors import YxanulError
from yxanul.evaluate.models.hub import snapshot
from yxanul.export.reading import read_folder, read_shape
for name in sys.argv[1:]:
    try:
        found = snapshot(name, accept=read_shape)
        print(found.note, len(read_folder(found.folder).tensors), "tensors")
    except YxanulError as error:
        print(type(error).__name__, error)
"""


OPEN = """
import sys
from yxanul.errors import YxanulError
from yxanul.evaluate.models.opened import open_for_scoring
try:
    opened = open_for_scoring(sys.argv[1])
    print(*opened.notes)
    print(opened.weights, opened.records)
except YxanulError as error:
    print(type(error).__name__, error)
"""


def brought(
    hub: StandIn, home: Path, *names: str, program: str = BRING, **environment: str
) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program, *names],
        capture_output=True,
        text=True,
        env=hub.environment(home, **environment),
        timeout=120,
        check=True,
    )
    assert program == OPEN or done.stderr == ""  # transformers itself shows a bar
    return done.stdout.splitlines()


@pytest.mark.parametrize("program", [BRING, pytest.param(OPEN, marks=pytest.mark.slow)])
def test_a_storage_that_is_not_reached_is_no_users_mistake(exported, tmp_path, program):
    """The hub's large files come by a library of their own, whose errors have no class."""
    files = {path.name: path.read_bytes() for path in exported.iterdir()}
    once = {"HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "0", "HF_XET_CLIENT_RETRY_BASE_DELAY": "1ms"}
    with running(StandIn({NAME: HubSet(files, storage="http://127.0.0.1:9")})) as hub:
        (told,) = brought(hub, tmp_path / "home", NAME, program=program, **once)
        assert hub.asked("/xet-read-token/")
    assert told.startswith(f"HubUnreachableError {NAME} could not be brought from the hub (")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("Data processing error: No space left on device (os error 28)"), DiskError),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            InfrastructureError,
        ),
        (OSError("Cannot allocate memory (os error 12)"), InfrastructureError),
        (OSError("Stale file handle (os error 116)"), BrokenDiskError),
    ],
)
def test_what_this_machine_lacks_is_no_users_mistake(error, kind):
    with pytest.raises(kind):
        raise failure(NAME, error)


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "Permission denied", "models"),
        RuntimeError("Data processing error: Read-only file system (os error 30)"),
        OSError(errno.EFBIG, "File too large"),
        AttributeError("module 'hf_xet' has no attribute 'XetSession'"),
    ],
    ids=["folder", "words", "size", "version"],
)
def test_what_is_refused_on_this_machine_is_no_outage(hub, monkeypatch, error):
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("huggingface_hub.file_download.http_get", refuse)
    with pytest.raises(UsageError, match=re.escape(str(error))):
        bring()
    assert hub.requests


def test_a_model_without_a_configuration_is_no_damage(hub):
    del hub.sets[NAME].files["config.json"]
    with pytest.raises(UsageError, match=f"{NAME} has no config.json, so it is no model for"):
        bring()


@pytest.mark.slow
def test_what_an_export_holds_is_brought_and_nothing_else(exported, tmp_path):
    files = {path.name: path.read_bytes() for path in exported.iterdir()}
    other = {**files, "config.json": b'{"model_type": "llama"}'}
    sets = {NAME: HubSet({**files, "pytorch_model.bin": b"no"}), "you/other": HubSet(other)}
    with running(StandIn(sets)) as hub:
        ours, theirs, nobodys = brought(hub, tmp_path / "home", NAME, "you/other", "no/body")
        fetched = {path.rpartition("/")[2] for path in hub.asked(f"/{hub.sets[NAME].sha}/")}
        assert fetched & {*files, "pytorch_model.bin"} == {
            "config.json",
            "model.safetensors",
            "README.md",
        }
        assert ours.startswith(f"{NAME} at commit {hub.sets[NAME].sha}")
        assert theirs.startswith("UsageError")
        assert not [path for path in hub.asked(hub.sets["you/other"].sha) if "safetensors" in path]
        assert nobodys.startswith("UsageError no/body is no folder here, and the hub has no model")
        (alone,) = brought(hub, tmp_path / "home", NAME, HF_HUB_OFFLINE="1")
        assert f"is the copy that is on this machine, of commit {hub.sets[NAME].sha}" in alone


@pytest.mark.slow
def test_a_model_that_was_scored_is_on_this_machine_when_the_hub_is_not(exported, tmp_path):
    files = {path.name: path.read_bytes() for path in exported.iterdir()}
    with running(StandIn({NAME: HubSet(files)})) as hub:
        first, state = brought(hub, tmp_path / "home", NAME, program=OPEN)
        alone, again = brought(hub, tmp_path / "home", NAME, program=OPEN, HF_HUB_OFFLINE="1")
        sha = hub.sets[NAME].sha
    assert state == again == f"{sha} evaluation/me_first-{sha[:8]}"
    assert first.startswith(f"{NAME} at commit {sha}")
    assert alone.startswith(f"the hub could not be reached: {NAME} is the copy that is on this")


def test_a_commit_that_lacks_a_file_of_its_weights_is_no_outage(hub):
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    hub.sets[NAME].files["model.safetensors.index.json"] = json.dumps(index).encode()
    begun = bring().folder
    with pytest.raises(CorruptDataError, match=r"has no model-2.safetensors on the hub either"):
        brought_again(begun, say=print)


def test_an_outage_between_two_questions_is_no_damage(hub, cache, exported):
    """Where it has no list of a commit's files, the hub's library hands out what part is here."""
    place = cache / "models--me--first" / "snapshots" / hub.sets[NAME].sha
    place.mkdir(parents=True)
    shutil.copy(exported / "config.json", place)
    hub.break_with(Fault("/tree/", 501))
    with pytest.raises(HubUnreachableError, match="is here in part"):
        brought_again(place, say=print)
    assert hub.asked("/tree/")
    assert brought_again(place, say=print) == place


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError("Stale file handle (os error 116)"), BrokenDiskError),
        (SafetensorError("Cannot allocate memory (os error 12)"), MemoryError),
        (PermissionError(errno.EACCES, "Permission denied"), PermissionError),
        (SafetensorError("Error while deserializing header"), CorruptDataError),
    ],
)
def test_weights_that_cannot_be_read_now_are_not_taken_for_damaged(
    exported, monkeypatch, error, kind
):
    """safetensors, in Rust, tells what the system said in words alone."""

    def fail(_: Path) -> None:
        raise error

    monkeypatch.setattr("yxanul.export.reading.load_file", fail)
    with pytest.raises(kind):
        read_folder(exported)
