"""Prepared data goes to a storage and comes back whole, or not at all."""

from pathlib import Path

import fsspec
import pytest

from tests.data.memory import (
    MemorySource,
    plan,
    prepare_plans,
    prepare_texts,
    sentences,
    stage,
)
from tests.train.world import World
from yxanul.data import progress
from yxanul.data.places.remote import download, try_upload, upload
from yxanul.data.prepared.manifest import load_manifest
from yxanul.data.prepared.verify import verify
from yxanul.data.preparing.prepare import prepare
from yxanul.data.progress import unheard as hush
from yxanul.errors import (
    CorruptShardError,
    DiskError,
    InfrastructureError,
    MissingExtraError,
    StoppedOnRequest,
    UsageError,
)

ADDRESS = "memory://bucket/prepared"


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    root = tmp_path / "prepared"
    prepare_texts(root, stones=sentences(120), trees=sentences(80, about="tree"))
    return root


def files_of(root: Path) -> dict[str, bytes]:
    named = [root / file.path for file in load_manifest(root).files()]
    return {str(f.relative_to(root)): f.read_bytes() for f in [*named, root / "manifest.json"]}


def test_what_is_uploaded_comes_back_byte_for_byte(
    storage: fsspec.AbstractFileSystem, prepared: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    upload(prepared, ADDRESS, say=said.append)
    assert said[-1].endswith("files and their manifest")
    manifest = download(ADDRESS, tmp_path / "here", say=hush)
    verify(manifest, tmp_path / "here")
    assert files_of(tmp_path / "here") == files_of(prepared)
    # Again: nothing is copied twice, in either direction.
    said.clear()
    upload(prepared, ADDRESS, say=said.append)
    download(ADDRESS, tmp_path / "here", say=said.append)
    assert len(said) == 1


def test_stages_that_are_added_while_data_is_sent_are_not_named_there(
    storage: fsspec.AbstractFileSystem, prepared: Path, tmp_path: Path
) -> None:
    before = load_manifest(prepared)

    def add(line: str) -> None:
        if ": 1 of" in line:
            added = plan(MemorySource("hills", sentences(90, about="hill")), stage="stage2_tests")
            prepare_plans(prepared, plans=[added])

    upload(prepared, ADDRESS, say=add)
    assert "stage2_tests" in load_manifest(prepared).stages
    assert download(ADDRESS, tmp_path / "here", say=hush) == before


def test_a_file_that_went_missing_here_is_brought_again(
    storage: fsspec.AbstractFileSystem, prepared: Path, tmp_path: Path
) -> None:
    upload(prepared, ADDRESS, say=hush)
    stages, here, said = [stage("stage1_tests", source=ADDRESS)], tmp_path / "here", list[str]()
    prepare(stages, here, progress=hush)
    (lost,) = here.glob("trees/train-00000.bin")
    lost.unlink()
    prepare(stages, here, progress=said.append)
    assert files_of(here) == files_of(prepared)
    assert "train-00000.bin is missing" in said[0]
    assert ADDRESS in said[0]
    assert [line.split(": ")[1] for line in said[1:]] == ["1 of 1 files, trees/train-00000.bin"]


def test_a_copy_that_was_interrupted_goes_on(
    storage: fsspec.AbstractFileSystem, prepared: Path, tmp_path: Path
) -> None:
    class CutOffError(Exception):
        pass

    def die_after(files: int) -> list[str]:
        said: list[str] = []

        def say(line: str) -> None:
            said.append(line)
            if len(said) == files:
                raise CutOffError

        for work in (
            lambda: upload(prepared, ADDRESS, say=say),
            lambda: download(ADDRESS, tmp_path / "here", say=say),
        ):
            if len(said) < files:
                with pytest.raises(CutOffError):
                    work()
        return said

    die_after(3)
    assert not storage.exists("/bucket/prepared/manifest.json")
    with pytest.raises(UsageError, match="holds no manifest"):
        download(ADDRESS, tmp_path / "here", say=hush)
    said: list[str] = []
    upload(prepared, ADDRESS, say=said.append)
    assert said[0].split(": ")[1].startswith("4 of")

    def die(line: str) -> None:
        if ": 2 of" in line:
            raise CutOffError

    with pytest.raises(CutOffError):
        download(ADDRESS, tmp_path / "here", say=die)
    assert not (tmp_path / "here" / "manifest.json").exists()
    said.clear()
    download(ADDRESS, tmp_path / "here", say=said.append)
    assert len(said) == len(list(load_manifest(prepared).files())) - 2
    assert files_of(tmp_path / "here") == files_of(prepared)


@pytest.mark.parametrize("harm", ["flip", "cut", "longer"])
def test_bytes_that_the_storage_changed_are_named_and_not_taken(
    storage: fsspec.AbstractFileSystem, prepared: Path, tmp_path: Path, harm: str
) -> None:
    upload(prepared, ADDRESS, say=hush)
    victim = next(file.path for file in load_manifest(prepared).files())
    content = storage.cat_file(f"/bucket/prepared/{victim}")
    changed = {"flip": bytes([content[0] ^ 1]) + content[1:], "cut": content[:-2]}
    storage.pipe_file(f"/bucket/prepared/{victim}", changed.get(harm, content + b"xx"))
    with pytest.raises(CorruptShardError, match=f"{victim} is not what its manifest says"):
        download(ADDRESS, tmp_path / "here", say=hush)
    assert not (tmp_path / "here" / "manifest.json").exists()
    assert not list((tmp_path / "here").rglob("*.bin*"))


def test_an_upload_mends_what_lies_there_with_other_bytes(
    storage: fsspec.AbstractFileSystem, prepared: Path, tmp_path: Path
) -> None:
    upload(prepared, ADDRESS, say=hush)
    victim = next(file.path for file in load_manifest(prepared).files())
    content = storage.cat_file(f"/bucket/prepared/{victim}")
    storage.pipe_file(f"/bucket/prepared/{victim}", bytes([content[0] ^ 1]) + content[1:])
    said: list[str] = []
    upload(prepared, ADDRESS, say=said.append)
    assert victim in said[0]
    assert len(said) == 2
    download(ADDRESS, tmp_path / "here", say=hush)


def test_a_password_in_an_address_is_refused_and_not_repeated(prepared: Path) -> None:
    with pytest.raises(UsageError, match="may not hold a password") as refused:
        upload(prepared, "sftp://me:secret@127.0.0.1/x", say=hush)
    assert "secret" not in str(refused.value)


def test_other_data_is_not_mixed_in_on_either_side(
    storage: fsspec.AbstractFileSystem, prepared: Path, tmp_path: Path
) -> None:
    upload(prepared, ADDRESS, say=hush)
    other = tmp_path / "other"
    prepare_texts(other, stones=sentences(90, about="bird"))
    with pytest.raises(UsageError, match="holds another stones than this folder"):
        upload(other, ADDRESS, say=hush)
    with pytest.raises(UsageError, match="holds another stones than this folder"):
        download(ADDRESS, other, say=hush)
    next(prepared.rglob("*.bin")).write_bytes(b"xx")
    with pytest.raises(CorruptShardError):
        upload(prepared, ADDRESS, say=hush)


def test_a_copy_that_would_lose_a_stage_is_refused_on_either_side(
    storage: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    one = plan(MemorySource("stones", sentences(120)), stage="one")
    two = plan(MemorySource("trees", sentences(80, about="tree")), stage="two")
    prepare_plans(tmp_path / "one", plans=[one])
    prepare_plans(tmp_path / "both", plans=[one, two])
    upload(tmp_path / "one", ADDRESS, say=hush)
    before = files_of(tmp_path / "both")
    with pytest.raises(UsageError, match="both holds two, trees, which memory"):
        download(ADDRESS, tmp_path / "both", say=hush)
    assert files_of(tmp_path / "both") == before
    upload(tmp_path / "both", ADDRESS, say=hush)
    with pytest.raises(UsageError, match=f"{ADDRESS} holds two, trees, which .* unreachable"):
        upload(tmp_path / "one", ADDRESS, say=hush)
    assert list(download(ADDRESS, tmp_path / "one", say=hush).stages) == ["one", "two"]


def test_two_downloads_do_not_write_one_folder(
    storage: fsspec.AbstractFileSystem, prepared: Path, tmp_path: Path
) -> None:
    upload(prepared, ADDRESS, say=hush)
    here = tmp_path / "here"

    def begin_another(line: str) -> None:
        with pytest.raises(UsageError, match="Another process is preparing"):
            download(ADDRESS, here, say=hush)

    download(ADDRESS, here, say=begin_another)
    assert not (here / "preparing.json").exists()
    # The proof that something unfinished is ours stays with it.
    (here / "preparing.json").write_text('["clouds"]')
    download(ADDRESS, here, say=hush)
    assert (here / "preparing.json").read_text() == '["clouds"]'


def test_a_manifest_that_names_files_outside_is_refused(
    storage: fsspec.AbstractFileSystem, prepared: Path, tmp_path: Path
) -> None:
    upload(prepared, ADDRESS, say=hush)
    place = "/bucket/prepared/manifest.json"
    text = storage.cat_file(place).decode().replace("stones/train-00000.bin", "../../x.bin")
    assert "../../x.bin" in text
    storage.pipe_file(place, text.encode())
    with pytest.raises(CorruptShardError, match=ADDRESS):
        download(ADDRESS, tmp_path / "here", say=hush)
    assert not (tmp_path / "x.bin").exists()


def test_a_manifest_that_is_not_utf_8_is_damage_and_no_fault_of_the_address(
    storage: fsspec.AbstractFileSystem, prepared: Path, tmp_path: Path
) -> None:
    upload(prepared, ADDRESS, say=hush)
    storage.pipe_file("/bucket/prepared/manifest.json", b"\xff...")
    with pytest.raises(CorruptShardError, match=f"{ADDRESS}/manifest.json is not valid JSON"):
        download(ADDRESS, tmp_path / "here", say=hush)


def test_what_a_storage_refuses_is_one_sentence(
    storage: fsspec.AbstractFileSystem,
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "here"
    with pytest.raises(UsageError, match="nowhere://x cannot be reached or used"):
        download("nowhere://x", out, say=hush)
    upload(prepared, ADDRESS, say=hush)
    for error, wanted in (
        (PermissionError("no key"), UsageError),
        (ImportError("install s3fs"), MissingExtraError),
        (TimeoutError("slow"), InfrastructureError),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(storage.__class__, "open", lambda *a, e=error, **k: _raise(e))
            with pytest.raises(wanted, match=str(error)):
                download(ADDRESS, out, say=hush)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 5})())
        with pytest.raises(DiskError, match="5 B free"):
            download(ADDRESS, out, say=hush)
    some = [stage("one", source=ADDRESS), stage("two", source="embedded")]
    with pytest.raises(UsageError, match="for some stages only"):
        prepare(some, out, progress=hush)
    with pytest.raises(UsageError, match="neither a prepared folder nor texts that the tasks"):
        prepare([stage("one", source="memory://empty")], out, progress=hush)


def test_what_fails_on_this_machine_is_not_told_of_the_address(
    storage: fsspec.AbstractFileSystem,
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload(prepared, ADDRESS, say=hush)
    here = tmp_path / "here"

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        with pytest.raises(DiskError, match=r"train-00000\.bin could not be written"):
            download(ADDRESS, here, say=hush)
    download(ADDRESS, here, say=hush)
    (here / "manifest.json").unlink()
    whole = Path.open

    def unread(path: Path, *more: object, **options: object) -> object:
        refused = path.name == "train-00000.bin"
        return refuse() if refused else whole(path, *more, **options)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", unread)
        with pytest.raises(CorruptShardError, match=r"train-00000\.bin cannot be read"):
            download(ADDRESS, here, say=hush)


def test_news_that_cannot_be_told_is_no_fault_of_the_address(
    storage: fsspec.AbstractFileSystem,
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(line: str) -> None:
        if ADDRESS in line:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        upload(prepared, ADDRESS, say=full)
    monkeypatch.setattr(progress, "_PROGRESS_S", 0)
    with pytest.raises(OSError, match="No space left"):  # while the first file is compared
        upload(prepared, ADDRESS, say=full)
    upload(prepared, ADDRESS, say=hush)
    with pytest.raises(OSError, match="No space left"):
        download(ADDRESS, tmp_path / "here", say=full)


def test_comparing_what_is_there_tells_how_far_it_is_and_can_be_stopped(
    storage: fsspec.AbstractFileSystem,
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = tmp_path / "here"
    upload(prepared, ADDRESS, say=hush)
    download(ADDRESS, here, say=hush)
    (here / "manifest.json").unlink()
    monkeypatch.setattr(progress, "_PROGRESS_S", 0)

    def stop(line: str) -> None:
        if "comparing what is there already" in line:
            raise StoppedOnRequest(line)

    with pytest.raises(StoppedOnRequest, match=f"{ADDRESS}: .* B of .* KiB"):
        upload(prepared, ADDRESS, say=stop)
    with pytest.raises(StoppedOnRequest, match=f"{here}: .* B of .* KiB"):
        download(ADDRESS, here, say=stop)


def _raise(error: Exception) -> None:
    raise error


def test_a_run_reads_an_address_once(storage: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    world = World.create(tmp_path)
    out = world.root / "prepared"
    world.finish("prepare", "prepared", "--stage", "all", "--upload", ADDRESS)
    world.finish("run", "near", "--data", str(out), "--max_steps", "2")
    world.finish("run", "far", "--data", ADDRESS, "--max_steps", "2")
    near, far = (
        (world.root / name / "metrics.jsonl").read_text().count("\n") for name in ("near", "far")
    )
    assert near == far > 0
    storage.store.clear()
    world.finish("run", "far", "--data", ADDRESS, "--max_steps", "3")


@pytest.mark.parametrize("address", ["s3:/bucket/data", "s3//bucket/data", "bucket"])
def test_what_is_no_address_is_refused_before_anything_is_prepared(
    tmp_path: Path, address: str
) -> None:
    world = World.create(tmp_path)
    done = world.finish("prepare", "prepared", "--stage", "all", "--upload", address, code=30)
    assert f"--upload {address} is neither an address, such as" in done.stderr
    assert not (tmp_path / "prepared").exists()


def test_an_address_is_tried_out_before_anything_is_prepared(
    storage: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (ADDRESS, str(tmp_path)):
        try_upload(place, [], out=tmp_path / "out", say=hush)
    assert not list(tmp_path.iterdir())
    assert not storage.find("/")
    world = World.create(tmp_path)
    monkeypatch.setattr(storage.__class__, "put_file", lambda *a, **k: _raise(PermissionError()))
    done = world.finish("prepare", "prepared", "--stage", "all", "--upload", ADDRESS, code=30)
    assert f"{ADDRESS} cannot be reached or used (PermissionError" in done.stderr
    assert not (tmp_path / "prepared").exists()
