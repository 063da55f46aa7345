"""An upload goes to a private repository, with a token that appears nowhere else."""

import base64
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest

from yxanul.data.sources.hub.failures import is_refusal
from yxanul.errors import InfrastructureError, UsageError
from yxanul.export.upload import check_repository, upload

TOKEN = "hf_no_real_token_0123456789"
UPLOAD = """
import sys
from pathlib import Path
from yxanul.errors import YxanulError
from yxanul.export.upload import check_repository, upload
try:
    check_repository(sys.argv[2])
    print(upload(Path(sys.argv[1]), sys.argv[2]))
except YxanulError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


class Hub(BaseHTTPRequestHandler):
    """What the client asks of the hub when it makes a commit of small files."""

    private = True
    refuse: int | None = None
    seen: list[str]
    files: dict[str, bytes]
    tokens: set[str | None]

    def do_GET(self) -> None:
        self._answer({"id": "me/tale", "private": self.private, "siblings": [], "sha": "0" * 40})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append(self.path)
        self.tokens.add(self.headers.get("Authorization"))
        if self.path == "/api/repos/create":
            assert json.loads(body)["visibility"] == "private"
            self._answer({"url": f"{self.address}/me/tale", "id": "me/tale"})
        elif "/preupload/" in self.path:
            names = [one["path"] for one in json.loads(body)["files"]]
            self._answer({"files": [_regular(name) for name in names]})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        else:
            rows = [json.loads(line) for line in body.splitlines()]
            for row in rows:
                if row["key"] == "file":
                    self.files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
            commit = {"commitUrl": f"{self.address}/me/tale/commit/1", "commitOid": "1" * 40}
            self._answer(commit)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def _answer(self, value: dict) -> None:
        content = json.dumps({} if self.refuse else value).encode()
        self.send_response(self.refuse or 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _regular(name: str) -> dict:
    return {"path": name, "uploadMode": "regular", "shouldIgnore": False, "oid": None}


def upload_to(
    folder: Path, home: Path, *, token: str = TOKEN, **hub: object
) -> tuple[subprocess.CompletedProcess, type]:
    """Upload a folder to a stand-in of the hub in a process of its own."""
    handler = type("Standin", (Hub,), {"seen": [], "files": {}, "tokens": set(), **hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(home),
        "HF_TOKEN": token,
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": "src",
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", UPLOAD, str(folder), "me/tale"],
            capture_output=True,
            text=True,
            env=environment,
            timeout=120,
            check=False,
        )
    finally:
        server.shutdown()
        server.server_close()
    return done, handler


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two small files."""
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text('{"model_type": "gemma"}')
    (made / "README.md").write_text("# A card\n")
    return made


def test_a_folder_arrives_in_a_private_repository(folder, tmp_path):
    done, hub = upload_to(folder, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("/me/tale")
    for path in folder.iterdir():
        assert hub.files[path.name] == path.read_bytes()
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert TOKEN not in done.stdout + done.stderr


def test_the_line_end_of_a_copied_token_is_no_part_of_it(folder, tmp_path):
    done, hub = upload_to(folder, tmp_path / "home", token=f"{TOKEN}\r\n")
    assert done.returncode == 0, done.stderr
    assert hub.tokens == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize("token", ["", " \n", "hf_a\rb", "hf_\u2026"])
def test_what_can_be_no_token_is_refused_before_anything_is_written(monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(UsageError, match="HF_TOKEN") as refused:
        check_repository("me/tale")
    assert "hf_" not in str(refused.value)


def test_a_hub_that_is_not_to_be_asked_is_told_before_anything_is_written(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for hub, transformers, told in (
        ("1", "", "HF_HUB_OFFLINE"),
        ("", "yes", "TRANSFORMERS_OFFLINE"),
        ("1", "1", "HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE"),
    ):
        monkeypatch.setenv("HF_HUB_OFFLINE", hub)
        monkeypatch.setenv("TRANSFORMERS_OFFLINE", transformers)
        with pytest.raises(UsageError, match=f"unset {told}$"):
            check_repository("me/tale")


def test_a_library_that_quotes_the_request_does_not_tell_the_token(folder, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise ValueError(f"Illegal header value b'Bearer {TOKEN}'")

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    with pytest.raises(InfrastructureError, match="b'Bearer HF_TOKEN'"):
        upload(folder, "me/tale")


def test_a_public_repository_gets_nothing(folder, tmp_path):
    done, hub = upload_to(folder, tmp_path / "home", private=False)
    assert done.returncode == 1
    assert "is a public repository" in done.stderr
    assert hub.files == {}


@pytest.mark.parametrize(("status", "kind"), [(401, "UsageError"), (503, "InfrastructureError")])
def test_a_refusal_is_told_without_the_token_and_an_outage_may_be_tried_again(
    folder, tmp_path, status, kind
):
    done, _ = upload_to(folder, tmp_path / "home", refuse=status)
    assert done.returncode == 1
    assert f"{kind}: the hub did not take me/tale" in done.stderr
    assert ("HF_TOKEN" in done.stderr) == (kind == "UsageError")
    assert str(folder) in done.stderr
    assert TOKEN not in done.stdout + done.stderr


class HubError(Exception):
    """What the client raises for an answer."""

    def __init__(self, status: int) -> None:
        self.response = SimpleNamespace(status_code=status)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (HubError(400), True),
        (HubError(401), True),
        (HubError(403), True),
        (HubError(404), True),
        (HubError(408), False),
        (HubError(429), False),
        (HubError(500), False),
        (OSError("no answer"), False),
    ],
)
def test_what_no_other_start_cures_is_a_refusal(error, is_one):
    assert is_refusal(error) == is_one
