"""What changed around prepared data: a run that reads it is told, anybody else is refused."""

import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.data.bench_rows import gsm8k_rows, humaneval_rows, write_bench_folder, write_lines
from tests.data.closing import close
from tests.data.memory import sentences, source, stage
from yxanul.config.schema import StageConfig
from yxanul.config.treatment import TreatmentConfig
from yxanul.data.document import Document
from yxanul.data.parts.files import PartWriter, Provenance
from yxanul.data.places.folders import prepared_folder
from yxanul.data.prepared.manifest import Manifest, load_manifest, write_manifest
from yxanul.data.preparing.prepare import prepare
from yxanul.data.progress import unheard as hush
from yxanul.data.treating.treatment import Recipe, Treater, Treatment
from yxanul.errors import BrokenDiskError, CorruptDataError, UsageError
from yxanul.runfolder.durable import write_json
from yxanul.runfolder.layout import RunFolder

JINJA = "package:jinja2"


def write_texts(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number, text in enumerate(sentences(120)):
        (folder / f"{number:03d}.txt").write_text(text)
    return folder


def write_pages(docs: Path) -> None:
    for number in range(60):
        text = f"# Stones\n\nCount heap {number}:\n\n```python\ncount = {number}\n```\n"
        (docs / f"{number}.md").write_text(text)


def write_parts(folder: Path, *, cleared_of: dict[str, str], of: str = "s") -> Path:
    """Write what two tasks of a cluster leave."""
    made = Treatment(TreatmentConfig(), min_tokens=None)
    for rank, rows in enumerate((sentences(60), sentences(60, about="tree"))):
        with PartWriter(str(folder), rank, provenance=Provenance(of, "mine")) as writer:
            for number, text in enumerate(Treater(made).treat(rows)):
                writer.append(Document(rows[number], "s", f"s/{rank}-{number}"), text)
            writer.finish(Recipe(made, cleared_of, made.tools), world_size=2)
    return folder


def reading(source: Path | str, *, bench: Path | str | None = None) -> StageConfig:
    tasks = [] if bench is None else ["gsm8k", "humaneval"]
    config = stage("s", source=str(source), folder_treatment={"decontaminate": tasks})
    if bench is None:
        return config
    evaluation = config.evaluation.model_copy(update={"bench": str(bench)})
    return config.model_copy(update={"evaluation": evaluation})


def goes_on(config: StageConfig, out: Path, *, held: Manifest) -> str:
    """Prepare for a run that has begun, which keeps what it has; return what it is told first."""
    said: list[str] = []
    assert prepare([config], out, progress=said.append, is_in_use=True) == held
    return said[0]


def test_a_damaged_file_of_a_benchmark_is_told_to_a_run_that_has_begun(tmp_path: Path) -> None:
    bench, out = write_bench_folder(tmp_path / "bench"), tmp_path / "out"
    config = reading(write_texts(tmp_path / "texts"), bench=bench)
    held = prepare([config], out, progress=hush)
    with (bench / "gsm8k" / "test.jsonl").open("a") as lines:
        lines.write('{"question": "How')
    with pytest.raises(CorruptDataError, match=r"test\.jsonl, line 13 is not valid JSON"):
        prepare([config], out, progress=hush)
    told = goes_on(config, out, held=held)
    assert told.startswith("what s was cleared of is not compared: ")
    assert "line 13 is not valid JSON" in told


@pytest.mark.parametrize("is_damaged", [False, True])
def test_every_difference_of_items_is_told_and_what_to_do_about_none(
    tmp_path: Path, is_damaged: bool
) -> None:
    """Nothing is refused, so there is no advice, and a damaged file hides no difference."""
    bench, out = write_bench_folder(tmp_path / "bench"), tmp_path / "out"
    config = reading(write_texts(tmp_path / "texts"), bench=bench)
    held = prepare([config], out, progress=hush)
    write_lines(bench / "gsm8k/test.jsonl", [{}] if is_damaged else gsm8k_rows(5))
    write_lines(bench / "human-eval/HumanEval.jsonl.gz", humaneval_rows(5))
    said: list[str] = []
    assert prepare([config], out, progress=said.append, is_in_use=True) == held
    first, second = said[:2]
    assert "not compared" in first if is_damaged else "other items of gsm8k" in first
    assert "other items of humaneval" in second
    assert second.endswith("); the data is used as it is")
    assert "choose another folder" not in " ".join(said)


def test_a_folder_that_is_closed_is_told_to_a_run_that_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, out = write_texts(tmp_path / "texts"), tmp_path / "out"
    config = reading(texts)
    held = prepare([config], out, progress=hush)
    close(texts, monkeypatch)
    assert prepared_folder(str(texts)) is None
    for place in (out, tmp_path / "other"):
        with pytest.raises(CorruptDataError, match=r"texts cannot be read \(Permission denied\)"):
            prepare([config], place, progress=hush)
    assert "texts cannot be read" in goes_on(config, out, held=held)


def test_a_stages_own_folder_that_is_closed_or_lost_is_told_to_a_run_that_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write_texts(tmp_path / "texts" / "s")
    config = reading(tmp_path / "texts")
    held = prepare([config], out, progress=hush)
    says = ((False, "s cannot be read (Permission denied)"), (True, "s (Stale file handle)"))
    for is_stale, why in says:
        with monkeypatch.context() as patch:
            close(tmp_path / "texts" / "s", patch, is_stale=is_stale)
            assert why in goes_on(config, out, held=held)
            told = BrokenDiskError if is_stale else CorruptDataError
            with pytest.raises(told):
                prepare([config], tmp_path / "other", progress=hush)


def test_benchmarks_on_a_disk_that_is_away_are_told_to_a_run_that_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, out = write_bench_folder(tmp_path / "bench"), tmp_path / "out"
    config = reading(write_texts(tmp_path / "texts"), bench=bench)
    held = prepare([config], out, progress=hush)
    close(bench, monkeypatch, is_stale=True)
    with pytest.raises(BrokenDiskError, match=r"the disk failed at .*bench"):
        prepare([config], out, progress=hush)
    assert "is not compared: the disk failed at" in goes_on(config, out, held=held)


def test_nobody_is_told_to_remove_the_prepared_data_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, run = tmp_path / "prepared", RunFolder(tmp_path / "run")
    prepare([reading(write_texts(tmp_path / "texts"))], prepared, progress=hush)
    run.root.mkdir()
    close(prepared, monkeypatch)
    assert prepared_folder(str(prepared), run=run) is None
    write_json(run.data_pointer, {"prepared": str(prepared)})
    assert prepared_folder(str(tmp_path / "texts"), run=run) is None
    with pytest.raises(CorruptDataError, match=r"run's prepared data in .* cannot be read") as told:
        prepared_folder(str(prepared), run=run)
    assert str(told.value).endswith(": give this user the right to read it.")
    monkeypatch.undo()
    close(prepared, monkeypatch, is_stale=True)
    with pytest.raises(BrokenDiskError, match=r"the disk failed at .*prepared"):
        prepared_folder(str(prepared), run=run)


@pytest.mark.parametrize("call", ["open", "stat"])
def test_a_file_of_a_benchmark_that_may_not_be_read_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    bench, out = write_bench_folder(tmp_path / "bench"), tmp_path / "out"
    config = reading(write_texts(tmp_path / "texts"), bench=bench)
    held = prepare([config], out, progress=hush)
    whole = {"open": io.open, "stat": os.stat}[call]

    def refused(place: Any, *more: Any, **options: Any) -> Any:  # root reads whatever there is
        if str(place).endswith("test.jsonl"):
            raise PermissionError(13, "Permission denied", str(place))
        return whole(place, *more, **options)

    monkeypatch.setattr("builtins.open" if call == "open" else "os.stat", refused)
    with pytest.raises(CorruptDataError, match=r"test\.jsonl cannot be read \(Permission denied\)"):
        prepare([config], out, progress=hush)
    assert "test.jsonl cannot be read" in goes_on(config, out, held=held)


@pytest.mark.parametrize("name", ["below", "texts"])
def test_a_folder_that_may_not_be_read_now_is_told_to_a_run_that_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    texts, out = write_texts(tmp_path / "texts"), tmp_path / "out"
    (texts / "below").mkdir()
    config = reading(texts)
    held = prepare([config], out, progress=hush)
    scandir, listdir = os.scandir, os.listdir

    def refuse(place: Any) -> None:  # the tests may run as root, whom no right stops
        if os.fspath(place).endswith(name):
            raise PermissionError(13, "Permission denied", place)

    monkeypatch.setattr(os, "scandir", lambda place: refuse(place) or scandir(place))
    monkeypatch.setattr(os, "listdir", lambda place: refuse(place) or listdir(place))
    with pytest.raises(CorruptDataError, match=rf"{name} cannot be read \(Permission denied\)"):
        prepare([config], out, progress=hush)
    assert f"{name} cannot be read" in goes_on(config, out, held=held)


def test_parts_that_are_run_again_do_not_stop_a_run_that_has_begun(tmp_path: Path) -> None:
    parts, out = write_parts(tmp_path / "parts", cleared_of={}), tmp_path / "out"
    held = prepare([reading(parts)], out, progress=hush)
    (parts / "00001.done.json").unlink()
    with pytest.raises(UsageError, match="parts is not as it was when"):
        prepare([reading(parts)], out, progress=hush)
    assert "parts is not as it was when" in goes_on(reading(parts), out, held=held)


def test_parts_that_are_joined_are_compared_by_their_sums_alone(tmp_path: Path) -> None:
    """Who wrote them, and what other tasks left beside them, mattered when they were joined."""
    parts, out = write_parts(tmp_path / "parts", cleared_of={}), tmp_path / "out"
    held = prepare([reading(parts)], out, progress=hush)
    for file in sorted(parts.glob("*.done.json")):
        done = json.loads(file.read_text())
        del done["provenance"]["source"]  # as an earlier version left it
        file.write_text(json.dumps(done))
    shutil.copy(parts / "00001.done.json", parts / "00002.done.json")
    assert prepare([reading(parts)], out, progress=hush) == held
    first = parts / "00000.done.json"
    done = json.loads(first.read_text())
    done["sha256"]["ids.bin"] = "0" * 64
    first.write_text(json.dumps(done))
    with pytest.raises(UsageError, match="parts is not as it was when"):
        prepare([reading(parts)], out, progress=hush)


def test_parts_that_are_joined_and_cannot_be_read_need_not_be_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, out = write_parts(tmp_path / "parts", cleared_of={}), tmp_path / "out"
    held = prepare([reading(parts)], out, progress=hush)
    whole = io.open

    def refused(place: Any, *more: Any, **options: Any) -> Any:  # root reads whatever there is
        if str(place).endswith("00001.done.json"):
            raise PermissionError(13, "Permission denied", str(place))
        return whole(place, *more, **options)

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refused)
        told = [goes_on(reading(parts), out, held=held)]
    (parts / "00001.done.json").write_text("{")
    told.append(goes_on(reading(parts), out, held=held))
    assert "cannot be read (Permission denied); put it back as it was, or move it away" in told[0]
    assert "00001.done.json is not valid JSON" in told[1]
    assert "again" not in "".join(told)


