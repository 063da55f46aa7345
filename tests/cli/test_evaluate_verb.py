"""`yxanul evaluate` as a user starts it: a table or one JSON object, records item by item, and one
clear sentence for what cannot be scored."""

import errno
import hashlib
import json
import math
import os
import statistics
from pathlib import Path

import pytest
import torch

from tests.data.bench_rows import write_bench_folder
from tests.data.memory import MemorySource, plan, prepare_plans, sentences
from tests.evaluate.pretrained import random_model
from tests.evaluate.runs import add_checkpoint, flip_bit, new_model, write_run, write_run_with_data
from yxanul.cli.main import main
from yxanul.data.benchmarks.frozen import keep_benchmark
from yxanul.data.items import AnswerItem, Benchmark
from yxanul.model.cache import KeyValueCache
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.skill_scores import read_task_score

TASKS = ("hellaswag", "triviaqa", "gsm8k", "humaneval")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunFolder:
    """A run of two stages with its data, and a checkpoint."""
    return write_run_with_data(tmp_path_factory.mktemp("evaluate") / "run", step=6)


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Path:
    return write_bench_folder(tmp_path_factory.mktemp("bench") / "sets")


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """Return a function that runs the verb here: words -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def start(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["evaluate", *map(str, words)])
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    return start


def told(call, *words: object) -> dict:
    code, out, err = call(*words, "--json")
    assert code == 0, err
    return json.loads(out)


def test_all_tasks_of_a_folder_are_scored_with_their_records(call, run, bench) -> None:
    words = ("--tasks", ",".join(TASKS), "--bench_dir", bench, "--limit", 3, "--shots", 0)
    found = told(call, run.root, *words)
    assert list(found["tasks"]) == list(TASKS)
    assert found["checkpoint"] == "step-00000006-a0"
    assert found["records"] == str(run.root / "evaluation" / "step-00000006-a0")
    weights = run.checkpoints / "step-00000006-a0" / "model.safetensors"
    assert found["weights"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    headlines = {task: of["metric"] for task, of in found["tasks"].items()}
    assert headlines == {
        "hellaswag": "acc_norm",
        "triviaqa": "exact_match",
        "gsm8k": "exact_match",
        "humaneval": "pass_at_1",
    }
    for task, of in found["tasks"].items():
        record = read_task_score(Path(of["records"]))
        assert (record.task, record.shots, len(record.ids)) == (task, 0, of["n"])
        assert of["n"] == 3
        assert of["value"] == record.value(of["metric"])
        assert of["measures"]["gold_bpb"]["value"] == record.gold_bpb()
        assert of["version"] == record.version
        spread = statistics.stdev(record.measures[of["metric"]])
        assert of["stderr"] == pytest.approx(spread / math.sqrt(of["n"]))
        assert of["items"] >= of["n"]
        low, high = of["measures"]["gold_bpb"]["interval"]
        assert low < of["measures"]["gold_bpb"]["value"] < high
        assert of["seconds"] > 0
        # humaneval's programs are longer than the model's 64 positions leave room for
        assert of["cut_prompts"] == (of["n"] if task == "humaneval" else 0)
        is_other = any("not comparable with published scores" in one for one in of["conditions"])
        assert is_other == (task in ("hellaswag", "triviaqa"))


def test_perplexity_reads_the_runs_own_held_out_text(call, run) -> None:
    found = told(call, run.root, "--tasks", "perplexity")["tasks"]["perplexity"]
    assert set(found["bpb"]) == set(found["loss"]) == set(found["perplexity"]) == {"tests", "sums"}
    assert found["metric"] == "bpb"
    assert found["perplexity"]["tests"] == pytest.approx(math.exp(found["loss"]["tests"]))
    assert found["n"] > 1
    records = json.loads(Path(found["records"]).read_text())
    assert found["n"] == sum(len(domain["documents"]) for domain in records.values())
    nats = math.fsum(one["nats"] for one in records["tests"]["documents"])
    size = sum(one["bytes"] for one in records["tests"]["documents"])
    assert found["bpb"]["tests"] == pytest.approx(nats / math.log(2) / size)


def test_records_tell_whether_two_models_read_the_same_text(call, run) -> None:
    own = told(call, run.root, "--tasks", "perplexity")["tasks"]["perplexity"]
    given = told(call, run.root, "--tasks", "perplexity", "--data", run.data)["tasks"]["perplexity"]
    manifest = json.loads((run.data / "manifest.json").read_text())["sha256"]
    names = [Path(found["records"]).name for found in (own, given)]
    # what is read of other data replaces nothing
    assert names == ["perplexity.json", f"perplexity-{manifest[:8]}.json"]
    records = [json.loads(Path(found["records"]).read_text()) for found in (own, given)]
    assert records[0] == records[1]
    for domain in records[0].values():
        assert (domain["seq_len"], domain["manifest_sha256"]) == (64, manifest)
        sums = [document["sha256"] for document in domain["documents"]]
        assert len(set(sums)) == len(sums)
        assert all(len(one) == 64 for one in sums)


def test_without_names_what_is_there_is_scored_and_the_rest_is_told(call, run, bench) -> None:
    (bench / "gsm8k/test.jsonl").rename(bench / "gsm8k/hidden")
    try:
        code, out, err = call(run.root, "--bench_dir", bench, "--limit", 2, "--json")
    finally:
        (bench / "gsm8k/hidden").rename(bench / "gsm8k/test.jsonl")
    found = json.loads(out)
    assert code == 0
    assert {"perplexity", "hellaswag", "triviaqa", "humaneval"} <= set(found["tasks"])
    assert "is missing: --bench_dir takes a folder" in found["not_scored"]["gsm8k"]
    assert "not scored: gsm8k: " in err
    alone = told(call, run.root, "--limit", 2)
    assert "--tasks hellaswag reads it from the hub" in alone["not_scored"]["hellaswag"]


def test_a_table_shows_each_measure_with_its_interval(call, run, bench) -> None:
    words = ("--tasks", "perplexity,humaneval", "--bench_dir", bench, "--limit", 2)
    code, out, err = call(run.root, *words, "--out", "records")
    assert code == 0
    for part in ("tests", "bpb", "humaneval", "pass_at_1", "gold_bpb", "0.000 to 0.658"):
        assert part in out
    assert "humaneval: answers ended after 32 tokens, not the task's 1,024" in err
    assert "ran in the sandbox at level L" in err
    assert "records: records" in err
    assert sorted(path.name for path in Path("records").iterdir()) == [
        "humaneval-0shot-first2.json",
        "perplexity.json",
    ]


def test_a_table_fits_80_columns_and_says_how_much_was_scored(call, run, bench, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    words = ("--tasks", ",".join(TASKS), "--bench_dir", bench, "--limit", 2, "--shots", 0)
    code, out, err = call(run.root, *words)
    assert code == 0
    assert "…" not in out
    assert "exact_match_flexible" in out
    assert "v3.0, 0-shot" in out
    assert "gsm8k: the first 2 of " in err
    told_of = [line for line in err.splitlines() if "other texts than the hub's" in line]
    assert [line.partition(":")[0] for line in told_of] == ["hellaswag", "triviaqa"]


def test_a_checkpoint_is_named_once_in_the_title(call, run) -> None:
    place = run.root / "checkpoints/step-00000006-a0"
    code, out, _ = call(place, "--tasks", "perplexity")
    assert code == 0
    # a long title is wrapped where the terminal ends
    assert out.replace("\n", "").count("step-00000006-a0") == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--tasks", "hellaswag,nothing"), 30, "there is no task nothing; the names are perplex"),
        (("--tasks", " , "), 30, "--tasks names no task; the names are perplexity"),
        (("--bench_dir", "nowhere"), 30, "--bench_dir: nowhere is no folder"),
        (("--tasks", "gsm8k", "--bench_dir", "embedded"), 30, "gsm8k is not embedded"),
        (("--tasks", "perplexity", "--data", "nowhere"), 30, "nowhere"),
        (("--limit", "1", "--data", "nowhere"), 30, "--data: nowhere is no folder"),
        (("--limit", "1", "--data", "."), 30, "is no prepared folder"),
        (("--limit", "0"), 30, "--limit"),
        (("--shots", "65"), 30, "--shots"),
    ],
)
def test_what_cannot_be_scored_is_said_in_a_sentence(call, run, words, code, said) -> None:
    left, out, err = call(run.root, *words)
    assert left == code
    assert said in err
    assert out == ""
    assert "Traceback" not in err


def test_a_damaged_file_is_an_error_whether_or_not_its_task_was_named(call, run, tmp_path) -> None:
    damaged = write_bench_folder(tmp_path / "damaged")
    flip_bit(damaged / "hellaswag/hellaswag_val_full.txt.bz2")
    code, _, err = call(run.root, "--bench_dir", damaged)
    assert code == 31
    assert "cannot be unpacked" in err


def test_a_disk_that_fails_under_a_benchmark_leaves_no_score_out(call, run, bench, monkeypatch):
    is_file = Path.is_file

    def fail(path: Path) -> bool:
        if path.is_relative_to(bench / "gsm8k"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", fail)
    code, out, err = call(run.root, "--bench_dir", bench, "--limit", 2)
    assert (code, out) == (11, "")
    assert "the disk failed at " in err


def test_a_named_task_that_cannot_be_written_whole_is_an_error(call, run, bench) -> None:
    code, _, err = call(run.root, "--tasks", "hellaswag", "--bench_dir", bench, "--shots", 12)
    assert code == 30
    assert "hellaswag has 12 worked examples, too few for 12" in err


def lost(tmp_path: Path, *, trained: tuple[str, ...]) -> RunFolder:
    """A run whose prepared data is gone."""
    folder = write_run(tmp_path / "run")
    add_checkpoint(folder, 3, trained=trained)
    return folder


def test_held_out_text_that_is_gone_is_not_said_to_be_another_models(call, tmp_path) -> None:
    code, _, err = call(lost(tmp_path, trained=("tales",)).root, "--tasks", "perplexity")
    assert code == 30
    assert "the prepared data of the run is not where it was" in err
    assert "not a run of ours" not in err


def prepared_by_two(tmp_path: Path, stages: tuple[str, str]) -> RunFolder:
    """A run of stage1_tales; its data has two stages of one domain."""
    folder = write_run(tmp_path / "run")
    add_checkpoint(folder, 3)
    sources = (MemorySource("tales", sentences(60)), MemorySource("o", sentences(60, about="sum")))
    pairs = zip(sources, stages, strict=True)
    prepare_plans(folder.data, plans=[plan(source, stage=stage) for source, stage in pairs])
    return folder


def test_a_domain_of_a_run_is_that_of_its_own_stage_and_not_another_runs(call, tmp_path) -> None:
    alone = write_run(tmp_path / "alone")
    add_checkpoint(alone, 3)
    plans = [plan(MemorySource("tales", sentences(60)), stage="stage1_tales")]
    prepare_plans(alone.data, plans=plans)
    folder = prepared_by_two(tmp_path, ("stage1_tales", "of_another_config"))
    words = ("--tasks", "perplexity", "--json")
    code, out, err = call(folder.root, *words)
    assert code == 0, err
    assert "text of o is left out: its stage, of_another_config, is not the run's" in err
    records = [json.loads(Path(json.loads(text)["records"], "perplexity.json").read_text())
               for text in (out, call(alone.root, *words)[1])]  # fmt: skip
    assert list(records[0]) == ["tests"]
    sums = [[one["sha256"] for one in record["tests"]["documents"]] for record in records]
    assert sums[0] == sums[1] != []


def test_a_domain_of_two_stages_of_other_runs_is_refused_and_not_scored_by_one(call, tmp_path):
    folder = prepared_by_two(tmp_path, ("of_one_config", "of_another_config"))
    code, _, err = call(folder.root, "--tasks", "perplexity")
    assert code == 30
    said = "the domain tests in two stages, of_one_config and of_another_config, and a domain's"
    assert said in err


def test_templates_that_a_run_trained_on_are_not_taken_for_unknown_ones(call, tmp_path, run):
    folder = lost(tmp_path, trained=("tales", "gsm_symbolic"))
    named = ("--tasks", "gsm_symbolic", "--limit", 2)
    for more in ((), ("--data", run.data)):  # which is the data of another run
        code, _, err = call(folder.root, *named, *more)
        assert code == 30
        assert "trained on templates of gsm_symbolic, and only its own prepared data tells" in err
    items = (AnswerItem("9/1", "Two and two?\n\n", "4", cluster="9"),)
    kept = Benchmark("gsm_symbolic", items, (), "kept by the run")
    keep_benchmark(folder.bench, "gsm_symbolic", read=lambda: kept)
    found = told(call, folder.root, *named)["tasks"]["gsm_symbolic"]
    assert (found["origin"], found["n"]) == ("kept by the run", 1)
    assert found["kin"] == ["gsm_symbolic"]
    never = lost(tmp_path / "never", trained=("tales",))
    assert told(call, never.root, *named)["tasks"]["gsm_symbolic"]["kin"] == []


def test_a_score_says_that_the_model_trained_on_kin_of_its_problems(call, tmp_path, bench) -> None:
    words = ("--tasks", "gsm8k", "--bench_dir", bench, "--limit", 1, "--shots", 0)
    folder = lost(tmp_path, trained=("tales", "gsm_symbolic"))
    code, _, err = call(folder.root, *words)
    assert code == 0
    assert "gsm8k: the model was trained on text made from the same problems" in err
    record = folder.root / "evaluation/step-00000003-a0/gsm8k-0shot-first1.json"
    assert read_task_score(record).kin == ["gsm_symbolic"]
    code, _, err = call(lost(tmp_path / "never", trained=("tales",)).root, *words)
    assert code == 0
    assert "same problems" not in err


def test_memory_that_is_not_there_is_one_sentence(call, run, bench, monkeypatch) -> None:
    def refuse(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4 GiB\nand more")

    monkeypatch.setattr(KeyValueCache, "advance", refuse)
    code, _, err = call(run.root, "--tasks", "triviaqa", "--bench_dir", bench, "--limit", 1)
    assert code == 11
    assert "out of memory (CUDA out of memory. Tried to allocate 4 GiB); what was scored" in err
    assert "where answers were being written, a smaller --batch" in err
    assert "Traceback" not in err


def test_a_card_that_fails_is_started_again(call, run, bench, monkeypatch) -> None:
    def fail(*_):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore")

    monkeypatch.setattr(KeyValueCache, "advance", fail)
    code, _, err = call(run.root, "--tasks", "triviaqa", "--bench_dir", bench, "--limit", 1)
    assert code == 11
    assert "a card failed, or the exchange between cards (CUDA error: an illegal memory" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("out", ["taken", "taken/inside"])
def test_a_file_in_the_place_of_records_is_told_before_a_model_is_opened(call, tmp_path, out):
    (tmp_path / "taken").write_text("mine")
    code, _, err = call(tmp_path / "nothing", "--out", out)
    assert code == 30
    assert f"--out: {tmp_path / 'taken'} is no folder; name one for the records" in err


def test_another_place_is_no_model(call, tmp_path) -> None:
    code, _, err = call(tmp_path / "nothing")
    assert code == 30
    assert "is no folder here, and no hub id, which is owner/name" in err


def test_a_wrong_task_is_told_before_a_model_is_opened(call, tmp_path) -> None:
    code, _, err = call(tmp_path / "nothing", "--tasks", "nothing")
    assert code == 30
    assert "there is no task nothing" in err


def test_a_hugging_face_folder_without_a_tokenizer_is_an_error(call, tmp_path) -> None:
    random_model("GPT2").save_pretrained(tmp_path / "bare")
    code, _, err = call(tmp_path / "bare", "--tasks", "gsm_symbolic", "--limit", 1)
    assert code == 30
    assert "bare has no tokenizer that makes ids of a text" in err
    assert "Traceback" not in err


def test_scores_that_are_not_finite_are_an_error_with_the_item(call, tmp_path, bench) -> None:
    folder = write_run(tmp_path / "run")
    model = new_model(folder, seed=3)
    with torch.no_grad():
        model.norm.weight[:] = 3e38  # finite, as a checkpoint must be; its products are not
    add_checkpoint(folder, 3, model=model)
    code, _, err = call(folder.root, "--tasks", "hellaswag", "--bench_dir", bench)
    assert code == 33
    assert "hellaswag: the model's likelihood of item 0 is not a finite number" in err
    assert not (folder.root / "evaluation/step-00000003-a0/hellaswag-0shot.json").exists()


def test_a_hugging_face_folder_is_scored_like_a_run(call, tmp_path, bench, run) -> None:
    from benchmarks.gemma import as_gemma, gpt2_tokenizer

    place = tmp_path / "models/gemma"
    as_gemma(new_model(run, seed=6)).save_pretrained(place)
    gpt2_tokenizer().save_pretrained(place)
    words = ("--tasks", "hellaswag,perplexity", "--bench_dir", bench, "--data", run.data)
    found = told(call, place, *words)
    records = Path(found["records"])
    assert records.parent == Path("evaluation")
    assert records.name.startswith("gemma-")
    assert found["checkpoint"] is None
    weights = hashlib.sha256((place / "model.safetensors").read_bytes()).hexdigest()
    assert found["weights"] == read_task_score(records / "hellaswag-0shot.json").weights == weights
    domains = json.loads(Path(found["tasks"]["perplexity"]["records"]).read_text())
    assert {of["weights"] for of in domains.values()} == {weights}
    assert any("as they did in training" in note for note in found["notes"])
    ours = told(call, run.root, "--tasks", "perplexity")["tasks"]["perplexity"]
    # The run computes in bf16, its copy in fp32.
    assert found["tasks"]["perplexity"]["bpb"]["tests"] == pytest.approx(
        ours["bpb"]["tests"], rel=0.02
    )
    code, _, err = call(place, "--tasks", "gsm_symbolic", "--limit", 1)
    record = read_task_score(records / "gsm_symbolic-0shot-first1.json")
    assert (code, record.kin) == (0, None)
    assert "gsm_symbolic: nothing tells whether the model was trained on text made from" in err
    code, _, err = call(place, "--tasks", "cloze")
    assert code == 30
    assert "give --data PREPARED" in err
    # another state of it, and another model of that name, have records of their own
    as_gemma(new_model(run, seed=7)).save_pretrained(place)
    again = told(call, place, "--tasks", "hellaswag", "--bench_dir", bench, "--limit", 1)
    assert (again["records"] != str(records), again["weights"] != weights) == (True, True)
    other = tmp_path / "others/gemma"
    other.parent.mkdir()
    place.rename(other)
    assert told(call, other, *words)["records"] != str(records)
