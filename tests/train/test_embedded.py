"""The first command that a reader types prepares the embedded text and trains on it."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from yxanul.config.load import load_config

ROOT = Path(__file__).parents[2]


def command_of_make_train() -> list[str]:
    """Return the words after the program's name, as the Makefile has them."""
    (line,) = [text for text in (ROOT / "Makefile").read_text().splitlines() if " run " in text]
    return shlex.split(line)[1:]


@pytest.mark.slow
def test_the_first_command_prepares_all_sources_and_begins_to_train(tmp_path):
    words, run = command_of_make_train(), tmp_path / "run"
    words[words.index("--out") + 1] = str(run)
    done = subprocess.run(
        [sys.executable, "-m", "yxanul", *words, "--max_steps", "1", "--json"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 1
    stages = load_config(ROOT / "configs" / "embedded").stages
    named = {source.name for stage in stages for source in stage.data.embedded_sources}
    manifest = json.loads((run / "data" / "manifest.json").read_text())
    assert named == manifest["sources"].keys()
    assert (run / "report.html").exists()
