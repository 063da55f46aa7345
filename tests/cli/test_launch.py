"""scripts/launch.sh counts the GPUs and starts the trainer, whatever nvidia-smi says."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("nvidia_smi", "launcher"),
    [
        ("echo NVIDIA-SMI has failed; exit 9", ""),
        ("echo 'GPU 0: H200'", ""),
        ("echo 'GPU 0: H200'; echo 'GPU 1: H200'", "--nproc_per_node 2 "),
    ],
    ids=["broken driver", "one", "two"],
)
def test_one_process_per_gpu_that_answers(tmp_path: Path, nvidia_smi: str, launcher: str) -> None:
    (tmp_path / "scripts").mkdir()
    script = Path(shutil.copy(ROOT / "scripts" / "launch.sh", tmp_path / "scripts"))
    program(tmp_path / "bin" / "nvidia-smi", nvidia_smi)
    program(tmp_path / "bin" / "python3", 'echo "$@"')
    environment = {name: value for name, value in os.environ.items() if name != "NPROC"}
    environment["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["bash", script, "stage1_wikipedia"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    started = f"{tmp_path}/src/trainer.py --config_dir {tmp_path}/configs --stage stage1_wikipedia"
    assert done.stdout.strip().endswith(launcher + started)
    assert ("nproc_per_node" in done.stdout) == bool(launcher)