def test_what_the_tasks_of_a_cluster_looked_for_is_not_compared_when_their_parts_are_gone(
    tmp_path: Path,
) -> None:
    parts = write_parts(tmp_path / "parts", cleared_of={"gsm8k": "0" * 64})
    config = reading(parts, bench=write_bench_folder(tmp_path / "bench"))
    # The settings of what a cluster treated are those of the tasks.
    config = config.model_copy(update={"data": reading(parts).data})
    held = prepare([config], tmp_path / "out", progress=hush)
    shutil.rmtree(parts)
    assert prepare([config], tmp_path / "out", progress=hush) == held


def test_other_items_than_an_address_was_cleared_of_are_not_passed_over(tmp_path: Path) -> None:
    bench, out = write_bench_folder(tmp_path / "bench"), tmp_path / "out"
    config = reading(write_texts(tmp_path / "texts"), bench=bench)
    prepare([config], out, progress=hush)
    fsspec.filesystem("memory").put(str(out), "/cleared", recursive=True)
    far, near = reading("memory://cleared", bench=bench), tmp_path / "near"
    held = prepare([far], near, progress=hush)
    with (bench / "gsm8k" / "test.jsonl").open("a") as lines:
        lines.write(json.dumps({"question": "How many?", "answer": "7\n#### 7"}) + "\n")
    # Who prepared it may have read the hub's, which differ for good: it is told, not refused.
    told: list[str] = []
    assert prepare([far], near, progress=told.append) == held
    assert "cleared of other items of gsm8k" in "".join(told)


