"""A server in a process of its own, as a user starts it, and OpenAI's client to talk to it."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from openai import OpenAI

from scripts.chromium import Page, find_chromium, open_page
from tests.evaluate.runs import SETTINGS, add_checkpoint
from tests.train.world import write_configs
from yxanul.config.load import dump_config, load_config
from yxanul.evaluate.answers.completion import Completion, complete
from yxanul.evaluate.models.loaded import LoadedModel, load_model
from yxanul.model.generation import GenerationOptions
from yxanul.model.transformer import Transformer
from yxanul.runfolder.layout import RunFolder

ROOT = Path(__file__).parents[2]
YXANUL: tuple[object, ...] = ("-m", "yxanul")
POSITIONS = 8192
# fp32: rows beside one another change no text. Long enough for a client to leave in between.
OWN_SETTINGS = (*SETTINGS, "compute.precision=fp32", f"model.max_position_embeddings={POSITIONS}")


@dataclass
class Server:
    """A server under way."""

    process: subprocess.Popen[str]
    url: str
    model: str

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit code and what was said on stderr."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err


def start(
    *words: object,
    token: str | None = None,
    program: tuple[object, ...] = YXANUL,
    open_files: str = "-S -n 256",
) -> Server:
    """Start `yxanul serve` on a free port; return when it takes requests.

    `open_files` is what `ulimit` gets: a shell of macOS has this soft limit.
    """
    command = [sys.executable, *program, "serve", *words, "--port", "0", "--json"]
    process = subprocess.Popen(
        ["sh", "-c", f'ulimit {open_files} && exec "$@"', "sh", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path(), "YXANUL_SERVE_TOKEN": token or ""},
    )
    # It loads torch and more first, on a machine that may be busy.
    ready = select.select([process.stdout], [], [], 240)[0]
    line = process.stdout.readline() if ready else ""
    if not line:
        process.kill()
        raise AssertionError(f"it says nothing; on stderr: {process.communicate()[1]}")
    told = json.loads(line)
    return Server(process, told["url"], told["model"])


def path() -> str:
    """PYTHONPATH for a process of its own: our sources, and where this one finds packages."""
    return os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])


@contextmanager
def serving(
    *words: object, token: str | None = None, program: tuple[object, ...] = YXANUL
) -> Iterator[Server]:
    """A server, which has to leave cleanly."""
    server = start(*words, token=token, program=program)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            code, err = server.stop()
            assert code == 0, err
            assert "Traceback" not in err, err
        else:
            server.process.communicate()


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """A run folder with a model that says more than one word, of a long context."""
    root = tmp_path_factory.mktemp("serve") / "tales"
    configs = write_configs(root.with_name("configs"))
    config = load_config(configs, overrides=OWN_SETTINGS)
    folder = RunFolder(root)
    folder.create()
    folder.config.write_text(dump_config(config))
    add_checkpoint(folder, 6, model=Transformer.initialised(config.model, seed=6))
    return root


@pytest.fixture(scope="session")
def server(run) -> Iterator[Server]:
    """One server for all tests that do not end it."""
    with serving(run, "--batch", 8) as found:
        yield found


@pytest.fixture(scope="session")
def browser() -> Iterator[Page]:
    """One Chromium for all tests; a test without one is skipped."""
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("Chromium is not installed")
    with open_page(chromium) as page:
        yield page


@pytest.fixture
def client(server) -> Iterator[OpenAI]:
    """OpenAI's own client, which tries nothing twice."""
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as found:
        yield found


@pytest.fixture(scope="session")
def loaded(run) -> LoadedModel:
    """The model of the server, in this process."""
    return load_model(run)


@pytest.fixture(scope="session")
def alone(loaded):
    """Return a function that writes as `yxanul generate` does, one text at a time."""

    def write(prompt: str, *stop_texts: str, **options: object) -> Completion:
        sampling = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 16, **options}
        with torch.no_grad():
            return complete(
                loaded.model,
                loaded.tokenizer,
                prompt=prompt,
                options=GenerationOptions(**sampling),
                stop_texts=stop_texts,
            )

    return write


def wait_for(condition, *, seconds: float = 20) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.02)
