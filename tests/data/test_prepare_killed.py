"""Killed at any moment, `prepare` goes on where it was, and ends byte for byte as if unbroken."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.data.memory import all_bytes
from yxanul.data.prepared.manifest import load_manifest
from yxanul.data.prepared.verify import verify

# A folder and documentation, near duplicates, two processes, and something kept at every batch.
PROGRAM = """
import sys
from functools import partial
from pathlib import Path
from yxanul.config.schema import SourceConfig
from yxanul.config.treatment import TreatmentConfig
from yxanul.data.preparing.build import prepare_sources
from yxanul.data.preparing.pipeline import Effort, PlannedSource
from yxanul.data.sources.catalog import open_folder, open_source
from yxanul.data.treating.treatment import Treatment, plain_recipe

def plan(name, kind, opened):
    treatment = Treatment(TreatmentConfig(near_duplicates=0.7), min_tokens=20)
    return PlannedSource(name=name, stage="one", kind=kind, validation_fraction=0.2, open=opened,
                         recipe=lambda: plain_recipe(treatment))

if __name__ == "__main__":
    texts, out, shard_tokens = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    docs = SourceConfig(name="docs", domain="d", weight=1.0, documentation="package:jinja2")
    prepare_sources(
        [plan("texts", "folder", partial(open_folder, texts, name="texts", domain="d")),
         plan("docs", "documentation", partial(open_source, docs, "hub", seed=1))],
        out, settings={"one": "0" * 64}, progress=lambda line: None,
        effort=Effort(shard_tokens=shard_tokens, keep_s=0.0, processes=2, alone_characters=1))
"""
WORDS = [f"word{n}" for n in range(3000)]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve megabytes: JSON lines and plain text, some short, equal or nearly equal."""
    folder, draw = tmp_path_factory.mktemp("texts"), random.Random(1)
    rows: list[str] = []
    for n in range(1200):
        if n % 17 == 3:
            rows.append("short")
        elif n % 19 == 5:
            rows.append(draw.choice(rows))
        elif n % 23 == 7 and len(rows[-1]) > 100:
            rows.append(rows[-1].replace(rows[-1].split()[40], "other"))
        else:
            rows.append(" ".join(draw.choices(WORDS, k=1300)))
    for part in range(3):
        lines = (json.dumps({"text": row}) for row in rows[part * 300 : part * 300 + 300])
        (folder / f"{part}.jsonl").write_text("\n".join(lines))
    for n, row in enumerate(rows[900:]):
        (folder / f"z{n:03d}.txt").write_text(row)
    return folder


def command(texts: Path, out: Path) -> list[str]:
    program = out.parent / "program.py"
    program.write_text(PROGRAM)
    return [sys.executable, str(program), str(texts), str(out), "200000"]


@pytest.mark.slow
def test_kills_at_random_moments_change_no_byte(texts: Path, tmp_path: Path) -> None:
    times = 10
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = tmp_path / "whole" / "out"
    begin = time.monotonic()
    subprocess.run(command(texts, whole), check=True)
    took = time.monotonic() - begin
    manifest = load_manifest(whole)
    verify(manifest, whole)
    dropped = manifest.sources["texts"].dropped
    assert min(dropped[rule] for rule in ("duplicate", "near_duplicate", "too_short")) > 20
    out, draw, kills, goes_on = tmp_path / "killed" / "out", random.Random(2), 0, 0
    while kills < times:
        process = subprocess.Popen(command(texts, out), start_new_session=True)
        try:
            # Not before it has begun, and at the last as late as an unbroken one ends.
            process.wait(timeout=draw.uniform(0.25, 1.0) * took)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        assert process.wait() in (0, -signal.SIGKILL)
        goes_on += bool(list(out.glob("*/unfinished.json")))
        if process.returncode == 0:
            assert all_bytes(out) == all_bytes(whole)
            for file in sorted(out.rglob("*"), reverse=True):
                file.unlink() if file.is_file() else file.rmdir()
    subprocess.run(command(texts, out), check=True)
    assert all_bytes(out) == all_bytes(whole)
    assert goes_on >= times // 4, "some kills should leave something to go on with"
