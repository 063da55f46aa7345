"""Every verb as a user starts it: what it prints, and one clear sentence for what is wrong."""

import errno
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import yxanul
from tests.hardware.cards import foreign
from tests.needs import ANY_NAME, FULL_DISK
from tests.sentences import assert_one_sentence
from tests.train.world import STAGES, World, write_configs
from yxanul.cli import data_verbs, doctor_verbs, run_verbs
from yxanul.cli.output import print_json
from yxanul.cli.writing import open_writing_model
from yxanul.config.load import load_config
from yxanul.data import progress
from yxanul.errors import UsageError
from yxanul.runfolder.checkpoints import CheckpointInfo, checkpoint_name
from yxanul.runfolder.saving import save_checkpoint
from yxanul.train.starting.request import RunRequest
from yxanul.train.starting.settings import read_config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def configs(tmp_path):
    return write_configs(tmp_path / "configs")


def test_plan_computes_the_promised_model(call):
    code, out, _ = call("plan", "--config_dir", ROOT / "configs", "--json")
    plan = json.loads(out)
    assert code == 0
    assert plan["parameters"] == 302_882_304
    assert plan["total_tokens"] == 57_400_000_000
    assert any(claim["holds"] is False for claim in plan["claims"])


def test_plan_speaks_to_people_too(call):
    code, out, _ = call("plan", "--config_dir", ROOT / "configs")
    assert code == 0
    assert "302,882,304" in out
    assert "does not hold" in out


def test_an_unknown_key_is_named_with_its_neighbour(call, configs):
    where = configs / "optimization.yaml"
    where.write_text(where.read_text().replace("max_grad_norm", "max_gradnorm"))
    code, _, err = call("run", "--config_dir", configs)
    assert code == 30
    assert_one_sentence(err, str(where), "max_gradnorm", "max_grad_norm")


def test_an_unknown_key_of_set_is_named(call, configs):
    code, _, err = call("run", "--config_dir", configs, "--set", "training.batch_token=5")
    assert code == 30
    assert_one_sentence(err, "training.batch_token", "batch_tokens")


def test_a_missing_file_is_named(call, configs):
    (configs / "optimization.yaml").unlink()
    code, _, err = call("run", "--config_dir", configs)
    assert code == 30
    assert_one_sentence(err, "optimization.yaml")


def test_a_stage_that_does_not_exist_lists_the_stages(call, configs):
    code, _, err = call("train", "--config_dir", configs, "--stage", "stage1_tails")
    assert code == 30
    assert_one_sentence(err, *STAGES)


def test_a_broken_yaml_names_file_and_line(call, configs):
    where = configs / "model_config.yaml"
    where.write_text("model:\n  name: [tiny\n")
    code, _, err = call("plan", "--config_dir", configs)
    assert code == 30
    assert_one_sentence(err, str(where), "line")


@pytest.mark.parametrize(
    "words",
    [["fly"], ["run"], ["run", "--config_dir", "configs", "--nonsense"], ["plan", "--config_dir"]],
    ids=["verb", "missing flag", "unknown flag", "missing value"],
)
def test_a_wrong_command_line_leaves_with_30(call, words):
    code, out, err = call(*words)
    assert code == 30
    assert out == ""
    assert err.startswith("yxanul: ")


def test_an_error_under_json_is_one_object(call, configs):
    code, out, _ = call("train", "--config_dir", configs, "--stage", "nowhere", "--json")
    told = json.loads(out)
    assert (code, told["exit_code"]) == (30, 30)
    assert "nowhere" in told["error"]


def test_a_rank_silences_the_verbs_that_ranks_share_alone(call, tmp_path, monkeypatch):
    """A pod may have a RANK of its own, which is no affair of other verbs."""
    nowhere = tmp_path / "nowhere"
    for rank, ranks, prints in (("0", "2", True), ("1", "2", False), ("1", "1", True)):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", ranks)
        code, out, _ = call("run", "--config_dir", nowhere, "--json")
        assert (code, bool(out)) == (30, prints)
        code, out, _ = call("train", "--config_dir", nowhere, "--stage", STAGES[0], "--json")
        assert (code, bool(out)) == (30, prints)
        code, out, _ = call("plan", "--config_dir", nowhere, "--json")
        assert (code, json.loads(out)["exit_code"]) == (30, 30)
        code, out, _ = call("plan", "--config_dir", ROOT / "configs", "--json")
        assert code == 0
        assert json.loads(out)["parameters"] == 302_882_304


