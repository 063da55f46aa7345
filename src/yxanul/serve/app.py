"""The routes: /v1/completions, /v1/models, /health and the playground, each error in one form.

Imports the optional extra `serve`; `yxanul.serve.server` is the door to it.
"""

import asyncio
import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from yxanul.data.tokenizer import Tokenizer
from yxanul.serve.answers import Answer, as_bytes, server_sent
from yxanul.serve.engine import Engine
from yxanul.serve.jobs import Job
from yxanul.serve.refusals import RequestError, too_many
from yxanul.serve.requests import Bounds, CompletionRequest, read_request

REQUESTS = 512
"""As many are answered at once; whoever comes then is told to come again."""
_BODY_BYTES = 1 << 20
# A client that sends more is heard out to here, so that it reads why it is refused.
_HEARD_BYTES = 16 << 20
_BODY_S = 30.0


@dataclass(frozen=True)
class Service:
    """What is served, and who may ask."""

    engine: Engine
    tokenizer: Tokenizer
    bounds: Bounds
    hosts: frozenset[str] | None
    """The names under which a browser may reach a server on the loopback; None: any."""
    token: str | None
    created: int


def create_app(service: Service) -> FastAPI:
    """Return the application; its engine is started and closed by the caller."""

    async def check_place(request: Request) -> None:
        _refuse_other_places(request, service.hosts)

    async def check_token(request: Request) -> None:
        _refuse_wrong_token(request, service.token)

    app = FastAPI(openapi_url=None, redirect_slashes=False, dependencies=[Depends(check_place)])
    app.include_router(_open_routes(service))
    app.include_router(_api_routes(service), prefix="/v1", dependencies=[Depends(check_token)])
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(ClientDisconnect, _hung_up)
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(_Bounded)
    return app


class _Bounded:
    """Refuses in OpenAI's form what is too much; uvicorn's own limit would in plain text."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._running = app, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._running >= REQUESTS:
            refusal = _refused(Request(scope), too_many(self._running))
            await refusal(scope, receive, send)
            return
        self._running += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running -= 1


def _open_routes(service: Service) -> APIRouter:
    """What needs no token, since it tells nothing of the model."""
    router = APIRouter()
    page = files("yxanul.serve").joinpath("playground.html").read_text(encoding="utf-8")
    headers = _page_headers(page)

    @router.get("/")
    async def playground() -> Response:
        return Response(page, media_type="text/html", headers=headers)

    @router.get("/health")
    async def health() -> Response:
        running, waiting = service.engine.load()
        state = {"status": "ok", "running": running, "waiting": waiting}
        return _json({**state, "token_required": service.token is not None})

    return router


def _api_routes(service: Service) -> APIRouter:
    router = APIRouter()
    model = {
        "id": service.bounds.model,
        "object": "model",
        "created": service.created,
        "owned_by": "yxanul",
        # What a client may fill: one more stands before its prompt.
        "max_model_len": service.bounds.positions - 1,
    }

    @router.get("/models")
    async def models() -> Response:
        return _json({"object": "list", "data": [model]})

    @router.get("/models/{name:path}")
    async def one_model(name: str) -> Response:
        if name != service.bounds.model:
            raise RequestError(
                f"the model {name!r} is not served here; {service.bounds.model!r} is",
                status=404,
                code="model_not_found",
            )
        return _json(model)

    @router.post("/completions")
    async def completions(request: Request) -> Response:
        body = await _body(request)
        # Tokenising a long prompt would hold up the streams of the others.
        asked = await asyncio.to_thread(
            read_request, body, bounds=service.bounds, tokenizer=service.tokenizer
        )
        return await _answer(request, asked, service=service)

    return router


async def _answer(request: Request, asked: CompletionRequest, *, service: Service) -> Response:
    job = Job(
        asked,
        engine=service.engine,
        positions=service.bounds.positions,
        tokenizer=service.tokenizer,
    )
    answer = Answer(
        name=f"cmpl-{secrets.token_hex(12)}",
        model=service.bounds.model,
        created=int(time.time()),
        asked=asked,
        tokenizer=service.tokenizer,
    )
    watch = asyncio.create_task(_drop_when_gone(request, job))
    if asked.stream:
        events = _events(answer, job, watch=watch)
        return StreamingResponse(
            events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
        )
    try:
        return _json(answer.whole([piece async for piece in job.pieces()]))
    finally:
        job.drop()
        watch.cancel()


async def _events(answer: Answer, job: Job, *, watch: asyncio.Task[None]) -> AsyncIterator[bytes]:
    try:
        async for number, piece in job.pieces():
            yield server_sent(answer.chunk(number, piece))
        if answer.asked.include_usage:
            yield server_sent(answer.last_chunk())
        yield b"data: [DONE]\n\n"
    except RequestError as error:  # the answer has begun: its status cannot be changed any more
        yield server_sent(error.as_json())
    finally:
        job.drop()
        watch.cancel()


async def _drop_when_gone(request: Request, job: Job) -> None:
    """Wait until the client hangs up, then give its rows to others."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    job.drop()