def test_documentation_that_changed_after_it_was_prepared_is_not_ignored(tmp_path: Path) -> None:
    docs, out = tmp_path / "docs", tmp_path / "out"
    head, page = docs / ".git" / "HEAD", docs / "7.md"
    head.parent.mkdir(parents=True)
    head.write_text("0" * 40)
    write_pages(docs)
    sources = [source("docs", documentation=str(docs)), source("jinja", documentation=JINJA)]
    config = stage("s", source="embedded", embedded_sources=sources)
    held = prepare([config], out, progress=hush)
    before = page.read_text()
    for file, content in ((head, "1" * 40), (page, before.replace("7", "8")), (page, None)):
        kept = file.read_text()
        file.unlink() if content is None else file.write_text(content)
        with pytest.raises(UsageError, match=r"docs is not as it was .*@0000"):
            prepare([config], out, progress=hush)
        assert "docs is not as it was" in goes_on(config, out, held=held)
        file.write_text(kept)
        assert prepare([config], out, progress=hush) == held
    shutil.rmtree(docs)
    assert prepare([config], out, progress=hush) == held


@pytest.mark.parametrize("name", ["HEAD", "packed-refs"])
def test_a_checkout_whose_commit_cannot_be_told_stops_no_run_that_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    docs, out = tmp_path / "docs", tmp_path / "out"
    (docs / ".git").mkdir(parents=True)
    (docs / ".git" / "HEAD").write_text("ref: refs/heads/main")
    (docs / ".git" / "packed-refs").write_text(f"{'0' * 40} refs/heads/main\n")
    write_pages(docs)
    sources = [source("docs", documentation=str(docs)), source("jinja", documentation=JINJA)]
    config = stage("s", source="embedded", embedded_sources=sources)
    held = prepare([config], out, progress=hush)
    with monkeypatch.context() as patch:
        close(docs / ".git", patch)
        assert ".git/HEAD cannot be read" in goes_on(config, out, held=held)
    (docs / ".git" / name).write_bytes(b"ref: \xff")
    assert f"{name} is no text" in goes_on(config, out, held=held)
    with pytest.raises(CorruptDataError, match="mend the checkout"):
        prepare([config], out, progress=hush)