def test_a_folder_of_data_that_is_not_there_is_named(call, configs, tmp_path):
    missing = tmp_path / "nowhere"
    out = tmp_path / "run"
    code, _, err = call("run", "--config_dir", configs, "--data", missing, "--out", out)
    assert code == 30
    assert str(missing) in err
    assert json.loads((out / "exit.json").read_text())["code"] == 30


@pytest.mark.slow  # tests/data/test_hub_reading.py has a hub that is not there
def test_an_unreachable_hub_is_said_in_one_sentence_with_the_ways_on(tmp_path):
    """A port of this machine on which nobody listens stands for a network that is down."""
    environment = {**os.environ, "PYTHONPATH": "src", "HF_ENDPOINT": "http://127.0.0.1:9"}
    environment |= {"HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "cache")}
    words = ["--config_dir", "configs", "--stage", "stage1_wikipedia", "--out", tmp_path / "run"]
    done = subprocess.run(
        [sys.executable, "src/trainer.py", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
        env=environment,
    )
    assert done.returncode == 11, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    for part in ("wikimedia/wikipedia", "--data embedded", "--data DIR", "HF_TOKEN"):
        assert part in last
    assert "Traceback" not in done.stderr


def test_prepare_then_run_from_the_prepared_folder(call, tmp_path):
    world = World.create(tmp_path)
    prepared = tmp_path / "prepared"
    words = ["--config_dir", tmp_path / "configs", "--stage", "all", "--out", prepared]
    code, out, _ = call("prepare", *words, "--data", tmp_path / "texts", "--json")
    assert code == 0
    assert {source["name"] for source in json.loads(out)["sources"]} == set(STAGES)
    words = ["--config_dir", tmp_path / "configs", "--data", prepared, "--out", tmp_path / "run"]
    code, out, err = call("run", *words, "--max_steps", "2", "--json")
    assert code == 0, err
    assert json.loads(out)["steps"] == 2
    assert not (tmp_path / "run" / "data").exists()
    code, out, _ = call("inspect", tmp_path / "run", "--verify", "--json")
    assert code == 0
    assert json.loads(out)["checkpoints"][0]["name"] == world.checkpoints("run")[0].name


def test_prepare_of_a_later_stage_names_those_before_it(call, tmp_path):
    World.create(tmp_path)
    words = ["--config_dir", tmp_path / "configs", "--data", tmp_path / "texts"]
    code, _, err = call("prepare", *words, "--stage", STAGES[1], "--out", tmp_path / "prepared")
    assert code == 0
    assert err.splitlines()[0].startswith(f"stages to prepare: {STAGES[0]}, {STAGES[1]} (")


def test_inspect_verifies_and_finds_the_flipped_bit(call, tmp_path, monkeypatch):
    prepared = tmp_path / "prepared"
    World.create(tmp_path)
    words = ["--config_dir", tmp_path / "configs", "--stage", STAGES[0], "--out", prepared]
    assert call("prepare", *words, "--data", tmp_path / "texts")[0] == 0
    code, out, _ = call("inspect", prepared, "--verify", "--token", "7")
    assert code == 0
    assert STAGES[0] in out
    with monkeypatch.context() as patch:
        patch.setattr(progress, "_PROGRESS_S", 0)
        assert "training tokens looked through" in call("inspect", prepared, "--overlap")[2]
    shard = prepared / STAGES[0] / "train-00000.bin"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    code, _, err = call("inspect", prepared, "--verify")
    assert code == 31
    assert_one_sentence(err, str(shard))


def test_inspect_refuses_what_is_no_folder_of_ours(call, tmp_path):
    code, _, err = call("inspect", tmp_path)
    assert code == 30
    assert_one_sentence(err, str(tmp_path))


def test_inspect_says_when_a_runs_data_is_gone(call, tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    code, out, _ = call("inspect", run)
    assert code == 0
    assert f"no prepared data at {run / 'data'}" in out
    for words in (["--verify"], ["--token", "7"], ["--overlap"]):
        code, _, err = call("inspect", run, *words)
        assert code == 31
        assert_one_sentence(err, str(run / "data"))
    (run / "data.json").write_text(json.dumps({"prepared": str(tmp_path / "deleted")}))
    code, _, err = call("inspect", run)
    assert code == 31
    assert_one_sentence(err, str(tmp_path / "deleted"), "data.json")


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    path = folder / checkpoint_name(7, 0)
    info = CheckpointInfo(path, 7, 0, 448, STAGES[0], permanent=False, parent=None)
    save_checkpoint(folder, info, model={}, optimizer={}, state={})
    return path


def test_inspect_describes_and_verifies_one_checkpoint(call, checkpoint):
    code, out, _ = call("inspect", checkpoint, "--verify")
    assert code == 0
    assert f"checkpoint {checkpoint.name}: verified, 448 tokens" in out
    for words in (["--token", "7"], ["--dropped"], ["--packing", "64"], ["--overlap"]):
        code, _, err = call("inspect", checkpoint, *words)
        assert code == 30
        assert_one_sentence(err, "is a checkpoint", words[0])
    (checkpoint / "model.safetensors").unlink()
    code, _, err = call("inspect", checkpoint, "--verify")
    assert code == 31
    assert_one_sentence(err, str(checkpoint / "model.safetensors"))


def test_a_checkpoint_is_no_data(call, configs, checkpoint, tmp_path):
    words = ["--config_dir", configs, "--data", checkpoint]
    told = [
        call("run", *words, "--out", tmp_path / "run"),
        call("prepare", *words, "--stage", "all", "--out", tmp_path / "prepared"),
    ]
    for code, _, err in told:
        assert code == 30
        assert f"{checkpoint} is a checkpoint" in err
        assert "--init_from" in err
        assert "Traceback" not in err


@pytest.mark.parametrize("flag", ["--config_dir", "--model", "--data", "inspect"])
def test_a_name_that_no_disk_can_hold_is_one_sentence(call, configs, tmp_path, flag):
    long = tmp_path / ("x" * 300)
    stage = ["--config_dir", configs, "--stage", "all"]
    words = {
        "--config_dir": ["plan", "--config_dir", long],
        "--model": ["plan", "--config_dir", configs, "--model", long],
        "--data": ["prepare", *stage, "--data", long, "--out", tmp_path / "out"],
        "inspect": ["inspect", long],
    }
    code, _, err = call(*words[flag])
    assert code == 30
    assert_one_sentence(err, str(long), "File name too long")


def test_no_words_at_all_give_the_help(call):
    code, out, err = call()
    assert code == 30
    assert out.startswith("Usage: yxanul")
    assert err == ""


@pytest.mark.parametrize(
    ("error", "told"),
    [(KeyboardInterrupt(), "interrupted"), (MemoryError(), "more memory")],
    ids=["Ctrl-C", "memory"],
)
def test_verbs_that_begin_anew_do_not_promise_to_go_on(call, monkeypatch, tmp_path, error, told):
    def ended(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(data_verbs, "find_subject", ended)
    assert_one_sentence(call("inspect", tmp_path)[2], told)
    assert "goes on" not in call("inspect", tmp_path)[2]


def test_an_interrupted_prepare_says_how_to_go_on(call, configs, tmp_path, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(data_verbs, "prepare", interrupted)
    words = ["--stage", "all", "--data", tmp_path, "--out", tmp_path / "out"]
    code, _, err = call("prepare", "--config_dir", configs, *words)
    assert code == 130
    assert_one_sentence(err, "interrupted", "same command goes on")


NO_MEMORY = "CUDA out of memory. Tried to allocate 4 GiB\nand more"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError(NO_MEMORY)], ids=["host", "card"])
def test_memory_that_is_not_there_is_told_by_every_verb(
    call, configs, tmp_path, monkeypatch, error
):
    def exhausted(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(data_verbs, "prepare", exhausted)
    words = ["--stage", "all", "--data", tmp_path, "--out", tmp_path / "out", "--json"]
    code, out, err = call("prepare", "--config_dir", configs, *words)
    assert (code, json.loads(out)["exit_code"]) == (11, 11)
    assert_one_sentence(err, "out of memory (", "the same command goes on", "more memory")


def test_a_broken_pipe_that_is_not_stdout_is_an_internal_error(
    call, configs, tmp_path, monkeypatch
):
    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "a program of ours has ended")

    monkeypatch.setattr(data_verbs, "prepare", broken)
    words = ["--stage", "all", "--data", tmp_path, "--out", tmp_path / "out"]
    code, _, err = call("prepare", "--config_dir", configs, *words)
    assert code == 1
    assert "Traceback" in err
    assert err.endswith("internal error: BrokenPipeError: [Errno 32] a program of ours has ended\n")


def test_an_interrupt_while_torch_is_loaded_is_no_traceback(tmp_path):
    (tmp_path / "torch.py").write_text("raise KeyboardInterrupt\n")
    done = subprocess.run(
        [sys.executable, "-m", "yxanul", "doctor"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT / 'src'}"},
    )
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("epochs", ["inf", "nan"])
def test_endless_epochs_are_refused(call, configs, epochs):
    words = ["--config_dir", configs, "--stage", STAGES[0], "--num_epochs", epochs]
    code, _, err = call("train", *words)
    assert code == 30
    assert_one_sentence(err, "--num_epochs")


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        (("--data", "embedded"), "data.source=texts"),
        (("--data", "embedded"), f"{STAGES[1]}.data.source=mine"),
        (("--bench_dir", "here"), f"{STAGES[0]}.evaluation.bench=there"),
        (("--num_epochs", "1"), "training.total_tokens=4096"),
        (("--num_epochs", "1"), f"{STAGES[1]}.training.total_tokens=4096"),
        (("--deepspeed", "one.json"), "compute.deepspeed_config=other.json"),
    ],
)
def test_a_flag_and_a_key_of_the_same_are_refused_together(call, configs, tmp_path, flag, text):
    """The flag won without a word, also over a key of one stage."""
    words = ["--config_dir", configs, "--stage", STAGES[1], "--out", tmp_path / "run"]
    code, _, err = call("train", *words, *flag, "--set", text)
    assert code == 30
    assert_one_sentence(err, f"{flag[0]} and --set {text}")
    assert not (tmp_path / "run").exists()


def test_an_earlier_stages_tokens_may_stand_beside_num_epochs(configs):
    tokens = f"{STAGES[0]}.training.total_tokens=4096"
    request = RunRequest(configs, stage=STAGES[1], data="x", num_epochs=1.0, overrides=(tokens,))
    assert read_config(request).stages[0].training.total_tokens == 4096


@pytest.mark.parametrize("seconds", ["inf", "nan"])
def test_an_endless_wait_is_refused(call, seconds):
    code, _, err = call("supervise", "--backoff_s", seconds, "--", "true")
    assert code == 30
    assert_one_sentence(err, "--backoff_s")


def verbs_in(help_text: str) -> list[str]:
    return re.findall(r"^  (\w+)", help_text.partition("Commands:\n")[2], flags=re.MULTILINE)


def test_every_verb_has_help_with_an_example(call):
    verbs = [[verb] for verb in verbs_in(call("--help")[1])]
    assert ["run"] in verbs
    verbs += [["bench", part] for part in verbs_in(call("bench", "--help")[1])]
    assert ["bench", "step"] in verbs
    for verb in verbs:
        code, out, _ = call(*verb, "--help")
        assert code == 0
        assert f"Example: yxanul {verb[0]}" in out, verb


@FULL_DISK
def test_a_full_disk_behind_stdout_is_one_sentence():
    command = [sys.executable, "-m", "yxanul", "plan", "--config_dir", str(ROOT / "configs")]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*command, "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": "src"},
        )
    assert done.returncode == 32
    assert_one_sentence(done.stderr, "standard output cannot be written")


