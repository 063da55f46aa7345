"""Skills of a run: scored before and after a stage, judged, and never a danger to its weights."""

import errno
import json
import shutil
import signal
from pathlib import Path

import pytest
import torch

from tests.train.test_gate_acts import assert_same_end, rows, sets, verdicts
from tests.train.world import STAGES, STEPS, World, fingerprint, wait_until
from yxanul.cli.main import main
from yxanul.config.evaluation import SkillConfig
from yxanul.curriculum.recompute import judge_again
from yxanul.data.benchmarks.frozen import load_all_kept
from yxanul.errors import DiskError, StoppedOnRequest, YxanulError
from yxanul.failpoints import VARIABLE
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import AttemptStart, begin_attempt
from yxanul.runfolder.rows import Row, append_row
from yxanul.runfolder.skill_scores import read_task_score
from yxanul.train import loop
from yxanul.train.scoring.skills import SkillScorer
from yxanul.train.updates.state import Position

SKILLS = [
    {"task": "triviaqa", "margin": 0.5},
    {"task": "gsm8k", "shots": 0, "margin": 5.0, "max_new_tokens": 8},
]
WITH_SKILLS = {"evaluation.skills": json.dumps(SKILLS)}


def write_bench(folder: Path, items: int = 12) -> Path:
    """Write two sets in the layout of --bench_dir: none of their items stands in a tale or sum."""
    (folder / "triviaqa").mkdir(parents=True)
    (folder / "gsm8k").mkdir()
    trivia = (
        {
            "context": f"Question: Which harbour has {n} grey cranes and a lighthouse?\nAnswer:",
            "answer": f"Port {n}",
            "aliases": [f"Port {n}", f"Harbour {n}"],
        }
        for n in range(items)
    )
    problems = (
        {
            "question": f"Ida plants {n} rows of beans, twice as many rows of peas. How many rows?",
            "answer": f"She plants {2 * n} rows of peas.\n{n} + {2 * n} = {3 * n}\n#### {3 * n}",
        }
        for n in range(1, items + 1)
    )
    _dump(folder / "triviaqa" / "triviaqa_sm_sub.jsonl", trivia)
    for name in ("test", "train"):
        _dump(folder / "gsm8k" / f"{name}.jsonl", problems if name == "test" else [])
    return folder


def _dump(path: Path, values) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


def words(bench: Path) -> list[str]:
    return ["--bench_dir", str(bench), *sets(WITH_SKILLS)]


@pytest.fixture(scope="module")
def skilled(tmp_path_factory) -> World:
    root = tmp_path_factory.mktemp("skilled")
    world = World.create(root)
    world.finish("run", "run", *words(write_bench(root / "bench")))
    return world


def test_skills_are_scored_at_every_border_and_judged(skilled):
    run = skilled.root / "run"
    assert [verdict for *_, verdict in verdicts(run)] == ["pass", "pass"]
    names = {path.name for path in (run / "scores" / "skills").iterdir()}
    steps = {name.partition("-a0-")[0] for name in names}
    assert names == {f"{step}-a0-{task}.json" for step in steps for task in ("gsm8k", "triviaqa")}
    assert len(steps) == 3  # the run's beginning, and both stages' ends
    checks = [row for row in rows(run, "gates.jsonl") if row["row"] == "check"]
    told = {row["subject"]: row for row in checks if row["id"] == "G4"}
    assert told["triviaqa exact_match"]["result"] == "pass"
    assert told["gsm8k gold_bpb"]["result"] == "pass"
    assert told["gsm8k exact_match"]["result"] == "not applicable"
    assert told["gsm8k exact_match"]["high"] > told["gsm8k exact_match"]["value"]
    assert {row["result"] for row in checks if row["id"] == "G7"} == {"pass"}


def test_the_end_of_a_run_tells_what_became_of_its_skills(skilled):
    again = skilled.finish("run", "run", *words(skilled.root / "bench"))
    for stage in STAGES:
        told = [line for line in again.stdout.splitlines() if line.startswith(f"{stage}: ")]
        assert len(told) == 3  # a measure that gates in each task, and one that is reported
        assert any("triviaqa exact_match" in line for line in told)
        assert any("reported, no gate" in line for line in told)
    as_json = skilled.finish("run", "run", *words(skilled.root / "bench"), "--json").stdout
    assert [len(stage["skills"]) for stage in json.loads(as_json)["stages"]] == [3, 3]


