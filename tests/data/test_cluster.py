"""Texts that many tasks treated are joined to the data that one process prepares."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import fsspec
import pytest
import yaml
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import Table
from pyarrow.parquet import write_table

from tests.data.bench_rows import write_bench_folder
from tests.data.memory import stage
from yxanul.config.schema import SourceConfig
from yxanul.config.treatment import TreatmentConfig
from yxanul.data.document import Document
from yxanul.data.parts import files
from yxanul.data.parts.files import PartWriter, Provenance, open_parts
from yxanul.data.prepared.documents import read_documents
from yxanul.data.prepared.manifest import Manifest
from yxanul.data.prepared.verify import verify
from yxanul.data.preparing.prepare import prepare
from yxanul.data.treating.treatment import Recipe, Treater, Treatment
from yxanul.errors import (
    ConfigError,
    CorruptDataError,
    CorruptShardError,
    InfrastructureError,
    UsageError,
)

pytest.importorskip("datatrove", reason="needs the extra yxanul[data]")

ROOT = Path(__file__).parents[2]
MINE = SourceConfig(name="mine", domain="d", weight=1.0)
OF_MINE = Provenance("stage1_tests", "mine")


def recipe(**config: object) -> Recipe:
    treatment = Treatment(TreatmentConfig.model_validate(config), min_tokens=12)
    return Recipe(treatment, decontaminated={}, tools=treatment.tools)


def texts() -> list[str]:
    """Return 300 different texts, ten of them twice, one nearly so, and a short one."""
    draw, words = random.Random(1), [f"word{n}" for n in range(900)]
    found = [" ".join(draw.choices(words, k=draw.randrange(40, 120))) for _ in range(300)]
    return [*found, *found[50:60], f"{found[70]} and more", "short"]


def write_lines(folder: Path, count: int) -> Path:
    """Write the texts into files of `count` lines each."""
    folder.mkdir(parents=True)
    rows = texts()
    for number in range(0, len(rows), count):
        lines = (json.dumps({"text": text}) for text in rows[number : number + count])
        (folder / f"{number:04d}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def treat(parts: Path, ranks: int, *, by: Recipe | None = None, of: Provenance = OF_MINE) -> None:
    """Treat the texts in so many tasks, without datatrove."""
    made, rows = by or recipe(near_duplicates=0.7), texts()
    size = -(-len(rows) // ranks)
    for rank in reversed(range(ranks)):
        with PartWriter(str(parts), rank, provenance=of) as writer:
            own = rows[rank * size : rank * size + size]
            for n, text in enumerate(Treater(made.treatment).treat(own)):
                writer.append(Document(own[n], "s", f"s/{rank * size + n}", f"x:{n}"), text)
            writer.finish(made, world_size=ranks)


def joined(parts: Path, out: Path) -> Manifest:
    return prepare([stage("stage1_tests", source=str(parts))], out, progress=lambda line: None)


def shards(manifest: Manifest) -> list[str]:
    return [s.split(x).sha256 for s in manifest.sources.values() for x in ("train", "validation")]


def test_the_result_does_not_depend_on_the_number_of_tasks(tmp_path: Path) -> None:
    found = []
    for ranks in (1, 3, 7):
        treat(tmp_path / f"parts{ranks}", ranks)
        manifest = joined(tmp_path / f"parts{ranks}", tmp_path / f"out{ranks}")
        verify(manifest, tmp_path / f"out{ranks}")
        found.append(shards(manifest))
        record = manifest.sources["stage1_tests"]
        assert record.dropped == {"duplicate": 10, "near_duplicate": 1, "too_short": 1}
    assert found[0] == found[1] == found[2]


def test_the_joined_data_is_what_one_process_prepares(tmp_path: Path) -> None:
    treat(tmp_path / "parts", 3)
    lines = write_lines(tmp_path / "lines", 1000)
    config = stage("stage1_tests", source=str(lines), folder_treatment={"near_duplicates": 0.7})
    alone = prepare([config], tmp_path / "alone", progress=lambda line: None)
    together = joined(tmp_path / "parts", tmp_path / "together")
    ours, theirs = (
        {
            document.sha256
            for _, document in read_documents(found, place, source="stage1_tests", split="train")
            if document.tokens > 12
        }
        for found, place in ((together, tmp_path / "together"), (alone, tmp_path / "alone"))
    )
    assert ours == theirs


def test_a_task_that_is_not_done_or_differs_is_refused(tmp_path: Path) -> None:
    treat(tmp_path / "parts", 3)
    (tmp_path / "parts" / "00001.done.json").unlink()
    with pytest.raises(UsageError, match="task 1 is not done"):
        joined(tmp_path / "parts", tmp_path / "out")
    treat(tmp_path / "other", 3, by=recipe(near_duplicates=0.9))
    for file in (tmp_path / "other").glob("00001.*"):
        file.replace(tmp_path / "parts" / file.name)
    with pytest.raises(UsageError, match="treated their texts differently"):
        joined(tmp_path / "parts", tmp_path / "out")


@pytest.mark.parametrize("done", [0, 2])
def test_parts_without_the_first_task_are_no_folder_of_texts(tmp_path: Path, done: int) -> None:
    """Their texts.jsonl look like one, and hold only the beginnings of texts."""
    treat(tmp_path / "parts", 3)
    for file in sorted((tmp_path / "parts").glob("*.done.json"))[: 3 - done]:
        file.unlink()
    with pytest.raises(UsageError, match="but task 0 is not done"):
        joined(tmp_path / "parts", tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()
    fsspec.filesystem("memory").put(str(tmp_path / "parts"), f"/begun{done}", recursive=True)
    with pytest.raises(UsageError, match="but task 0 is not done"):
        open_parts(f"memory://begun{done}")


@pytest.mark.parametrize("done", [0, 3])
def test_parts_below_a_folder_of_texts_are_no_texts(tmp_path: Path, done: int) -> None:
    lines = write_lines(tmp_path / "lines", 1000)
    treat(lines / "wiki", 3)
    for file in sorted((lines / "wiki").glob("*.done.json"))[: 3 - done]:
        file.unlink()
    with pytest.raises(UsageError, match=r"\(wiki/00000\.[a-z.]*\), .* give --data .*lines/wiki"):
        joined(lines, tmp_path / "out")


def test_parts_may_be_joined_below_their_own_folder(tmp_path: Path) -> None:
    treat(tmp_path / "parts", 3)
    manifest = joined(tmp_path / "parts", tmp_path / "parts" / "joined")
    assert joined(tmp_path / "parts", tmp_path / "parts" / "joined") == manifest
    # What lies there would be taken for the texts at the next start.
    for place in (tmp_path / "parts", tmp_path / "parts" / "stage1_tests"):
        with pytest.raises(UsageError, match="choose a place outside it"):
            joined(tmp_path / "parts", place)


def test_parts_of_two_runs_with_other_numbers_of_tasks_are_refused(tmp_path: Path) -> None:
    treat(tmp_path / "parts", 3)
    treat(tmp_path / "more", 5)
    for file in (tmp_path / "more").glob("00002.*"):
        file.replace(tmp_path / "parts" / file.name)
    with pytest.raises(UsageError, match=r"the work of 3 tasks with that of 5 \(task 2\)"):
        joined(tmp_path / "parts", tmp_path / "out")


@pytest.mark.parametrize("name", ["done.json", "texts.jsonl"])
@pytest.mark.parametrize("content", [b"{", b"{}"])
def test_a_part_that_is_damaged_names_the_task_to_run_again(
    tmp_path: Path, name: str, content: bytes
) -> None:
    treat(tmp_path / "parts", 2)
    (tmp_path / "parts" / f"00001.{name}").write_bytes(content)
    with pytest.raises(CorruptShardError, match="; run that task again"):
        joined(tmp_path / "parts", tmp_path / "out")


@pytest.mark.parametrize("name", ["texts.jsonl", "ids.bin", "signatures.bin"])
def test_a_damaged_part_is_found_and_nothing_is_left(tmp_path: Path, name: str) -> None:
    treat(tmp_path / "parts", 2)
    place = tmp_path / "parts" / f"00001.{name}"
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 1
    place.write_bytes(content)
    with pytest.raises(CorruptDataError):
        joined(tmp_path / "parts", tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("name", ["ids.bin", "signatures.bin"])
@pytest.mark.parametrize("kept", [0, -1])
def test_a_part_that_was_cut_is_named_before_its_texts_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kept: int
) -> None:
    monkeypatch.setattr(files, "_BATCH", 8)
    treat(tmp_path / "parts", 2)
    place = tmp_path / "parts" / f"00000.{name}"
    place.write_bytes(place.read_bytes()[:kept])
    with pytest.raises(CorruptDataError, match=rf"line \d+: {name} is cut short there; run"):
        joined(tmp_path / "parts", tmp_path / "out")


def test_a_part_that_is_gone_or_of_another_version_is_one_sentence(tmp_path: Path) -> None:
    treat(tmp_path / "parts", 2)
    (tmp_path / "parts" / "00001.ids.bin").unlink()
    with pytest.raises(CorruptDataError, match=r"files of task 1 in .* cannot be read"):
        joined(tmp_path / "parts", tmp_path / "out")
    for file in (tmp_path / "parts").glob("*.done.json"):
        done = json.loads(file.read_text())
        done["made_with"]["config"]["unheard_of"] = 1
        file.write_text(json.dumps(done))
    with pytest.raises(CorruptShardError, match="config is no treatment of this version"):
        joined(tmp_path / "parts", tmp_path / "out")


def test_parts_may_lie_wherever_fsspec_reaches(tmp_path: Path) -> None:
    place = "memory://cluster/parts"
    with PartWriter(place, 0, provenance=OF_MINE) as writer:
        writer.append(Document("a text", "s", "s/0"), Treater(Treatment()).treat(["a text"])[0])
        writer.finish(recipe(), world_size=1)
    parts = open_parts(place)
    assert parts is not None
    ((documents, treated),) = parts.read()
    assert documents[0].id == "s/0"
    assert treated[0].ids.tolist() == [64, 2420]
    assert open_parts("memory://cluster/none") is None


def run_locally(pipeline: list[Any], folder: Path) -> None:
    from datatrove.executor import LocalPipelineExecutor

    LocalPipelineExecutor(pipeline, tasks=3, workers=1, logging_dir=str(folder / "logs")).run()


def run_by_slurm(pipeline: list[Any], folder: Path) -> None:
    """Slurm's own programs are played by scripts that run the array one after another."""
    from datatrove.executor import SlurmPipelineExecutor

    programs = folder / "bin"
    programs.mkdir()
    for name, script in (("sbatch", SBATCH), ("srun", SRUN), ("scontrol", SCONTROL)):
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    with patch.dict(os.environ, {"PATH": path, "RUN_OFFSET": "0"}):
        SlurmPipelineExecutor(
            pipeline,
            tasks=3,
            time="1:00:00",
            partition="any",
            logging_dir=str(folder / "logs"),
            slurm_logs_folder=str(folder / "slurm"),
        ).run()