@FULL_DISK
@pytest.mark.parametrize(("words", "code"), [("plan --config_dir configs", 32), ("watch no", 30)])
def test_a_full_disk_behind_stderr_too_leaves_the_code_and_the_supervisor_hears(
    words, code, tmp_path
):
    note = tmp_path / "note"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "yxanul", *words.split()],
            stdout=full,
            stderr=full,
            check=False,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": "src", "YXANUL_RUN_NOTE": str(note)},
        )
    assert done.returncode == code
    assert code == 32 or json.loads(note.read_text())["code"] == code


@FULL_DISK
@pytest.mark.parametrize("is_named", [False, True], ids=["open file", "named file"])
def test_a_full_disk_that_is_not_stdouts_is_told_as_that(
    call, configs, tmp_path, monkeypatch, is_named
):
    def full(*_: object, **__: object) -> None:
        with Path("/dev/full").open("wb") as file:
            try:
                os.write(file.fileno(), b"text")
            except OSError as error:
                error.filename = str(tmp_path / "part") if is_named else None
                raise

    monkeypatch.setattr(data_verbs, "prepare", full)
    words = ["--stage", "all", "--data", tmp_path, "--out", tmp_path / "out", "--json"]
    code, out, err = call("prepare", "--config_dir", configs, *words)
    assert (code, json.loads(out)["exit_code"]) == (32, 32)
    assert_one_sentence(err, "the disk is full: ", str(tmp_path / "part") if is_named else "TMPDIR")
    assert "standard output" not in err


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"{sys.executable} -m yxanul plan --config_dir {ROOT / 'configs'} | head -1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": "src"},
    )
    assert (done.returncode, done.stderr) == (0, "")


