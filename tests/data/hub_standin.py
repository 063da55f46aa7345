"""A stand-in for the Hugging Face hub on the loopback address, with faults on request.

It speaks as much of the hub's HTTP as `huggingface_hub` and `datasets` need to stream a data set
or to bring a model: information and commit, the tree, files through a redirect to another address
with ranges. A name is one set of files, be it asked for as data or as a model.
A `Fault` waits for a request whose address holds its `where`, and then happens `times` times.
"""

import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

SRC = Path(__file__).parents[2] / "src"
FILES, API = "/cdn/", "/api/"


@dataclass
class Fault:
    """What goes wrong, in a request of which the first `skip` are spared.

    `kind` is a status, or `cut` (the connection closes in the middle of the body), `short` (half of
    the bytes, as if that were all), `zeros` (other bytes, as many), `silent` (no answer for
    `wait_s`).
    """

    where: str
    kind: int | str
    times: int = 1
    skip: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = 0.0


@dataclass
class HubSet:
    """A data set: its files by path, and the sizes that the hub claims for some of them."""

    files: dict[str, bytes]
    token: str | None = None
    claims: dict[str, int] = field(default_factory=dict)
    storage: str | None = None
    """Address of the Xet storage that holds its weights."""

    def renew(self) -> None:
        """Make another commit, which no library has anything of in its caches."""
        self.files["README.md"] += b"Again.\n"

    @property
    def sha(self) -> str:
        """The commit: any change of the files gives another one."""
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()