def test_a_licence_that_was_corrected_after_the_data_was_prepared_is_told(tmp_path: Path) -> None:
    def asked(**papers: str) -> StageConfig:
        jinja = source("jinja", documentation=JINJA, **papers)
        return stage("s", source="embedded", embedded_sources=[jinja])

    prepare([asked(licence="MIT")], tmp_path, progress=hush)
    for same in ({}, {"licence": "MIT"}):
        said: list[str] = []
        prepare([asked(**same)], tmp_path, progress=said.append)
        assert "its stage says" not in "".join(said)
    said = []
    prepare([asked(licence="CC0-1.0", attribution="us")], tmp_path, progress=said.append)
    assert "holds jinja with the licence 'MIT', and its stage says 'CC0-1.0'" in said[0]
    assert "its stage says 'us': that holds once the data is prepared anew" in said[1]


def test_a_benchmark_that_this_version_does_not_know_is_told(tmp_path: Path) -> None:
    bench, out = write_bench_folder(tmp_path / "bench"), tmp_path / "out"
    config = reading(write_texts(tmp_path / "texts"), bench=bench)
    record = prepare([config], out, progress=hush).sources["s"]
    record = replace(record, decontaminated={**record.decontaminated, "later": "0" * 64})
    held = replace(load_manifest(out), sources={"s": record})
    write_manifest(held, out)
    told: list[str] = []
    assert prepare([config], out, progress=told.append) == held
    assert told[0].startswith("what s was cleared of is not compared: later is no benchmark of")
    told.clear()
    config = reading(tmp_path / "texts", bench="embedded")
    assert prepare([config], out, progress=told.append, is_in_use=True) == held
    assert any("not compared: later is no benchmark of this version" in line for line in told)


def test_texts_that_are_gone_from_a_disk_of_their_own_are_no_other_texts(tmp_path: Path) -> None:
    texts, out = write_texts(tmp_path / "texts"), tmp_path / "out"
    held = prepare([reading(texts)], out, progress=hush)
    shutil.rmtree(texts)
    (texts / "lost+found").mkdir(parents=True)
    assert prepare([reading(texts)], out, progress=hush) == held
    (texts / "other.txt").write_text("Another text.")
    with pytest.raises(UsageError, match="is not as it was when"):
        prepare([reading(texts)], out, progress=hush)