def run_by_ray(pipeline: list[Any], folder: Path) -> None:
    ray = pytest.importorskip("ray", reason="pip install ray")
    from datatrove.executor.ray import RayPipelineExecutor

    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20)
    try:
        RayPipelineExecutor(
            pipeline, tasks=3, workers=2, logging_dir=str(folder / "logs"), mem_per_cpu_gb=0.1
        ).run()
    finally:
        ray.shutdown()


SBATCH = """#!/usr/bin/env bash
for script; do :; done  # the last word
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
for task in $(seq 0 "$last"); do
  SLURM_ARRAY_TASK_ID=$task SLURM_JOB_ID=7 SLURM_NODEID=0 SLURM_NODELIST=here \\
    bash "$script" >&2 || exit
done
echo Submitted batch job 7
"""
SRUN = """#!/usr/bin/env bash
until [ "$1" = launch_pickled_pipeline ]; do shift; done
exec "$@"
"""
SCONTROL = """#!/usr/bin/env bash
echo here
"""


# Ray warns of changes to come, and an error in its threads would make datatrove wait for ever.
RAY = pytest.param(run_by_ray, marks=[pytest.mark.slow, pytest.mark.filterwarnings("default")])


SLURM = pytest.param(run_by_slurm, marks=pytest.mark.slow)