def test_answers_that_gate_nothing_are_written_at_a_stages_end_only(skilled):
    folder = skilled.root / "run" / "scores" / "skills"
    first, *ends = [read_task_score(path) for path in sorted(folder.glob("*-gsm8k.json"))]
    assert not first.has("exact_match")
    assert first.has("gold_bpb")
    assert all(end.has("exact_match") and end.texts for end in ends)
    assert len({score.prompts_sha256 for score in (first, *ends)}) == 1


def test_every_verdict_with_skills_is_computed_again(skilled):
    with pytest.raises(SystemExit) as left:
        main(["gate", str(skilled.root / "run"), "--json"])
    assert not left.value.code


def test_a_gate_tells_of_training_text_made_from_the_problems_of_a_score(skilled):
    run = shutil.copytree(skilled.root / "run", skilled.root / "kin")
    gates = (run / "gates.jsonl").read_text()
    read = f'"sources": ["{STAGES[0]}"'
    (run / "gates.jsonl").write_text(gates.replace(read, f'{read}, "gsm_symbolic"'))
    told = {
        check.subject: check.why
        for check in judge_again(run, stage=STAGES[1])[0].decision.checks
        if check.id == "G4"
    }
    kin = "trained on text made from the same problems or their kin: gsm_symbolic"
    assert [subject for subject, why in told.items() if kin in why] == ["gsm8k exact_match"]


@pytest.mark.slow
def test_the_sets_may_be_gone_when_the_run_goes_on(skilled, tmp_path):
    world = World.create(tmp_path)
    bench = write_bench(tmp_path / "bench")
    world.finish("train", "run", "--stage", STAGES[0], *words(bench))
    for path in bench.glob("*/*"):
        path.write_text("gone\n")
    world.finish("run", "run", *words(bench))
    ends = [w.checkpoints("run")[-1] for w in (world, skilled)]
    assert fingerprint(ends[0]) == fingerprint(ends[1])


def test_items_of_a_stage_to_come_are_kept_where_a_run_goes_on_without_its_sets(tmp_path):
    world, bench = World.create(tmp_path), write_bench(tmp_path / "bench")
    more = ["--bench_dir", str(bench)]
    for stage, skill in zip(STAGES, SKILLS, strict=True):
        more += ["--set", f"{stage}.evaluation.skills={json.dumps([skill])}"]
    kept = []
    for _ in range(2):
        process = world.start("run", "run", *more, **{VARIABLE: "rows.metrics=stop@1"})
        told = process.communicate(timeout=60)[1]
        assert process.returncode == StoppedOnRequest.exit_code, told
        kept.append(load_all_kept(tmp_path / "run" / "bench"))
        shutil.rmtree(bench, ignore_errors=True)
    assert kept[0] == kept[1]
    assert kept[0].keys() == {skill["task"] for skill in SKILLS}