def unread(*words: object, **streams: int) -> subprocess.CompletedProcess:
    """Run the program with a stdout that nobody reads."""
    reads, writes = os.pipe()
    os.close(reads)
    try:
        return subprocess.run(
            [sys.executable, "-m", "yxanul", *map(str, words)],
            stdout=writes,
            stderr=streams.get("stderr", subprocess.PIPE),
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": "src"},
        )
    finally:
        os.close(writes)


PLAN = ("plan", "--config_dir", "configs")


@pytest.mark.parametrize("words", [(*PLAN, "--json"), PLAN, ("plan", "-h")], ids=" ".join)
def test_a_reader_that_has_gone_before_is_no_error(words):
    done = unread(*words)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_of_both_streams_that_has_gone_is_no_error():
    assert unread(*PLAN, stderr=subprocess.STDOUT).returncode == 0


def test_what_is_wrong_is_told_to_who_still_reads(tmp_path):
    done = unread("plan", "--config_dir", tmp_path / "nowhere", "--json")
    assert done.returncode == 30
    assert_one_sentence(done.stderr, "nowhere")


@ANY_NAME
def test_a_path_that_is_not_utf8_is_told_and_ends_nothing(call, tmp_path):
    run = tmp_path / os.fsdecode(b"caf\xe9")
    (run / "checkpoints").mkdir(parents=True)
    code, out, err = call("inspect", run, "--json")
    assert code == 0, err
    assert json.loads(out)["folder"] == str(run)
    code, out, err = call("inspect", run)
    assert code == 0, err
    assert "caf\\udce9" in out