@pytest.mark.parametrize("run", [run_locally, SLURM, RAY])
def test_the_executors_of_datatrove_write_the_parts(
    tmp_path: Path, run: Callable[[list[Any], Path], None]
) -> None:
    from datatrove.pipeline.readers import JsonlReader

    from yxanul.data.cluster.steps import TreatStep

    lines = write_lines(tmp_path / "lines", 60)
    step = TreatStep(
        str(tmp_path / "parts"), recipe(near_duplicates=0.7), stage="stage1_tests", source=MINE
    )
    run([JsonlReader(str(lines)), step], tmp_path)
    manifest = joined(tmp_path / "parts", tmp_path / "out")
    verify(manifest, tmp_path / "out")
    record = manifest.sources["stage1_tests"]
    kept = record.train.documents + record.validation.documents
    assert kept + sum(record.dropped.values()) == len(texts())
    assert record.dropped["near_duplicate"] == 1


def test_parts_are_joined_from_an_address(tmp_path: Path) -> None:
    treat(tmp_path / "parts", 3)
    storage = fsspec.filesystem("memory")
    storage.put(str(tmp_path / "parts"), "/joining/stage1_tests", recursive=True)
    far = prepare(
        [stage("stage1_tests", source="memory://joining")],
        tmp_path / "far",
        progress=lambda line: None,
    )
    assert shards(far) == shards(joined(tmp_path / "parts", tmp_path / "near"))


