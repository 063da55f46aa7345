"""A run's configuration decides what is prepared, and a folder remembers it."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.memory import MemorySource, plan, prepare_plans, sentences, source, stage
from yxanul.config.schema import SourceConfig, StageConfig
from yxanul.config.treatment import TreatmentConfig
from yxanul.data import progress
from yxanul.data.document import Document
from yxanul.data.parts.files import PartWriter, Provenance
from yxanul.data.places.hashed import HASHED_NAME, hashed_at, keep_hashed
from yxanul.data.prepared.settings import (
    changed_settings,
    refuse_other_settings,
    settings_sha256,
    source_settings,
)
from yxanul.data.prepared.verify import verify
from yxanul.data.preparing.prepare import prepare
from yxanul.data.treating.treatment import Recipe, Treater, Treatment
from yxanul.errors import ConfigError, UsageError


def write_jsonl(path: Path, texts: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def silent(line: str) -> None:
    """Show nothing."""


def test_stages_read_their_subfolders(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    write_jsonl(texts / "stage1_a/a.jsonl", sentences(80))
    write_jsonl(texts / "stage2_b/b.jsonl", sentences(80, about="tree"))
    stages = [
        stage("stage1_a", source=str(texts)),
        stage("stage2_b", source=str(texts), embedded_sources=[source("arithmetic")]),
    ]
    manifest = prepare(stages, tmp_path / "out", progress=silent)
    verify(manifest, tmp_path / "out")
    kinds = {name: (item.stage, item.kind, item.domain) for name, item in manifest.sources.items()}
    assert kinds == {
        "stage1_a": ("stage1_a", "folder", "stage1_a"),
        "stage2_b": ("stage2_b", "folder", "math"),
    }
    assert prepare(stages, tmp_path / "out", progress=silent) == manifest


def test_two_stages_do_not_read_one_folder(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "texts/a.jsonl", sentences(80))
    stages = [stage(name, source=str(tmp_path / "texts")) for name in ("stage1_a", "stage2_b")]
    with pytest.raises(UsageError, match=r"no subfolder for stage1_a, stage2_b"):
        prepare(stages, tmp_path / "out", progress=silent)


def test_a_folder_that_is_not_there_is_said_to_be_missing_before_anything(tmp_path: Path) -> None:
    stages = [stage(name, source=str(tmp_path / "absent")) for name in ("stage1_a", "stage2_b")]
    with pytest.raises(UsageError, match=r"absent does not exist.*subfolder per stage"):
        prepare(stages, tmp_path / "out", progress=silent)
    with pytest.raises(UsageError, match="absent does not exist"):
        prepare(stages[:1], tmp_path / "out", progress=silent)


def test_what_is_prepared_needs_its_texts_no_more(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    for name in ("stage1_a", "stage2_b"):
        write_jsonl(texts / name / "a.jsonl", sentences(80, about=name))
    stages = [stage(name, source=str(texts)) for name in ("stage1_a", "stage2_b")]
    manifest = prepare(stages, tmp_path / "out", progress=silent)
    shutil.rmtree(texts)
    assert prepare(stages, tmp_path / "out", progress=silent) == manifest


def test_a_stage_that_is_prepared_needs_its_subfolder_no_more(tmp_path: Path) -> None:
    texts, names = tmp_path / "texts", ("stage1_a", "stage2_b", "stage3_c")
    for name in names:
        write_jsonl(texts / name / "a.jsonl", sentences(80, about=name))
    stages = [stage(name, source=str(texts)) for name in names]
    prepare(stages[:2], tmp_path / "out", progress=silent)
    for name in names[:2]:
        shutil.rmtree(texts / name)
    assert list(prepare(stages, tmp_path / "out", progress=silent).stages) == list(names)
    shutil.rmtree(texts / names[2])
    with pytest.raises(UsageError, match="no subfolder for stage4_d;"):
        prepare([*stages, stage("stage4_d", source=str(texts))], tmp_path / "out", progress=silent)


def test_texts_that_changed_after_they_were_prepared_are_not_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, out = tmp_path / "texts", tmp_path / "out"
    write_jsonl(texts / "a.jsonl", sentences(80))
    manifest = prepare([stage("s", source=str(texts))], out, progress=silent)
    monkeypatch.chdir(tmp_path)
    for spelled in ("texts", "./texts", "texts/../texts"):
        assert prepare([stage("s", source=spelled, seed=9)], out, progress=silent) == manifest
    shutil.copytree(texts, tmp_path / "elsewhere")
    assert prepare([stage("s", source="elsewhere")], out, progress=silent) == manifest
    before = (texts / "a.jsonl").read_text()
    (texts / "a.jsonl").write_text(before.replace("Number 7 ", "Number 8 "))
    with pytest.raises(UsageError, match=r"texts is not as it was .* \(1 files, \d+ bytes"):
        prepare([stage("s", source="texts")], out, progress=silent)
    (texts / "a.jsonl").write_text(before)
    assert prepare([stage("s", source="texts")], out, progress=silent) == manifest
    write_jsonl(texts / "b.jsonl", sentences(20, about="tree"))
    with pytest.raises(UsageError, match="choose another folder for the data"):
        prepare([stage("s", source="texts")], out, progress=silent)


@pytest.mark.parametrize("when", ["while they are read", "before a copy"])
def test_texts_that_changed_and_are_as_long_are_not_ignored(tmp_path: Path, when: str) -> None:
    texts, out, lines = tmp_path / "texts", tmp_path / "out", list[str]()
    write_jsonl(texts / "a.jsonl", [*sentences(80), "twice", "twice"])

    def change(line: str = "") -> None:
        lines.append(line)
        if len(lines) > 1:
            return
        before = (texts / "a.jsonl").read_text()
        (texts / "a.jsonl").write_text(before.replace("Number 7 ", "Number 8 "))

    config, is_early = stage("s", source=str(texts)), when == "while they are read"
    prepare([config], out, progress=change if is_early else silent)
    if not is_early:
        change()
        # A copy whose times are those of the copying.
        out = shutil.copytree(out, tmp_path / "copy", copy_function=shutil.copyfile)
    with pytest.raises(UsageError, match="texts is not as it was"):
        prepare([config], out, progress=silent)
    assert lines


@pytest.mark.parametrize("is_documentation", [False, True])
def test_texts_are_hashed_again_only_where_one_was_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_documentation: bool
) -> None:
    texts, out = tmp_path / "texts", tmp_path / "out"
    config, said = stage("s", source=str(texts)), list[str]()
    write_jsonl(texts / "a.jsonl", sentences(80))
    if is_documentation:
        for number, text in enumerate(sentences(40)):
            page = f"# Page {number}\n\n{text}\n\n```python\nprint({text!r})\n```\n"
            (texts / f"{number}.md").write_text(page)
        own = [source("pages", documentation=str(texts))]
        config = stage("s", source="embedded", embedded_sources=own)

    def begin_a_second() -> None:
        now = int(time.time())
        while int(time.time()) == now:
            time.sleep(0.02)

    def hashes(out: Path) -> bool:
        said.clear()
        assert prepare([config], out, progress=said.append) == manifest
        return any("reading for its hash" in line for line in said)

    begin_a_second()
    manifest = prepare([config], out, progress=silent)
    monkeypatch.setattr(progress, "_PROGRESS_S", 0)
    assert not hashes(out)
    # What is known goes with a copy, whatever its own times are; one that lacks it learns it.
    copy = shutil.copytree(out, tmp_path / "copy", copy_function=shutil.copyfile)
    assert not hashes(copy)
    (copy / HASHED_NAME).unlink()
    assert [hashes(copy) for _ in range(2)] == [True, False]
    # Others in their place are not known, nor are those that were touched.
    texts.rename(tmp_path / "away")
    shutil.copytree(tmp_path / "away", texts)
    begin_a_second()
    assert [hashes(out) for _ in range(2)] == [True, False]
    next(texts.glob("*.md" if is_documentation else "*")).touch()
    begin_a_second()
    assert [hashes(out) for _ in range(2)] == [True, False]


def test_a_mark_of_another_folder_or_a_damaged_one_counts_as_none(tmp_path: Path) -> None:
    keep_hashed(tmp_path, "v", folder=tmp_path, second=7)
    assert hashed_at(tmp_path, "v", folder=tmp_path) == 7
    assert hashed_at(tmp_path, "w", folder=tmp_path) == 0
    assert hashed_at(tmp_path, "v", folder=tmp_path.parent) == 0
    for damage in ("", "[]", '{"v": 7}', '{"v": [1, 2, "7"]}'):
        (tmp_path / HASHED_NAME).write_text(damage)
        assert hashed_at(tmp_path, "v", folder=tmp_path) == 0
    keep_hashed(tmp_path / "absent", "v", folder=tmp_path, second=7)


@pytest.mark.parametrize("own", ["", "stage2_b"])
def test_changed_texts_of_one_stage_of_several_are_not_ignored(tmp_path: Path, own: str) -> None:
    """Also where the stage has a folder of its own, which no other one reads."""
    texts, out = tmp_path / "texts", tmp_path / "out"
    write_jsonl(texts / own / "a.jsonl", sentences(80, about="tree"))
    jinja = source("jinja", documentation="package:jinja2")
    stages = [
        stage("stage1_a", source="embedded", embedded_sources=[jinja]),
        stage("stage2_b", source=str(texts)),
    ]
    manifest = prepare(stages, out, progress=silent)
    assert prepare(stages, out, progress=silent) == manifest
    write_jsonl(texts / own / "b.jsonl", sentences(20))
    with pytest.raises(UsageError, match="is not as it was when"):
        prepare(stages, out, progress=silent)
    shutil.rmtree(texts)
    assert prepare(stages, out, progress=silent) == manifest


def test_a_prepared_folder_is_no_folder_of_texts(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "texts/a.jsonl", sentences(80))
    prepare([stage("s", source=str(tmp_path / "texts"))], tmp_path / "out", progress=silent)
    with pytest.raises(UsageError, match="is prepared already"):
        prepare([stage("s", source=str(tmp_path / "out"))], tmp_path / "two", progress=silent)
    with pytest.raises(UsageError, match="out is prepared already"):
        prepare([stage("out", source=str(tmp_path))], tmp_path.parent / "two", progress=silent)
    several = [stage(name, source=str(tmp_path / "out")) for name in ("s", "t")]
    with pytest.raises(UsageError, match=r"is prepared already .* not write that file, move it"):
        prepare(several, tmp_path / "two", progress=silent)


@pytest.mark.parametrize("below", ["", "s"])
def test_a_folder_that_is_not_prepared_to_its_end_is_no_folder_of_texts(
    tmp_path: Path, below: str
) -> None:
    write_jsonl(tmp_path / "texts/a.jsonl", sentences(80))
    begun = tmp_path / "begun" / below
    prepare([stage("s", source=str(tmp_path / "texts"))], begun, progress=silent)
    (begun / "manifest.json").replace(begun / "preparing.json")  # as a kill before its end leaves
    for names in ("s", "st"):
        stages = [stage(name, source=str(tmp_path / "begun")) for name in names]
        with pytest.raises(UsageError, match=rf"{begun} is being prepared, or its .* cut short"):
            prepare(stages, tmp_path / "out", progress=silent)


@pytest.mark.parametrize("below", ["", "out", "out/data"])
def test_nothing_is_written_into_the_folder_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    write_jsonl(tmp_path / "texts/s/a.jsonl", sentences(80))
    monkeypatch.chdir(tmp_path)
    for read in ("texts", "texts/s"):
        with pytest.raises(UsageError, match=r"lies in .*/texts/s, whose files are read for s:"):
            prepare([stage("s", source=read)], tmp_path / "texts/s" / below, progress=silent)
    assert [file.name for file in (tmp_path / "texts/s").iterdir()] == ["a.jsonl"]
    # Beside what the stage reads, and where nothing is read.
    for out in ("texts/out", "texts/s/.out"):
        prepare([stage("s", source="texts")], Path(out), progress=silent)


def test_a_place_beside_the_subfolders_stays_one_when_they_are_gone(tmp_path: Path) -> None:
    texts, out = tmp_path / "texts", tmp_path / "texts/out"
    stages = [stage(name, source=str(texts)) for name in ("s", "t")]
    for name in ("s", "t"):
        write_jsonl(texts / name / "a.jsonl", sentences(80, about=name))
    manifest = prepare(stages, out, progress=silent)
    shutil.rmtree(texts / "s")
    assert prepare(stages, out, progress=silent) == manifest


def test_a_stage_of_another_kind_is_named_by_its_own_key(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "texts/a.jsonl", sentences(80))
    jinja = source("jinja", documentation="package:jinja2")
    read, hub, later = (
        stage("stage1_a", source=str(tmp_path / "texts"), hub_sources=[FAR]),
        stage("stage1_a", source="hub", hub_sources=[FAR]),
        stage("stage2_b", source="embedded", embedded_sources=[jinja]),
    )
    prepare([read], tmp_path / "out", progress=silent)
    says = r"prepared from a folder, .* from the hub: .* --set stage1_a\.data\.source=FOLDER"
    with pytest.raises(UsageError, match=says):
        prepare([hub, later], tmp_path / "out", progress=silent)
    gone = read.model_copy(update={"data": read.data.model_copy(update={"source": "gone"})})
    manifest = prepare([gone, later], tmp_path / "out", progress=silent)
    assert list(manifest.stages) == ["stage1_a", "stage2_b"]
    refuse_other_settings(manifest, [hub, later], place=tmp_path / "out")


def test_parts_at_an_address_beside_a_stage_of_another_kind_lead_in_no_circle(
    tmp_path: Path,
) -> None:
    made, out = Treatment(TreatmentConfig(), min_tokens=None), tmp_path / "out"
    parts = PartWriter("memory://circle/stage2_b", 0, provenance=Provenance("stage2_b", "mine"))
    with parts as writer:
        writer.append(Document("a text", "s", "s/0"), Treater(made).treat(["a text"])[0])
        writer.finish(Recipe(made, {}, made.tools), world_size=1)
    numbers = [source("arithmetic", max_documents=80)]
    prepare([stage("stage1_a", source="embedded", embedded_sources=numbers)], out, progress=silent)
    far = [
        stage("stage1_a", source="memory://circle", embedded_sources=numbers),
        stage("stage2_b", source="memory://circle"),
    ]
    with pytest.raises(UsageError, match=r"neither a prepared .* for stage1_a; other") as told:
        prepare(far, out, progress=silent)
    assert "--set stage1_a" not in str(told.value)


def test_a_stage_without_sources_of_its_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"data\.source embedded but no embedded_sources"):
        prepare([stage("s", source="embedded")], tmp_path / "out", progress=silent)


def test_an_unknown_embedded_source_leaves_no_folder(tmp_path: Path) -> None:
    wrong = stage("s", source="embedded", embedded_sources=[source("nothing")])
    with pytest.raises(ConfigError, match="nothing"):
        prepare([wrong], tmp_path / "out", progress=silent)
    assert not (tmp_path / "out").exists()


CHANGES: list[Callable[[], StageConfig]] = [
    lambda: stage("t", source="embedded", embedded_sources=[source("arithmetic")]),
    lambda: stage("s", source="embedded", embedded_sources=[source("stdlib_code")]),
    lambda: stage("s", source="embedded", embedded_sources=[source("arithmetic")], seed=7),
    lambda: stage("s", source="embedded", embedded_sources=[source("arithmetic", max_documents=9)]),
    lambda: stage(
        "s",
        source="embedded",
        embedded_sources=[source("arithmetic")],
        validation_fraction=0.1,
    ),
    lambda: stage("s", source="folder", embedded_sources=[source("arithmetic")]),
]


def test_the_settings_hash_changes_with_what_shapes_the_folder_and_nothing_else() -> None:
    base = settings_sha256(stage("s", source="embedded", embedded_sources=[source("arithmetic")]))
    hashes = {settings_sha256(change()) for change in CHANGES}
    assert len(hashes) == len(CHANGES)
    assert base not in hashes
    others = source("arithmetic", weight=7.0, licence="MIT", attribution="us", private=True)
    same = stage("s", source="embedded", embedded_sources=[others], replay_share=0.2)
    assert settings_sha256(same) == base


def test_the_domain_of_a_folder_is_part_of_its_settings() -> None:
    plain = stage("s", source="folder")
    named = stage("s", source="folder", embedded_sources=[source("arithmetic")])
    assert settings_sha256(plain) != settings_sha256(named)


def test_a_run_of_one_stage_and_then_of_two_shares_a_folder(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a/a.jsonl", sentences(80))
    write_jsonl(tmp_path / "b/b.jsonl", [*sentences(10), *sentences(80, about="tree")])
    one, two = (stage(name, source=str(tmp_path / name)) for name in "ab")
    out = tmp_path / "out"
    prepare([one], out, progress=silent)
    both = prepare([one, two], out, progress=silent)
    assert list(both.stages) == ["a", "b"]
    assert both.sources["b"].dropped == {"duplicate": 10}
    assert prepare([one], out, progress=silent) == prepare([two], out, progress=silent) == both
    changed = stage("b", source=str(tmp_path / "b"), validation_fraction=0.3)
    with pytest.raises(UsageError, match=r"holds the stage b, prepared with other .* delete"):
        prepare([one, changed], out, progress=silent)


def test_what_differs_from_what_is_prepared_is_said_with_both_values(tmp_path: Path) -> None:
    commit, far = "a" * 40, source("x", hub_id="a/b", text_template="{text}")
    made = plan(MemorySource("x", sentences(80), version=f"a/b@{commit}"), stage="s")
    config = stage("s", hub_sources=[{**far, "hub_revision": "main"}])
    made = replace(made, kind="hub", settings=source_settings(config.data.hub_sources[0]))
    prepare_plans(tmp_path, plans=[made], settings=settings_sha256(config))
    folder = stage("t", source=str(tmp_path / "texts"), validation_fraction=0.3)
    write_jsonl(tmp_path / "texts/t.jsonl", sentences(90, about="tree"))
    prepare([folder], tmp_path, progress=silent)

    def told(name: str, **data: object) -> str:
        with pytest.raises(UsageError) as error:
            prepare([stage(name, **data)], tmp_path, progress=silent)
        return str(error.value).partition(" (")[2].partition("); use those")[0]

    pinned = {**far, "hub_revision": commit}
    assert told("s", hub_sources=[{**pinned, "min_tokens": 9}]) == "x: min_tokens was null and is 9"
    assert told("s", hub_sources=[pinned, {**far, "name": "y"}]) == "y is new"
    assert told("s", hub_sources=[{**far, "name": "y"}]) == "x is left out now; y is new"
    split = "data.validation_fraction, {} or the program's version was another"
    assert told("s", hub_sources=[pinned], seed=7) == split.format("data.seed")
    texts = {"source": folder.data.source}
    other = source("arithmetic", domain="code")
    of_folder = split.format("the domain of the stage's first source")
    assert told("t", **texts, validation_fraction=0.3, embedded_sources=[other]) == of_folder
    near = {"near_duplicates": 0.7}
    said = told("t", **texts, validation_fraction=0.3, folder_treatment=near)
    assert said == "t: treatment.near_duplicates was null and is 0.7"


def test_sources_in_another_order_are_told_as_that(tmp_path: Path) -> None:
    some = [source(name, max_documents=90) for name in ("gsm_symbolic", "arithmetic")]
    prepare([embedded(*some, source="embedded")], tmp_path, progress=silent)
    with pytest.raises(UsageError, match=r"\(the sources were in the order gsm_symbolic, arith"):
        prepare([embedded(*reversed(some), source="embedded")], tmp_path, progress=silent)


FAR = source("x", hub_id="a/b", text_template="{text}")


def embedded(*sources: dict[str, object], **data: object) -> StageConfig:
    return stage("s", embedded_sources=list(sources), **data)


def test_prepared_data_is_refused_where_the_configuration_asks_for_other_sources(
    tmp_path: Path,
) -> None:
    small, other = source("arithmetic", max_documents=90), source("gsm_symbolic", max_documents=90)
    manifest = prepare([embedded(small, source="embedded")], tmp_path, progress=silent)
    same = {**small, "weight": 7.0, "licence": "MIT"}
    for data in ({}, {"source": str(tmp_path)}, {"seed": 9}, {"hub_sources": [FAR]}):
        refuse_other_settings(manifest, [embedded(same, **data)], place=tmp_path)
    with pytest.raises(UsageError, match=r"lacks gsm_symbolic, which data\.embedded_sources of s"):
        refuse_other_settings(manifest, [embedded(small, other)], place=tmp_path)
    changes = {
        "min_tokens": (30, "min_tokens was null and is 30;"),
        "treatment": (
            {"near_duplicates": 0.7, "decontaminate": ["gsm8k"]},
            r"treatment\.decontaminate was \[\] and is \[\"gsm8k\"\].*near_duplicates was null",
        ),
        "max_documents": (None, "max_documents was 90 and is null;"),
    }
    for key, (value, says) in changes.items():
        with pytest.raises(UsageError, match=f"other settings of arithmetic.*{says}"):
            refuse_other_settings(manifest, [embedded({**small, key: value})], place=tmp_path)
    # A folder that an older version prepared, which did not know these keys.
    record = manifest.sources["arithmetic"]
    for key in ("documentation", "treatment"):
        record.settings.pop(key)
    refuse_other_settings(manifest, [embedded(small)], place=tmp_path)


def test_what_differs_is_told_within_rules_and_far_into_a_text() -> None:
    def told(made: dict[str, object], asked: dict[str, object]) -> list[tuple[str, str]]:
        now, before = (
            source_settings(SourceConfig.model_validate(source("x", hub_id="a/b", **one)))
            for one in (asked, made)
        )
        return list(changed_settings(now, before))

    rules = {"min_stop_words": 3}
    assert told(
        {"treatment": {"gopher_quality": {}}}, {"treatment": {"gopher_quality": rules}}
    ) == [("treatment.gopher_quality.min_stop_words", "was 2 and is 3")]
    ((key, change),) = told({"treatment": {}}, {"treatment": {"gopher_quality": rules}})
    assert (key, change[:15]) == ("treatment.gopher_quality", "was null and is")
    long = "word " * 40
    ((_, change),) = told({"text_template": f"{long}{{a}}"}, {"text_template": f"{long}{{b}}"})
    assert change == 'was ...ord word word word {a}" and is ...ord word word word {b}"'
    # Within rules, too, what an older version did not know counts as its default.
    config = SourceConfig.model_validate(source("x", treatment={"c4": {}}))
    now, before = source_settings(config), source_settings(config)
    del before["treatment"]["c4"]["filter_policy"]  # type: ignore[index]
    assert list(changed_settings(now, before)) == []


def test_data_of_a_folder_or_of_documentation_is_held_against_what_made_it(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "texts/a.jsonl", sentences(80))
    read = stage("s", source=str(tmp_path / "texts"), hub_sources=[FAR])
    made = prepare([read], tmp_path / "out", progress=silent)
    refuse_other_settings(made, [read], place=tmp_path)
    docs = source("docs", documentation="package:jinja2")
    one = stage("s", source="embedded", embedded_sources=[docs], hub_sources=[docs, FAR])
    made = prepare([one], tmp_path / "docs", progress=silent)
    refuse_other_settings(made, [one], place=tmp_path)
    with pytest.raises(UsageError, match=r"lacks x, which data\.hub_sources"):
        refuse_other_settings(made, [stage("s", hub_sources=[docs, FAR])], place=tmp_path)


def test_the_commit_that_was_read_may_be_written_in_place_of_its_branch(tmp_path: Path) -> None:
    commit, branch = "a" * 40, stage("s", hub_sources=[{**FAR, "hub_revision": "main"}])
    made = replace(
        plan(MemorySource("x", sentences(80), version=f"a/b@{commit}"), stage="s"),
        kind="hub",
        settings=source_settings(branch.data.hub_sources[0]),
    )
    manifest = prepare_plans(tmp_path, plans=[made], settings=settings_sha256(branch))

    def asking(**settings: object) -> list[StageConfig]:
        return [stage("s", hub_sources=[{**FAR, **settings}])]

    assert prepare(asking(hub_revision=commit), tmp_path, progress=silent) == manifest
    refuse_other_settings(manifest, asking(hub_revision=commit), place=tmp_path)
    with pytest.raises(UsageError, match=f"holds x of a/b@{commit}, and hub_revision asks for bbb"):
        prepare(asking(hub_revision="b" * 40), tmp_path, progress=silent)
    with pytest.raises(UsageError, match="prepared with other settings"):
        prepare(asking(hub_revision=commit, min_tokens=9), tmp_path, progress=silent)