def test_json_on_a_stdout_of_few_characters_is_json(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    print_json({"text": "Krak\u00f3w \N{SLIGHTLY SMILING FACE}"})
    assert json.loads(written.getvalue()) == {"text": "Krak\u00f3w \N{SLIGHTLY SMILING FACE}"}


def test_the_program_tells_its_version_and_answers_h(call):
    assert call("--version")[:2] == (0, f"yxanul {yxanul.__version__}\n")
    code, out, _ = call("-h")
    assert code == 0
    assert all(verb in out for verb in ("run", "gate", "report", "doctor", "generate"))


def test_verbs_that_compute_nothing_with_tensors_load_no_torch():
    """What is asked often, and what only starts others, must not wait seconds for it."""
    look = """
import sys
from yxanul.cli.main import main
verbs = ("plan", "prepare", "inspect", "gate", "report", "watch", "supervise")
for words in (["--version"], *([verb, "--help"] for verb in verbs)):
    try:
        main(words)
    except SystemExit:
        pass
sys.exit("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, check=False)
    assert done.returncode == 0


def test_a_path_may_hold_any_characters(configs):
    """What lies beyond 16 bits, as emoji do, was refused."""
    path = 'té 😀 "a" \\ \u2028'
    config = read_config(RunRequest(configs, data=path, bench_dir=Path(path)))
    assert {stage.data.source for stage in config.stages} == {path}
    assert {stage.evaluation.bench for stage in config.stages} == {path}
    engine = run_verbs._engine(Path(path), (), launched=False)
    words = ("data.source=texts", "optimizer={name: adamw}", *engine)
    assert load_config(configs, overrides=words).optimization.compute.deepspeed_config == path


def test_doctor_shows_its_table_beside_a_card_that_torch_was_not_built_for(call, monkeypatch):
    foreign(monkeypatch)
    code, out, _ = call("doctor", "--json")
    rows = {row["name"]: row for row in json.loads(out)["features"]}
    assert code == 0
    assert rows["CUDA"]["state"] == "unavailable"
    assert "is an sm_70, and torch" in rows["CUDA"]["reason"]
    assert rows["device"]["reason"].startswith("cuda:0: Tesla V100")
    assert call("doctor", "--strict")[0] == 30


def test_a_folder_is_not_opened_on_a_card_that_torch_was_not_built_for(tmp_path, monkeypatch):
    (tmp_path / "config.json").touch()
    foreign(monkeypatch)
    with pytest.raises(UsageError, match="is an sm_70"):
        open_writing_model(str(tmp_path))


@pytest.mark.parametrize("what", ["step", "optimizer"])
def test_nothing_is_timed_on_a_card_that_torch_was_not_built_for(call, monkeypatch, what):
    foreign(monkeypatch)
    code, _, err = call("bench", what, "--model", "nano")
    assert code == 30
    assert_one_sentence(err, "is an sm_70")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("uncorrectable ECC error encountered", ("a card failed", "ECC")),
        ("out of memory", ("yxanul: out of memory (CUDA error: out of memory)", "other programs")),
    ],
)
def test_doctor_names_a_card_that_does_not_answer_or_is_full(call, monkeypatch, words, parts):
    def refuse(**_):
        raise torch.AcceleratorError(f"CUDA error: {words}\nmore")

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", refuse)
    monkeypatch.setattr(doctor_verbs, "pick_device", lambda: torch.device("cuda", 0))
    code, _, err = call("doctor")
    assert code == 11
    assert_one_sentence(err, *parts)