@pytest.mark.parametrize("silent", ["ls", "open"])
def test_an_address_that_does_not_answer_is_an_outage_and_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: str
) -> None:
    treat(tmp_path / "parts", 1)
    fsspec.filesystem("memory").put(str(tmp_path / "parts"), "/silent", recursive=True)
    parts = open_parts("memory://silent")
    assert parts is not None

    def no_answer(*_: object, **__: object) -> None:
        raise TimeoutError("no answer")

    monkeypatch.setattr(MemoryFileSystem, silent, no_answer)
    with pytest.raises(InfrastructureError, match="cannot be reached or used"):
        open_parts("memory://silent")
    if silent == "open":
        with pytest.raises(InfrastructureError, match="cannot be reached or used"):
            list(parts.read())


def test_a_part_that_is_gone_from_an_address_is_damage(tmp_path: Path) -> None:
    treat(tmp_path / "parts", 1)
    storage = fsspec.filesystem("memory")
    storage.put(str(tmp_path / "parts"), "/gone", recursive=True)
    parts = open_parts("memory://gone")
    assert parts is not None
    storage.rm("/gone/00000.ids.bin")
    with pytest.raises(CorruptDataError, match="files of task 0 in memory://gone cannot be read"):
        list(parts.read())


@pytest.mark.parametrize("name", ["[items]", "items: mine #1", "7"])
def test_items_may_lie_in_a_folder_whose_name_yaml_reads_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from yxanul.data.cluster.steps import treat_step

    recipes = ROOT / "configs" / "embedded"
    configs = shutil.copytree(recipes, tmp_path / "configs")
    file = configs / "stage3_math.yaml"
    asked = "{name: arithmetic, domain: math, weight: 0.4, max_documents: 3000}"
    text = file.read_text()
    assert text.count(asked) == 1
    more = "treatment: {decontaminate: [gsm8k]}"
    file.write_text(text.replace(asked, asked.replace("max_documents: 3000", more)))
    monkeypatch.chdir(tmp_path)
    write_bench_folder(tmp_path / name)
    places = {"parts": str(tmp_path / "parts"), "bench_dir": name}
    step = treat_step(configs, stage="stage3_math", source="arithmetic", **places)
    assert set(step._recipe.decontaminated) == {"gsm8k"}


