"""From a model's place to a listening server, and to its end by a signal or a failure.

The main thread waits for signals, one thread answers HTTP, one writes (`yxanul.serve.engine`); none
of these two lives on without the other. The optional extra `serve` is imported here, when a server
is started.
"""

import asyncio
import ipaddress
import logging
import os
import resource
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from yxanul.data.tokenizer import Tokenizer
from yxanul.errors import MissingExtraError, UsageError
from yxanul.evaluate.models.loaded import WritingModel
from yxanul.model.decoding import Decoder
from yxanul.model.generation import decoding_copy
from yxanul.serve.capacity import settle_batch
from yxanul.serve.engine import Engine
from yxanul.serve.requests import Bounds
from yxanul.signals import stop_on_signals

TOKEN_VARIABLE = "YXANUL_SERVE_TOKEN"
WAITING = 256
"""Texts that may wait, and that one request may ask for."""
# How soon a signal is heeded.
_LOOK_S = 0.1
# How long texts are still written after a signal, and answers sent after that.
_GRACE_S = 3.0
_SENDING_S = 3
# More than the app answers at once, so that the others learn why they are refused.
_CONNECTIONS = 600
# Of which each connection takes one. A shell may allow 256, and a process may raise that itself.
_OPEN_FILES = 1024
# Those that are no connections, with room to spare.
_OTHER_FILES = 100
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Endpoint:
    """Where to listen, and who may ask."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0: a free one."""
    token: str | None = None


@dataclass(frozen=True)
class Ready:
    """What can be used now."""

    url: str
    model: str
    """The name that requests give."""
    label: str
    """The model's place, and its step where that is known."""
    place: Path
    step: int | None


def serve(
    open_model: Callable[[], WritingModel],
    endpoint: Endpoint,
    *,
    batch: int | None,
    tell: Callable[[str], None],
    ready: Callable[[Ready], None],
) -> None:
    """Serve a model until SIGINT or SIGTERM, then return; a later one ends the process at once.

    It is opened once the endpoint listens. `batch` texts are written at once, None: the usual
    number. `tell` gets sentences for the user, `ready` is called when requests are taken. Raises
    what `open_model` does, `UsageError` for an endpoint that cannot be used or a `batch` for which
    there is no memory, `MissingExtraError` without fastapi and uvicorn, and what has ended the
    engine: an `InfrastructureError` for a card that failed.
    """
    _refuse_missing_extra()
    _refuse_token(endpoint.token)
    connections = _connections(tell)
    with _listen(endpoint) as listener:
        decoder, tokenizer, ready_now = _open(open_model, url=_url(listener), tell=tell)
        ended = threading.Event()
        engine = Engine(
            decoder,
            tokenizer,
            batch=settle_batch(decoder, batch, tell=tell),
            waiting=WAITING,
            tell=tell,
            ended=ended,
        )
        bounds = Bounds(ready_now.model, decoder.config.max_position_embeddings, WAITING)
        hosts = _hosts(listener, endpoint)
        server = _http_server(
            engine,
            tokenizer,
            bounds=bounds,
            hosts=hosts,
            token=endpoint.token,
            connections=connections,
        )
        with stop_on_signals() as stop:
            engine.start()
            thread = threading.Thread(
                target=_run, args=(server, listener), kwargs={"ended": ended}, name="http"
            )
            thread.start()
            try:
                ready(ready_now)
                while not (stop.asked or ended.wait(_LOOK_S)):
                    pass
            finally:
                engine.close(grace_s=_GRACE_S)
                server.should_exit = True
                thread.join()
    if engine.failure is not None:
        raise engine.failure
    if not stop.asked:
        raise RuntimeError("the HTTP server has ended by itself")


def _open(
    open_model: Callable[[], WritingModel], *, url: str, tell: Callable[[str], None]
) -> tuple[Decoder, Tokenizer, Ready]:
    """Return what writes, and what is said of it when it does."""
    found = open_model()
    for note in found.notes:
        tell(note)
    # A folder's name need not be UTF-8, which every answer is.
    name = os.fsencode(found.name).decode("utf-8", "backslashreplace")
    ready = Ready(url, name, found.label, found.place, found.step)
    # What decodes has weights of its own where types differ: the model's are not kept.
    return decoding_copy(found.model), found.tokenizer, ready


def _run(server: Any, listener: socket.socket, *, ended: threading.Event) -> None:
    try:
        server.run(sockets=[listener])
    finally:
        ended.set()


def _http_server(
    engine: Engine,
    tokenizer: Tokenizer,
    *,
    bounds: Bounds,
    hosts: frozenset[str] | None,
    token: str | None,
    connections: int,
) -> Any:
    import uvicorn  # an optional extra, as fastapi, which the next one imports

    from yxanul.serve.app import Service, create_app

    service = Service(
        engine=engine,
        tokenizer=tokenizer,
        bounds=bounds,
        hosts=hosts,
        token=token,
        created=int(time.time()),
    )
    config = uvicorn.Config(
        create_app(service),
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        limit_concurrency=connections,
        timeout_graceful_shutdown=_SENDING_S,
    )
    logging.getLogger("uvicorn.error").addFilter(_is_failure)
    return uvicorn.Server(config)


def _is_failure(record: logging.LogRecord) -> bool:
    """Tell whether what is logged failed: a client that stalls is cut off where the server ends."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def _connections(tell: Callable[[str], None]) -> int:
    """Return how many connections are held; beyond the open files even a refusal has no way out."""
    files = _allow_open_files()
    found = min(_CONNECTIONS, max(files - _OTHER_FILES, files // 2))
    if found < _CONNECTIONS:
        tell(
            f"no more than {files:,} files may be open here: {found:,} connections are held, not "
            f"{_CONNECTIONS}; raise the hard limit (ulimit -H -n) to {_OPEN_FILES} for all"
        )
    return found


def _allow_open_files() -> int:
    """Take the open files that the connections need; return how many there may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def _listen(endpoint: Endpoint) -> socket.socket:
    """Return a listening socket; without a token only on the loopback."""
    where = f"{endpoint.host}, port {endpoint.port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(
            endpoint.host, endpoint.port, type=socket.SOCK_STREAM
        )[0]
        # An accepted connection waits here until the model is loaded.
        listener = socket.create_server(address[:2], family=family, backlog=_CONNECTIONS)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UsageError(
            f"cannot listen on {where}: {error}; choose another --host or --port (0: a free port)"
        ) from error
    if endpoint.token is None and not _is_loopback(listener):
        listener.close()
        raise UsageError(
            f"--host {endpoint.host} can be reached from other machines: set {TOKEN_VARIABLE} to a "
            "token that requests must bring"
        )
    return listener


def _hosts(listener: socket.socket, endpoint: Endpoint) -> frozenset[str] | None:
    """Return the names of a server on the loopback: a name as typed may lead to any address."""
    if not _is_loopback(listener):
        return None
    return frozenset({*_LOOPBACK, endpoint.host.lower(), listener.getsockname()[0]})


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _refuse_token(token: str | None) -> None:
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise UsageError("the token must be printable ASCII without spaces: it is sent in a header")
    if token == "":
        raise UsageError("the token is empty; leave it out to serve this machine alone")


def _refuse_missing_extra() -> None:
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"yxanul serve needs {' and '.join(missing)}, not installed here: "
            'pip install "yxanul[serve]"'
        )