@pytest.mark.slow
def test_a_kill_while_skills_are_scored_leads_to_the_same_end(skilled, tmp_path):
    world = World.create(tmp_path)
    bench = write_bench(tmp_path / "bench")
    process = world.start("run", "run", *words(bench))
    scored = tmp_path / "run" / "scores" / "skills"
    wait_until(lambda: len(list(scored.glob("*-gsm8k.json"))) == 2, process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    world.finish("run", "run", *words(bench))
    assert_same_end(world, "run", skilled)


@pytest.mark.slow
def test_stages_with_skills_of_their_own_may_be_trained_one_by_one(tmp_path):
    """The second command must not forget that the items of the first were looked for."""
    world = World.create(tmp_path)
    more = ["--bench_dir", str(write_bench(tmp_path / "bench"))]
    for stage, skill in zip(STAGES, SKILLS, strict=True):
        more += ["--set", f"{stage}.evaluation.skills={json.dumps([skill])}"]
        world.finish("train", "run", "--stage", stage, *more)
    with pytest.raises(SystemExit) as left:
        main(["gate", str(tmp_path / "run")])
    assert not left.value.code


@pytest.mark.slow
def test_a_start_that_trained_nothing_leaves_no_items_behind(skilled, tmp_path):
    """Killed before its first step, a run may be begun again with other sets."""
    world = World.create(tmp_path)
    run, small = tmp_path / "run", write_bench(tmp_path / "small")
    process = world.start("run", "run", *words(small))
    wait_until((run / "bench" / "triviaqa.json").exists, process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not (run / "lineage.jsonl").exists()
    large = write_bench(tmp_path / "large", items=20)
    world.finish("train", "run", "--stage", STAGES[0], *words(large))
    scores = [read_task_score(path) for path in (run / "scores" / "skills").iterdir()]
    assert {len(score.ids) for score in scores} == {20}


def test_items_that_a_refused_start_of_a_later_stage_read_are_read_anew(tmp_path):
    """From other sets, if the next start names some; those of the stage before it stay."""
    world, set_to = World.create(tmp_path), "{}.evaluation.skills={}".format
    benches = {count: write_bench(tmp_path / str(count), items=count) for count in (12, 20)}
    more = ["--set", set_to(STAGES[0], json.dumps(SKILLS[:1]))]
    world.finish("train", "run", "--stage", STAGES[0], *more, "--bench_dir", str(benches[12]))
    more += ["--set", set_to(STAGES[1], json.dumps([{**SKILLS[1], "shots": 3}]))]
    for count, bench in benches.items():
        one = (bench / "gsm8k" / "test.jsonl").read_text().splitlines(keepends=True)[0]
        (bench / "gsm8k" / "train.jsonl").write_text(one)
        words = ("--stage", STAGES[1], *more, "--bench_dir", str(bench))
        assert "too few for 3" in world.finish("train", "run", *words, code=30).stderr
        kept = load_all_kept(tmp_path / "run" / "bench")
        found = {task: len(benchmark.items) for task, benchmark in kept.items()}
        assert found == {"triviaqa": 12, "gsm8k": count}


def test_max_steps_that_lie_behind_a_stages_end_do_not_spoil_its_gate(skilled):
    """The run stands where it was killed: at the end of stage 1, which is not judged yet."""
    run = shutil.copytree(skilled.root / "run", skilled.root / "behind")
    for path in [*run.glob("checkpoints/step-*"), *run.glob("scores/**/*.json")]:
        step = int(path.name.split("-")[1])
        if step > STEPS or (step == STEPS and path.suffix):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (run / "gates.jsonl").unlink()
    (run / "exit.json").unlink()
    skilled.finish("run", "behind", "--max_steps", "2", *words(skilled.root / "bench"))
    assert verdicts(run) == [(STAGES[0], 0, "pass")]


@pytest.mark.parametrize(
    ("name", "content", "named", "code"),
    [
        ("gsm8k/test.jsonl", '{"question": "How many?"}\n', "answer", 31),
        ("gsm8k/test.jsonl", "", "no item", 31),
        ("triviaqa/triviaqa_sm_sub.jsonl", "{]\n", "line 1", 31),
        ("triviaqa/triviaqa_sm_sub.jsonl", None, "is missing", 30),
    ],
)
def test_a_set_that_cannot_be_read_is_named_before_anything_is_trained(
    tmp_path, name, content, named, code
):
    world = World.create(tmp_path)
    path = write_bench(tmp_path / "bench") / name
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    finished = world.finish("run", "run", *words(tmp_path / "bench"), code=code)
    assert named in finished.stderr
    assert path.name in finished.stderr
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.fault(39)
def test_a_score_that_cannot_be_taken_stops_the_run_and_leaves_its_weights(
    skilled, tmp_path, monkeypatch
):
    """The folder of scores turns into a file while the first stage trains."""
    world = World.create(tmp_path)
    bench = write_bench(tmp_path / "bench")
    scored = tmp_path / "run" / "scores" / "skills"

    def put_in_the_way(path: Path, row: Row) -> None:
        if scored.is_dir():
            scored.rename(tmp_path / "entry")
            scored.write_text("in the way")
        append_row(path, row)

    monkeypatch.setattr(loop, "append_row", put_in_the_way)
    stderr = world.finish("run", "run", *words(bench), code=20).stderr
    assert "G4 triviaqa could not be scored" in stderr
    assert verdicts(tmp_path / "run")[-1][2] == "stop"
    last = world.checkpoints("run")[-1]
    assert fingerprint(last) == fingerprint(skilled.root / "run" / "checkpoints" / last.name)


class Failing:
    """Answers nothing: whoever asks meets the error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def reader(self):
        raise self._error


@pytest.mark.fault(39)
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DiskError("the disk is full"), 32),
        (OSError(errno.EIO, "Input/output error"), 11),
        (MemoryError(), 11),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), 11),
        (StoppedOnRequest("stopped"), 10),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), 11),
        (ValueError("a wrong answer"), None),
    ],
)
def test_a_score_that_a_restart_can_take_is_no_verdict(tmp_path, error, code):
    folder = RunFolder(tmp_path)
    folder.create()
    begin_attempt(folder.lineage, AttemptStart(0, step=0, parent=None, reason="a test"))
    position = Position(STAGES[0], stage_step=8, step=8, tokens_seen=1, tokens_spent=1, attempt=0)
    scorer = SkillScorer(folder, benchmarks={"gsm8k": None}, say=print)
    skill = SkillConfig(task="gsm8k")
    if code is None:
        why = scorer.try_score(Failing(error), skill, position=position)
        assert why == "gsm8k could not be scored (ValueError: a wrong answer)"
        return
    with pytest.raises(YxanulError) as raised:
        scorer.try_score(Failing(error), skill, position=position)
    assert raised.value.exit_code == code


def test_a_task_is_scored_in_one_way_in_a_whole_run(tmp_path):
    world = World.create(tmp_path)
    other = json.dumps([{"task": "gsm8k", "shots": 2}])
    more = ["--set", f"stage2_sums.evaluation.skills={other}"]
    finished = world.finish("run", "run", *words(write_bench(tmp_path / "b")), *more, code=30)
    assert "gsm8k has shots 2 here and 0 in stage1_tales" in finished.stderr


def test_too_few_worked_examples_are_told_before_anything_is_trained(tmp_path):
    """And the setting may then be corrected: nothing was fixed by the start that was refused."""
    world = World.create(tmp_path)
    bench = write_bench(tmp_path / "bench")
    train = bench / "gsm8k" / "train.jsonl"
    test = (bench / "gsm8k" / "test.jsonl").read_text().splitlines(keepends=True)
    train.write_text("".join(test[:2]))

    def start(shots: int, code: int) -> str:
        skill = {"task": "gsm8k", "shots": shots, "margin": 5.0, "answers": False}
        more = ["--bench_dir", str(bench), "--set", f"evaluation.skills={json.dumps([skill])}"]
        return world.finish("train", "run", "--stage", STAGES[0], *more, code=code).stderr

    assert "gsm8k has 2 worked examples, too few for 3" in start(3, 30)
    assert not (tmp_path / "run" / "lineage.jsonl").exists()
    start(2, 0)
    assert verdicts(tmp_path / "run") == [(STAGES[0], 0, "pass")]


def test_what_no_gate_can_tell_of_a_skill_is_said_before_the_first_step(skilled, tmp_path):
    skills = [
        {"task": "triviaqa", "margin": 0.05, "training_noise": 0.01},
        {"task": "gsm8k", "shots": 0, "margin": 5.0, "items": 4, "answers": False},
    ]
    world = World.create(tmp_path)
    more = ["--bench_dir", str(skilled.root / "bench"), "--max_steps", str(STEPS)]
    more += ["--set", f"evaluation.skills={json.dumps(skills)}"]
    noisy = json.dumps([{**skills[0], "training_noise": 0.04}])
    more += ["--set", f"{STAGES[1]}.evaluation.skills={noisy}"]
    said = world.finish("run", "run", *more).stderr
    told = [
        "gsm8k has 4 items or clusters of them, fewer than 5, which prove nothing",
        "gsm8k: the noise of training is not known",
        f"{STAGES[0]}: triviaqa may lose 5.00% of its items, and 12 items or clusters of them",
        "score more of them (evaluation.skills, items), or raise margin",
        # what more items would not mend
        "no answer changes; training_noise alone takes 6.58%: raise margin",
    ]
    for sentence in told:
        assert said.index(sentence) < said.index("parameters")
    g4 = [row for row in rows(tmp_path / "run", "gates.jsonl") if row.get("id") == "G4"]
    results = {row["subject"]: row["result"] for row in g4}
    assert results == {
        "triviaqa exact_match": "warn",
        "gsm8k gold_bpb": "not applicable",
    }
    whole = rows(skilled.root / "run", "gates.jsonl")
    unknown = [row["why"] for row in whole if row.get("id") == "G4" and row["margin"] is not None]
    assert all(why.endswith("(noise of training not known)") for why in unknown)


@pytest.mark.parametrize(
    ("pattern", "named"), [("*", "triviaqa, gsm8k"), (f"step-{STEPS:08d}-a0-gsm8k.json", "gsm8k")]
)
def test_scores_of_skills_that_are_gone_are_no_fault_of_the_verdict(
    skilled, capsys, pattern, named
):
    run = shutil.copytree(skilled.root / "run", skilled.root / "gone", dirs_exist_ok=True)
    for path in (run / "scores" / "skills").glob(pattern):
        path.unlink()
    with pytest.raises(SystemExit) as left:
        main(["gate", str(run), "--stage", STAGES[1]])
    assert left.value.code == 30
    told = capsys.readouterr().err
    assert f"no score of {named} at step {STEPS}, where {STAGES[1]} began" in told
    assert "bring the files back" in told