def test_a_step_fills_the_template_and_hands_the_licence_on(tmp_path: Path) -> None:
    from datatrove.data import Document as TroveDocument

    from yxanul.data.cluster.steps import TreatStep

    source = MINE.model_copy(
        update={
            "hub_id": "some/set",
            "text_template": "{title}\n\n{text}",
            "licence": "CC0-1.0",
            "attribution": "us",
        }
    )
    rows = [
        TroveDocument(t, str(n), metadata={"title": f"T{n}"}) for n, t in enumerate(texts()[:60])
    ]
    rows.append(TroveDocument("without a title", "60", metadata={"title": None}))
    step = TreatStep(str(tmp_path / "parts"), recipe(), stage="stage1_tests", source=source)
    step.run(rows)
    parts = open_parts(str(tmp_path / "parts"))
    assert parts is not None
    ((documents, _),) = parts.read()
    assert documents[7].text.startswith("T7\n\nword")
    record = joined(tmp_path / "parts", tmp_path / "out").sources["stage1_tests"]
    assert (record.licence, record.attribution) == ("CC0-1.0", "us")
    assert record.dropped == {"title is null": 1}
    with pytest.raises(ConfigError, match="it has no column title, only text, id"):
        step.run([TroveDocument("text", "0")])
    with pytest.raises(UsageError, match="mine has max_documents 9, which tasks cannot hold"):
        TreatStep("parts", recipe(), stage="s", source=MINE.model_copy(update={"max_documents": 9}))


def test_the_pages_example_ends_as_a_script_with_several_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the workers reads the script once more before it works."""
    page = (ROOT / "docs" / "data.md").read_text()
    script = page.split("```python\n")[1].split("```")[0]
    rows = [{"id": str(n), "title": f"T{n}", "text": text} for n, text in enumerate(texts())]
    (tmp_path / "rows").mkdir()
    for n in range(2):
        write_table(Table.from_pylist(rows[n::2]), tmp_path / "rows" / f"{n}.parquet")
    here = [("hf://datasets/wikimedia/wikipedia/20231101.en", str(tmp_path / "rows"))]
    here += [("tasks=100", "tasks=2"), ("workers=16", "workers=2")]
    for far, near in here:
        assert script.count(far) == 1
        script = script.replace(far, near)
    (tmp_path / "script.py").write_text(script)
    stage1 = shutil.copytree(ROOT / "configs", tmp_path / "configs") / "stage1_wikipedia.yaml"
    # Items would be looked for on the hub, and words of prose are loaded for seconds.
    plain = yaml.safe_load(stage1.read_text())
    plain["data"]["hub_sources"][0] |= {"min_tokens": 12, "treatment": {}}
    stage1.write_text(yaml.safe_dump(plain))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    command = [sys.executable, "script.py"]
    with subprocess.Popen(
        command, cwd=tmp_path, start_new_session=True, stderr=subprocess.PIPE
    ) as run:
        try:
            _, said = run.communicate(timeout=60)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == 0, said.decode()
    parts = open_parts(str(tmp_path / "parts"))
    assert parts is not None
    assert [len(documents) for documents, _ in parts.read()] == [156, 156]