class StandIn:
    """The hub: `sets` by name, the `faults` that are still to come, and the requests it got."""

    def __init__(self, sets: dict[str, HubSet]) -> None:
        self.sets = sets
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, str | None]] = []
        self.address = ""
        self.lock = Lock()

    def break_with(self, *faults: Fault) -> None:
        """Plan these faults, and forget others and the requests so far."""
        self.faults, self.requests = list(faults), []

    def asked(self, where: str) -> list[str]:
        """Return the addresses with `where` that were asked for, in order."""
        return [path for _, path, _ in self.requests if where in path]

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """Return the environment of a program that uses this hub."""
        plain = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"}
        plain |= {"HF_ENDPOINT": self.address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home)}
        plain |= {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
        # They are counted at an address outside, whatever HF_ENDPOINT says.
        plain |= {"HF_UPDATE_DOWNLOAD_COUNTS": "0"}
        return plain | {"PYTHONPATH": os.pathsep.join([str(SRC), str(SRC.parent)])} | more


@contextmanager
def running(hub: StandIn) -> Iterator[StandIn]:
    """Serve the hub on a free port inside the block."""

    class Handler(_Handler):
        standin = hub

    server = _Server(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
    assert not server.errors


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.errors: list[BaseException] = []

    def handle_error(self, *_: object) -> None:
        """Keep an error of the stand-in's own; a client may go away as it likes."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):
            self.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    standin: StandIn

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self._serve(parse_qs(body))

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _serve(self, form: dict[str, list[str]] | None = None) -> None:
        hub, path = self.standin, unquote(urlsplit(self.path).path)
        with hub.lock:
            hub.requests.append((self.command, path, self.headers.get("Range")))
            fault = self._fault(path)
        if fault is not None and fault.kind == "silent":
            time.sleep(fault.wait_s)
            self.close_connection = True
        elif fault is not None and isinstance(fault.kind, int):
            self._answer(b"", status=fault.kind, headers=fault.headers)
        elif path.startswith(FILES):
            _, _, sha, name = path.split("/", 3)
            # What an earlier test read may be asked for late, and be gone.
            found = next((one for one in list(hub.sets.values()) if one.sha == sha), None)
            if found is None:
                self._answer(b"", status=404)
            else:
                self._file(found.files[name], fault)
        else:
            self._set(path, form or {})

    def _fault(self, path: str) -> Fault | None:
        for fault in self.standin.faults:
            is_body = fault.kind in ("cut", "short", "zeros")
            if fault.where not in path or not fault.times:
                continue
            if is_body and not path.startswith(FILES):
                continue
            if fault.skip:
                fault.skip -= 1
                continue
            fault.times -= 1
            return fault
        return None

    def _set(self, path: str, form: dict[str, list[str]]) -> None:
        path, is_data = path.removeprefix("/api"), "/datasets/" in path
        path = path.removeprefix("/datasets/").removeprefix("/models/")
        parts = path.removeprefix("/").split("/", 4)
        found = self.standin.sets.get("/".join(parts[:2]))
        secret = found and found.token and f"Bearer {found.token}"
        if found is None or (secret and self.headers.get("Authorization") != secret):
            self._answer(b"", status=401, headers={"X-Error-Code": "RepoNotFound"})
            return
        what, revision = [*parts[2:4], "revision", "main"][:2]
        if revision not in ("main", found.sha):
            self._answer(b"", status=404, headers={"X-Error-Code": "RevisionNotFound"})
        elif what == "revision":
            siblings = [{"rfilename": name} for name in found.files]
            info = {"id": "/".join(parts[:2]), "sha": found.sha, "siblings": siblings}
            self._json({**info, "private": bool(found.token), "tags": [], "downloads": 0})
        elif what == "xet-read-token":
            storage = {"Cas-Url": found.storage or "", "Access-Token": "t"}
            storage["Token-Expiration"] = str(int(time.time()) + 3600)
            self._answer(b"", headers={f"X-Xet-{name}": of for name, of in storage.items()})
        elif what == "resolve":
            self._resolve(found, parts[4], elsewhere=is_data)
        else:
            wanted = form.get("paths", [parts[4] if len(parts) > 4 else ""])
            self._json(list(_tree(found, wanted, exact=what == "paths-info")))

    def _resolve(self, found: HubSet, name: str, *, elsewhere: bool) -> None:
        if name not in found.files:
            self._answer(b"", status=404, headers={"X-Error-Code": "EntryNotFound"})
            return
        size = str(found.claims.get(name, len(found.files[name])))
        etag = hashlib.sha256(found.files[name]).hexdigest()
        headers = {"X-Repo-Commit": found.sha, "ETag": f'"{etag}"'}
        if found.storage is not None and name.endswith(".safetensors"):
            name_there = next(key for key, one in self.standin.sets.items() if one is found)
            route = f"{self.standin.address}/api/models/{name_there}/xet-read-token/{found.sha}"
            headers |= {"X-Xet-Hash": etag, "X-Xet-Refresh-Route": route}
        if name.endswith(".md") or not elsewhere:
            self._answer(found.files[name], headers=headers)
            return
        headers |= {"X-Linked-Size": size, "X-Linked-Etag": f'"{etag}"'}
        where = f"{self.standin.address}{FILES}{found.sha}/{name}"
        self._answer(b"", status=302, headers={**headers, "Location": where})

    def _file(self, content: bytes, fault: Fault | None) -> None:
        asked = (self.headers.get("Range") or "").removeprefix("bytes=")
        first, _, last = asked.partition("-")
        start, end = int(first or 0), int(last or len(content) - 1) + 1
        if start >= len(content):
            self._answer(b"", status=416)
            return
        body = content[start:end]
        if fault is not None and fault.kind == "short":
            body = body[: len(body) // 2]
        if fault is not None and fault.kind == "zeros":
            body = bytes(len(body))
        sent = len(body) // 2 if fault is not None and fault.kind == "cut" else len(body)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(body[:sent])
        self.close_connection = sent < len(body)

    def _json(self, value: Any) -> None:
        self._answer(json.dumps(value).encode(), headers={"Content-Type": "application/json"})

    def _answer(
        self, body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _tree(found: HubSet, wanted: Sequence[str], *, exact: bool) -> Iterator[dict[str, Any]]:
    """Yield the entries that `wanted` names, or all those below them unless `exact`."""

    def is_wanted(path: str) -> bool:
        return any(
            path == one if exact else not one or path.startswith(f"{one}/") for one in wanted
        )

    folders = {
        parent.as_posix() for name in found.files for parent in list(Path(name).parents)[:-1]
    }
    for name in filter(is_wanted, sorted(folders)):
        yield {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
    for name in filter(is_wanted, found.files):
        oid = hashlib.sha256(found.files[name]).hexdigest()
        size = found.claims.get(name, len(found.files[name]))
        lfs = {"oid": oid, "size": size, "pointerSize": 130}
        yield {"type": "file", "path": name, "oid": oid[:40], "size": size, "lfs": lfs}


def parquet(rows: Sequence[Mapping[str, Any]], *, row_group: int = 50) -> bytes:
    """Return rows as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink, row_group_size=row_group)
    return sink.getvalue()


def json_lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def card(**configs: str) -> bytes:
    """Return the README of a set: configuration name -> pattern of its train files."""
    lines = ["---", "configs:"]
    for name, pattern in configs.items():
        lines += [f"- config_name: {json.dumps(name)}", "  data_files:"]
        lines += ["  - split: train", f"    path: {pattern}"]
    return "\n".join([*lines, "---", "A set of the tests."]).encode()