async def _body(request: Request) -> bytes:
    try:
        return await asyncio.wait_for(_read_body(request), _BODY_S)
    except asyncio.TimeoutError as error:
        raise RequestError(f"the body did not come within {_BODY_S:.0f} s", status=408) from error


async def _read_body(request: Request) -> bytes:
    body, length = bytearray(), 0
    async for block in request.stream():
        length += len(block)
        if length > _HEARD_BYTES:
            break
        if length <= _BODY_BYTES:
            body += block
    if length > _BODY_BYTES:
        raise RequestError(f"the body is larger than {_BODY_BYTES:,} bytes", status=413)
    return bytes(body)


def _refuse_other_places(request: Request, hosts: frozenset[str] | None) -> None:
    """Keep web pages from elsewhere out, whose scripts run in the user's own browser.

    A name that is made to lead to the loopback is still the Host that the browser asks for.
    """
    place = request.headers.get("host", "")
    if hosts is not None and _without_port(place) not in hosts:
        raise RequestError(
            f"this server answers as {', '.join(sorted(hosts))}, not under the Host of this "
            "request",
            status=403,
            code="wrong_host",
        )
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != place:
        raise RequestError(
            "pages of other origins may not use this server", status=403, code="wrong_origin"
        )


def _without_port(place: str) -> str:
    name, colon, port = place.rpartition(":")
    return (name if colon and port.isdecimal() else place).strip("[]").lower()


def _refuse_wrong_token(request: Request, token: str | None) -> None:
    if token is None:
        return
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    is_right = hmac.compare_digest(given.strip().encode("latin-1", "replace"), token.encode())
    if kind.lower() != "bearer" or not is_right:
        raise RequestError(
            "a token is required: send the header Authorization: Bearer TOKEN, with the token "
            "that this server was started with",
            status=401,
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _page_headers(page: str) -> dict[str, str]:
    """Let the page run its own script, speak to this server, and nothing else."""
    script = page.partition("<script>")[2].partition("</script>")[0]
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{hashed}'; style-src 'unsafe-inline'; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }


def _json(value: dict[str, Any]) -> Response:
    return Response(as_bytes(value), media_type="application/json")


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return Response(
        as_bytes(error.as_json()), error.status, error.headers, media_type="application/json"
    )


def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path}"
    reason = "has no such route" if error.status_code == 404 else f"refuses it: {error.detail}"
    told = RequestError(
        f"{what}: this server {reason}", status=error.status_code, headers=dict(error.headers or {})
    )
    return _refused(request, told)


def _hung_up(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # which nobody reads


def _failed(request: Request, error: Exception) -> Response:
    return _refused(request, RequestError("the server failed; its log says more", status=500))
