"""`yxanul report`: what it prints, and one clear sentence for what is wrong."""

import json
import shutil

import pytest

from tests.sentences import assert_one_sentence
from yxanul.cli.main import main


@pytest.fixture
def call(capsys):
    """Return a function that runs the program here: words -> (exit code, stdout, stderr)."""

    def report(*words) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["report", *map(str, words)])
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    return report


@pytest.fixture
def copied(run, tmp_path):
    place = shutil.copytree(run, tmp_path / "copy")
    (place / "report.html").unlink()
    return place


def test_it_prints_the_path_of_the_page(call, copied):
    assert call(copied) == (0, f"{copied / 'report.html'}\n", "")
    assert (copied / "report.html").read_text().endswith("</html>\n")


def test_json_is_one_object(call, copied):
    code, out, _ = call(copied, "--json")
    path = copied / "report.html"
    assert (code, json.loads(out)) == (0, {"report": str(path), "bytes": path.stat().st_size})


def test_several_runs_are_compared_on_a_page_beside_the_first(call, copied):
    other = shutil.copytree(copied, copied.with_name("other"))
    page = copied.parent / "comparison.html"
    assert call(copied, other) == (0, f"{page}\n", "")
    assert page.read_text().endswith("</html>\n")
    assert not (copied / "report.html").exists()


def test_what_is_no_comparison_is_said_in_one_sentence(call, copied, tmp_path):
    for words, part in (
        ((copied, copied), "named twice"),
        ([tmp_path / str(number) for number in range(8)], "at most 7"),
        ((copied, "--out", tmp_path / "x.html"), "--out"),
    ):
        code, _, err = call(*words)
        assert code == 30
        assert_one_sentence(err, part)


def test_a_folder_that_is_no_run_is_named(call, tmp_path):
    for place in (tmp_path / "nowhere", tmp_path):
        code, _, err = call(place)
        assert code == 30
        assert_one_sentence(err, place)
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_row_yet_is_told_to_wait(call, copied):
    for text in ("", '{"step": 1, "att'):
        (copied / "metrics.jsonl").write_text(text)
        code, _, err = call(copied)
        assert code == 30
        assert_one_sentence(err, copied, "no metric row yet")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("metrics.jsonl", '{"step": 1, "attempt": 0}\n'),
        ("metrics.jsonl", "not json\n"),
        ("metrics.jsonl", '{"step": 1, "attempt": 0, "stage": "s", "tokens_seen": -4}\n'),
        ("metrics.jsonl", '{"step": 1, "attempt": 0, "stage": "s", "tokens_seen": 4, "stage_step": '
         '1, "loss": "low"}\n'),
        ("gates.jsonl", '{"row": "check", "stage": "s", "attempt": 0, "step": 1}\n'),
        ("gates.jsonl", '{"row": "check", "stage": "s", "attempt": 0, "step": 1, "result": "pass", '
         '"value": "much"}\n'),
        ("gates.jsonl", '{"row": "verdict", "stage": 4, "attempt": 0, "step": 1}\n'),
        ("gates.jsonl", '{"stage": "s", "attempt": 0, "step": 1, "verdict": "pass", "bpb_after": '
         '[1]}\n'),
        ("samples.jsonl", '{"prompt": "p"}\n'),
        ("lineage.jsonl", '{"event": "attempt", "attempt": "first"}\n'),
        ("lineage.jsonl", "[1]\n"),
        ("config.yaml", "model: [\n"),
        ("config.yaml", "model:\n  name: x\n"),
        ("config.yaml", "stages: 4\n"),
        ("environment.json", "[]"),
        ("environment.json", '{"features": {"a": 1}}'),
        ("environment.json", '{"command": 4}'),
        ("exit.json", "{"),
        ("exit.json", '{"code": "zero"}'),
        ("data/manifest.json", "{}"),
        ("scores/step-00000000-a0-math.json", '{"step": 0, "attempt": 0, "domain": "math"}'),
        ("scores/step-00000000-a0-math.json", '{"step": 0, "attempt": 0, "domain": "math", "bpb": '
         '1, "nats": [true]}'),
        ("scores/step-00000000-a0-math.json", '{"step": 0, "attempt": 0, "domain": "math", "bpb": '
         "NaN}"),
    ],
)  # fmt: skip
def test_damage_is_one_sentence_that_names_the_file(call, copied, name, damage):
    path = copied / name
    added = path.suffix == ".jsonl"
    path.write_text(path.read_text() + damage if added else damage)
    code, _, err = call(copied)
    assert code == 31, err
    assert_one_sentence(err, path)
    assert not (copied / "report.html").exists()


def test_help_has_an_example(call):
    code, out, _ = call("--help")
    assert code == 0
    assert "yxanul report runs/first" in out
