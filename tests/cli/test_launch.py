"""scripts/launch.sh counts the GPUs and starts a supervised run, whatever nvidia-smi says."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PYTHON = """case "$2" in
    *device_count*) ${TORCH_SAYS:-exit 1} ;;
    *) echo "$@" ;;
esac"""


def program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def show_card(tmp_path: Path) -> None:
    """Let there be a card's node among the devices that the script looks at."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia0").touch()


def launch(
    tmp_path: Path, *words: str, nvidia_smi: str = "exit 9", **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the script; the command that it would start is printed."""
    (tmp_path / "scripts").mkdir()
    script, text = tmp_path / "scripts" / "launch.sh", (ROOT / "scripts" / "launch.sh").read_text()
    assert " -t 60 " in text  # a minute is long for a test
    script.write_text(text.replace(" -t 60 ", " -t 3 ").replace("/dev/", f"{tmp_path}/dev/"))
    (tmp_path / "dev").mkdir(exist_ok=True)
    program(tmp_path / "bin" / "nvidia-smi", nvidia_smi)
    program(tmp_path / "bin" / "python3", PYTHON)
    mine = ("NPROC", "TORCHRUN_ARGS", "CUDA_VISIBLE_DEVICES")
    environment = {name: value for name, value in os.environ.items() if name not in mine} | env
    environment["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{environment['PATH']}"
    return subprocess.run(
        ["bash", script, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
    )


def launched(tmp_path: Path, *words: str, nvidia_smi: str = "exit 9", **env: str) -> str:
    """Return the command that the script would start."""
    done = launch(tmp_path, *words, nvidia_smi=nvidia_smi, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("nvidia_smi", "launcher"),
    [
        ("echo NVIDIA-SMI has failed; exit 9", ""),
        ("echo 'GPU 0: H200'", ""),
        ("echo 'GPU 0: H200'; echo 'GPU 1: H200'", "--nproc_per_node 2 "),
        (
            "echo 'GPU 0: A100'; echo '  MIG 1g.5gb Device 0: (UUID: MIG-5f)'; echo 'GPU 1: A100'",
            "",
        ),
    ],
    ids=["broken driver", "one", "two", "in parts"],
)
def test_one_process_per_gpu_that_answers(tmp_path: Path, nvidia_smi: str, launcher: str) -> None:
    words = ("train", "--stage", "stage1_wikipedia")
    command = launched(tmp_path, *words, nvidia_smi=nvidia_smi)
    assert command.startswith("-m yxanul supervise -- ")
    started = f"-m yxanul train --config_dir {tmp_path}/configs --stage stage1_wikipedia"
    assert command.endswith(launcher + started)
    assert ("nproc_per_node" in command) == bool(launcher)


@pytest.mark.parametrize(
    ("said", "processes"),
    [("echo 8", 8), ("echo 1", 1), ("echo 0", 1), ("echo no torch", 1), ("exit 1", 1)],
)
def test_torch_counts_the_cards_that_nvidia_smi_does_not_list(
    tmp_path: Path, said: str, processes: int
) -> None:
    """AMD's, or those of a container without it: one would train, and seven be paid for nothing."""
    show_card(tmp_path)
    command = launched(tmp_path, "run", TORCH_SAYS=said)
    assert ("nproc_per_node" in command) == (processes > 1)
    assert f"--nproc_per_node {processes} " in command or processes == 1


def test_torch_is_not_asked_where_the_number_of_processes_is_known(tmp_path: Path) -> None:
    show_card(tmp_path)
    command = launched(tmp_path, "run", NPROC="2", TORCH_SAYS="sleep 9")
    assert "--nproc_per_node 2 " in command


def test_torch_is_not_asked_where_no_driver_shows_a_card(tmp_path: Path) -> None:
    """On a slow disk it takes over a minute to load."""
    assert "nproc_per_node" not in launched(tmp_path, "run", TORCH_SAYS="sleep 9")


def test_a_driver_that_hangs_is_told_after_a_minute_and_nothing_is_started(tmp_path: Path) -> None:
    """One process would train, and the other cards be paid for nothing."""
    hangs = f"echo $$ > {tmp_path}/pid; trap '' TERM; while :; do sleep 1; done"
    try:
        done = launch(tmp_path, "run", nvidia_smi=hangs)
        assert (done.returncode, done.stdout) == (11, "")
        assert "nvidia-smi has not answered in a minute" in done.stderr
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_torch_that_hangs_in_the_driver_is_told_too(tmp_path: Path) -> None:
    show_card(tmp_path)
    done = launch(tmp_path, "run", TORCH_SAYS="sleep 9")
    assert (done.returncode, done.stdout) == (11, "")
    assert "torch has not answered in a minute" in done.stderr


@pytest.mark.parametrize(
    ("visible", "processes"),
    [
        ("0,1", 2),
        ("7, 3, 5", 3),
        ("GPU-8932f937-d72c,GPU-0aa1", 2),
        ("0,1,8,2", 2),  # CUDA does not look beyond a number that is no card
        ("0,-1,2", 1),
        ("MIG-5f1c,MIG-77a2", 1),  # CUDA gives a process one of them
        ("0,0", 1),  # of a list that names a card twice CUDA takes nothing
        ("0,1,2,01", 1),
        ("GPU-8932f937-d72c,GPU-8932f937-d72c", 1),
        ("0,1,-1,0", 2),  # not looked at
        ("0,1,10", 2),
        ("3", 1),
        ("", 1),  # no card: one process on the CPU
        ("-1", 1),
        ("NoDevFiles", 1),
    ],
)
def test_cards_that_are_hidden_are_not_counted(
    tmp_path: Path, visible: str, processes: int
) -> None:
    eight = 'for i in 0 1 2 3 4 5 6 7; do echo "GPU $i: H200"; done'
    command = launched(tmp_path, "run", nvidia_smi=eight, CUDA_VISIBLE_DEVICES=visible)
    assert ("nproc_per_node" in command) == (processes > 1)
    assert f"--nproc_per_node {processes} " in command or processes == 1


def test_several_machines_are_torchruns_own_words(tmp_path: Path) -> None:
    more = "--nnodes 2 --node_rank 1 --rdzv_backend c10d --rdzv_endpoint one:29500"
    command = launched(tmp_path, "run", nvidia_smi="echo 'GPU 0: H200'", TORCHRUN_ARGS=more)
    wanted = f"-m torch.distributed.run {more} --nproc_per_node 1 -m yxanul run --config_dir "
    assert wanted in command
    assert "--standalone" not in command


def test_torchrun_counts_the_cards_of_several_machines_where_it_is_asked_to(tmp_path: Path) -> None:
    done = launch(tmp_path, "run", NPROC="gpu", TORCHRUN_ARGS="--nnodes 2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "-m torch.distributed.run --nnodes 2 --nproc_per_node gpu -m yxanul run" in done.stdout


def test_every_script_of_a_stage_names_a_stage_that_there_is() -> None:
    for script in ROOT.glob("scripts/train_stage*.sh"):
        stage = script.read_text().split("--stage ")[1].split()[0]
        assert (ROOT / "configs" / f"{stage}.yaml").exists(), script


@pytest.mark.parametrize("nproc", ["gpu", "0", "-2", "2.5", "4 "])
def test_a_number_of_processes_that_is_none_is_refused(tmp_path: Path, nproc: str) -> None:
    """One process would train, and the other cards be paid for nothing."""
    done = launch(tmp_path, "run", NPROC=nproc)
    assert done.returncode == 30
    assert f"NPROC is a number of processes from 1 on, not '{nproc}'" in done.stderr
    assert done.stdout == ""
