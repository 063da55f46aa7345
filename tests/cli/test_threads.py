"""Verbs that read a model compute on the cores that a container is given, or as a user says."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.evaluate.runs import write_run_with_data
from yxanul import cores
from yxanul.cli.writing import open_writing_model
from yxanul.model.transformer import Transformer

TORCHS_OWN = 3


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run_with_data(tmp_path_factory.mktemp("threads") / "run", step=3).root


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The threads of torch whenever a model is built, in a container with the time of one core."""
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    monkeypatch.setattr(cores, "_CGROUP", tmp_path)
    threads: list[int] = []
    build = Transformer.without_weights

    def look(config: object, **options: object) -> Transformer:
        threads.append(torch.get_num_threads())
        return build(config, **options)

    monkeypatch.setattr(Transformer, "without_weights", look)
    before = torch.get_num_threads()
    torch.set_num_threads(TORCHS_OWN)
    yield threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "words",
    [
        ("generate", "RUN", "a", "--max_new_tokens", "1"),
        ("evaluate", "RUN", "--tasks", "perplexity"),
        ("export", "RUN", "--to", "gguf", "--out", "out.gguf"),
    ],
    ids=lambda words: words[0],
)
def test_a_verb_that_reads_a_model_takes_no_more_threads_than_a_container_has_cores(
    call, run, seen, tmp_path, monkeypatch, words
):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.chdir(tmp_path)
    code, _, err = call(*(run if word == "RUN" else word for word in words))
    assert code == 0, err
    assert seen
    assert set(seen) == {1}


def test_the_threads_that_a_user_asks_for_stay(run, seen, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", str(TORCHS_OWN))
    open_writing_model(str(run))
    assert seen == [TORCHS_OWN]
