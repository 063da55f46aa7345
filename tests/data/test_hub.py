"""What the hub answers decides the exit code: a wrong name is the user's, an outage is not."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from yxanul.data.sources import hub

CLOSED = "http://127.0.0.1:9"  # the discard port: nothing listens, so it refuses at once
PROGRAM = """
import sys
from yxanul.config.schema import SourceConfig
from yxanul.data.sources.catalog import open_source
from yxanul.errors import YxanulError
config = SourceConfig(name='far', domain='d', weight=1.0, hub_id=sys.argv[1])
try:
    open_source(config, 'hub', seed=1)
except YxanulError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.fixture
def answering() -> Iterator[Callable[..., str]]:
    """Return a function: (status, headers) -> address of a hub that answers so to everything."""
    servers = []

    def start(status: int, **headers: str) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": "0"}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()

            def do_HEAD(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def ask(endpoint: str, cache: Path, hub_id: str = "some/set") -> tuple[int, str]:
    """Return exit code and sentence of a program that opens a set on that hub."""
    environment = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(cache)}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
    environment["PYTHONPATH"] = str(Path(hub.__file__).parents[3])
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, hub_id],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in found.stderr
    assert found.stdout.count("\n") == 1
    return found.returncode, found.stdout


def assert_ways_on(sentence: str) -> None:
    for part in ("some/set", "--data embedded", "--data DIR", "HF_TOKEN"):
        assert part in sentence


def test_an_unreachable_hub_is_one_sentence_with_the_ways_on(tmp_path: Path) -> None:
    code, said = ask(CLOSED, tmp_path)
    assert code == 11
    assert "could not be reached" in said
    assert_ways_on(said)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_outage_may_be_cured_by_another_start(answering, tmp_path: Path, status: int) -> None:
    code, said = ask(answering(status), tmp_path)
    assert code == 11
    assert_ways_on(said)


@pytest.mark.parametrize(
    ("status", "header"),
    [(404, "RepoNotFound"), (404, "RevisionNotFound"), (401, ""), (403, "GatedRepo"), (403, "")],
)
def test_a_set_that_is_absent_or_closed_is_the_users_to_correct(
    answering, tmp_path: Path, status: int, header: str
) -> None:
    code, said = ask(answering(status, X_Error_Code=header), tmp_path)
    assert code == 30
    assert "does not exist, is private or is gated" in said
    assert_ways_on(said)


def test_a_name_that_no_set_can_have_is_the_users_too(tmp_path: Path) -> None:
    code, said = ask(CLOSED, tmp_path, "some//set")
    assert code == 30
    assert "some//set" in said


def test_an_absent_set_is_told_from_an_outage_while_rows_stream(monkeypatch) -> None:
    import datasets
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import LocalEntryNotFoundError

    from yxanul.config.schema import SourceConfig
    from yxanul.errors import HubUnreachableError, UsageError

    config = SourceConfig(name="far", domain="d", weight=1.0, hub_id="some/set")
    told = {DatasetNotFoundError("gone"): UsageError, ConnectionError("cut"): HubUnreachableError}
    told[LocalEntryNotFoundError("no connection")] = HubUnreachableError
    for cause, expected in told.items():

        def fail(*_: object, cause: Exception = cause, **__: object) -> None:
            raise cause

        monkeypatch.setattr(datasets, "load_dataset", fail)
        with pytest.raises(expected, match="some/set") as raised:
            list(hub.read_documents(config, revision="main", dropped={}))
        assert raised.value.__cause__ is cause
