"""`yxanul generate` as a user starts it: text as it comes, one JSON object, one clear sentence."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluate.runs import add_checkpoint, flip_bit, write_run
from tests.sentences import assert_one_sentence
from yxanul.cli.chatting import TraceView
from yxanul.cli.main import main
from yxanul.cli.prompts import read_prompts
from yxanul.data.tokenizer import load_tokenizer
from yxanul.evaluate.answers.chat import WORDS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("generate") / "run")
    for step in (3, 6):
        add_checkpoint(folder, step)
    return folder


@pytest.fixture
def call(capsys):
    """Return a function that runs the verb here: words -> (exit code, stdout, stderr)."""

    def start(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["generate", *map(str, words)])
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    return start


def process(*words: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "yxanul", "generate", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )


def told(call, *words: object) -> dict:
    code, out, err = call(*words, "--json")
    assert code == 0, err
    return json.loads(out)


def test_the_json_object_says_what_was_written_and_by_what(call, run):
    found = told(call, run.root, "The city of", "--max_new_tokens", "12", "--seed", "4")
    assert found["prompt"] == "The city of"
    assert found["tokens"] == len(found["token_ids"]) == 12
    assert load_tokenizer().decode(found["token_ids"]).startswith(found["text"])
    assert (found["stop_reason"], found["seed"], found["step"]) == ("max_new_tokens", 4, 6)
    assert found["model"] == str(run.checkpoints / "step-00000006-a0")
    assert found["tokens_per_s"] > 0


def test_the_text_on_stdout_is_the_text_of_the_json_object(call, run):
    words = (run.root, "The city of", "--max_new_tokens", "20")
    code, out, err = call(*words)
    assert code == 0
    assert out == told(call, *words)["text"] + "\n"
    for part in ("step-00000006-a0", "seed 0", "20 tokens", "max_new_tokens"):
        assert part in err


def test_the_default_is_a_hundred_tokens_or_the_end_of_the_context(call, run):
    positions = 64
    found = told(call, run.root, "The city of")
    assert (found["tokens"], found["stop_reason"]) == (positions - 1 - 3, "context")


def test_a_named_checkpoint_is_taken(call, run):
    older = run.checkpoints / "step-00000003-a0"
    assert told(call, older, "a", "--max_new_tokens", "1")["step"] == 3


def test_options_reach_the_model(call, run):
    greedy = [
        told(call, run.root, "a", *more)["token_ids"]
        for more in (("--temperature", "0"), ("--top_k", "1"), ("--top_p", "1e-9", "--seed", "8"))
    ]
    assert greedy[0] == greedy[1] == greedy[2]
    assert told(call, run.root, "a", "--seed", "8")["token_ids"] != greedy[0]


def test_text_ends_before_the_first_stop_text(call, run):
    whole = told(call, run.root, "a")
    stop = whole["text"][30:34]
    found = told(call, run.root, "a", "--stop", "not there", "--stop", stop)
    assert found["stop_reason"] == "stop_text"
    assert found["text"] == whole["text"].partition(stop)[0]


def test_a_dash_reads_the_prompt_from_standard_input(call, run, monkeypatch):
    def read(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    read("Kraków\nis".encode())
    found = told(call, run.root, "-")
    assert found["prompt"] == "Kraków\nis"
    assert found["text"] == told(call, run.root, "Kraków\nis")["text"]
    read(b"\xff")
    code, _, err = call(run.root, "-")
    assert code == 30
    assert_one_sentence(err, "not UTF-8")


def test_a_repetition_penalty_reaches_the_model(call, run):
    words = (run.root, "a", "--temperature", "0")
    plain = told(call, *words)["token_ids"]
    penalised = told(call, *words, "--repetition_penalty", "5")["token_ids"]
    assert len(set(penalised)) > len(set(plain))


@pytest.mark.parametrize("suffix", [".jsonl", ".txt"])
def test_many_prompts_are_written_as_each_alone(call, run, tmp_path, suffix):
    prompts = ["The city of", "", "Kraków\u2028is", "a b c d e"]
    lines = [json.dumps({"prompt": p, "id": 1}) if suffix == ".jsonl" else p for p in prompts]
    path = tmp_path / f"prompts{suffix}"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = (run.root, "--seed", "4", "--max_new_tokens", "9")
    code, out, err = call(*words, "--prompts", path, "--json")
    assert code == 0, err
    found = [json.loads(line) for line in out.strip().split("\n")]
    assert [one["prompt"] for one in found] == prompts
    for one in found:
        alone = told(call, *words, one["prompt"])
        assert {**one, "tokens_per_s": 0} == {**alone, "tokens_per_s": 0}
    code, out, err = call(*words, "--prompts", path)
    assert out == "".join(
        f"[{n}] {one['prompt']}\n{one['text']}\n\n" for n, one in enumerate(found, 1)
    )
    assert "texts: 4" in err.splitlines()
    assert "4 texts, 36 tokens" in err


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "no prompt"),
        (b'{"prompt": 3}\n', "line 1 is no object"),
        (b'\n{"prompt": "a"}\n["a"]\n', "line 3 is no object"),
        (b"{\n", "line 1 is not JSON"),
        (b'{"prompt": "\\ud800"}\n', "not UTF-8"),
        (b"\xff", "not UTF-8"),
        (json.dumps({"prompt": "a " * 80}).encode(), "prompt 1 of 1"),
    ],
    ids=str,
)
def test_a_file_of_prompts_that_is_none_is_one_sentence(call, run, tmp_path, content, part):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(content)
    code, out, err = call(run.root, "--prompts", path)
    assert (code, out) == (30, "")
    assert_one_sentence(err, part)


def test_a_carriage_return_within_a_prompt_is_part_of_it(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"a\rb\r\nc\n")
    assert read_prompts(path) == ["a\rb", "c"]


@pytest.fixture
def traced(tmp_path):
    """A run whose checkpoint says that it read the embedded traces."""
    folder = write_run(tmp_path / "run")
    add_checkpoint(folder, 3, trained=("reasoning_traces",))
    return folder


def test_a_question_is_asked_in_the_form_of_the_traces(call, traced):
    words = (traced.root, "How many?", "--chat", "--max_new_tokens", "20")
    found = told(call, *words)
    assert found["question"] == "How many?"
    assert found["prompt"] == "Question: How many?\n\nReasoning:\n"
    assert (found["trace"], found["answer"]) == (found["text"].strip(), None)
    code, out, _ = call(*words)
    assert (code, out) == (0, f"Reasoning:\n{found['text']}\n")


def test_many_questions_are_asked_together(call, traced, tmp_path):
    path = tmp_path / "questions.txt"
    path.write_bytes("How many?\r\nAnd now?".encode("utf-8-sig"))
    words = (traced.root, "--chat", "--max_new_tokens", "5")
    code, out, err = call(*words, "--prompts", path, "--json")
    assert code == 0, err
    for line, question in zip(out.strip().split("\n"), ("How many?", "And now?"), strict=True):
        alone = told(call, *words, question)
        assert {**json.loads(line), "tokens_per_s": 0} == {**alone, "tokens_per_s": 0}


def test_a_trace_is_dimmed_on_a_terminal_only(capsys, monkeypatch):
    for is_terminal, no_color in ((True, False), (True, True), (False, False)):
        monkeypatch.setattr(sys.stdout, "isatty", lambda is_terminal=is_terminal: is_terminal)
        monkeypatch.setenv("NO_COLOR", "1") if no_color else monkeypatch.delenv("NO_COLOR", False)
        view = TraceView(WORDS)
        for piece in ("It is", " four.\n", "\nAns", "wer: 4"):
            view.push(piece)
        view.finish()
        out = capsys.readouterr().out
        assert ("\033[2m" in out) == (is_terminal and not no_color)
        assert out.replace("\033[2m", "").replace("\033[0m", "") == (
            "Reasoning:\nIt is four.\n\nAnswer: 4\n"
        )
        assert "\033" not in out.partition("Answer")[2]


def test_a_person_on_a_terminal_is_asked_until_the_input_ends(call, traced, monkeypatch):
    content = b"How many?\n\n" + b"a " * 80 + b"\nHow many?"
    stdin = io.TextIOWrapper(io.BytesIO(content))
    stdin.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", stdin)
    code, out, err = call(traced.root, "--chat", "--max_new_tokens", "5")
    assert code == 0
    first, second = out.split("Reasoning:\n")[1:]
    assert first == second
    assert err.replace("<|endoftext|>", "").count("> ") == 5
    assert "64 positions" in err


def test_a_persons_questions_are_objects_as_one_of_the_command_line_is(call, traced, monkeypatch):
    stdin = io.TextIOWrapper(io.BytesIO(b"How many?\r\nAnd now?\n"))
    stdin.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", stdin)
    words = (traced.root, "--chat", "--max_new_tokens", "5")
    code, out, err = call(*words, "--json")
    assert code == 0, err
    for line, question in zip(out.splitlines(), ("How many?", "And now?"), strict=True):
        alone = told(call, *words, question)
        assert {**json.loads(line), "tokens_per_s": 0} == {**alone, "tokens_per_s": 0}


@pytest.mark.slow
def test_two_processes_write_the_same_and_what_one_writes_comes_while_it_writes(run):
    words = (run.root, "The city of", "--seed", "3")
    first, second = process(*words), process(*words)
    pieces: list[bytes] = []
    while piece := os.read(first.stdout.fileno(), 1 << 16):
        pieces.append(piece)
    assert first.wait() == second.wait() == 0
    assert b"".join(pieces) == second.stdout.read()
    assert len(pieces) > 5, "it comes in pieces"
    for one in (first, second):
        one.stdout.close()
        one.stderr.close()


def test_a_newer_checkpoint_that_does_not_verify_is_told(call, tmp_path):
    folder = write_run(tmp_path / "run")
    add_checkpoint(folder, 3)
    flip_bit(add_checkpoint(folder, 6) / "model.safetensors")
    code, out, err = call(folder.root, "a", "--max_new_tokens", "2", "--json")
    assert code == 0
    assert json.loads(out)["step"] == 3
    assert "not used: " in err
    assert "step-00000006-a0" in err


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("a " * 80,), ("82 tokens", "64 positions")),
        (("a", "--temperature", "nan"), ("temperature is nan",)),
        (("a", "--temperature", "-1"), ("temperature is -1",)),
        (("a", "--top_p", "inf"), ("top_p is inf",)),
        (("a", "--top_p", "0"), ("top_p is 0",)),
        (("a", "--top_k", "0"), ("top_k is 0",)),
        (("a", "--max_new_tokens", "-5"), ("max_new_tokens is -5",)),
        (("a", "--repetition_penalty", "0"), ("repetition_penalty is 0",)),
        (("a", "--seed", "1e3"), ("--seed",)),
        (("a", "--seed", "99999999999999999999"), ("seed is 99999999999999999999",)),
        (("a", "--stop", ""), ("stop text is empty",)),
        (("\udcff",), ("not UTF-8",)),
        ((), ("PROMPT", "--prompts")),
        (("--chat",), ("PROMPT", "terminal")),
        (("--chat", "a"), ("no traces of a known form",)),
        (("a", "--prompts", "p.txt"), ("both given",)),
        (("--prompts", "p.csv"), (".jsonl", ".txt")),
        (("--prompts", "nowhere.txt"), ("cannot be read",)),
    ],
    ids=str,
)
def test_bad_input_is_one_sentence(call, run, words, parts):
    code, out, err = call(run.root, *words)
    assert code == 30
    assert out == ""
    assert_one_sentence(err, *parts)


def test_an_empty_stop_text_is_told_before_a_model_is_looked_for(call):
    code, _, err = call("/nowhere", "a", "--stop", "")
    assert code == 30
    assert_one_sentence(err, "stop text is empty")


@pytest.mark.parametrize("model", ["gpt2", "/nowhere", "configs", "README.md"])
def test_what_is_no_model_is_told_with_what_would_be(call, model):
    code, _, err = call(model, "a")
    assert code == 30
    assert_one_sentence(err, model, "run folder", "checkpoints")


def test_help_has_an_example(call):
    code, out, _ = call("--help")
    assert code == 0
    assert "Example: yxanul generate" in out
