"""The HTTP client that the hub's libraries use while we read: every request by our patience.

The one idea: `huggingface_hub` and `datasets` each have retries of their own (up to 20 minutes of
silence, and any Retry-After however long). Below both lies one client; here it tries again by one
rule, says so, and ends with an error that neither library tries again. A retried request starts
from its first address, so a signed link of the redirect that expired is renewed.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from yxanul.data.sources.hub.patience import TRY_AGAIN, Again, Line

_RANGE_UNSATISFIABLE = 416


@contextmanager
def patient_client(line: Line) -> Iterator[None]:
    """Let the libraries speak to the hub through `line` inside the block."""
    from huggingface_hub import constants, get_session, set_client_factory

    addresses = (f"{constants.ENDPOINT}/datasets/", f"{constants.ENDPOINT}/api/datasets/")
    # The library that huggingface_hub itself speaks HTTP with; its name changed once.
    httpx = _utils().httpx
    # The libraries' own hooks: they refuse every request when HF_HUB_OFFLINE is set.
    hooks = get_session().event_hooks
    plain: dict[str, Any] = {"event_hooks": hooks, "follow_redirects": True, "timeout": None}

    class Client(httpx.Client):  # type: ignore[misc, name-defined]
        def send(self, request: Any, **options: Any) -> Any:
            if not str(request.url).startswith(addresses):
                # What the libraries count and look up beside the data is not worth a wait.
                return super().send(request, **options)
            limits = request.extensions.setdefault("timeout", {})
            for phase in ("connect", "read", "write", "pool"):
                if limits.get(phase) is None:
                    limits[phase] = line.patience.silence_s
            if "range" in request.headers:
                # Compressed, a part of a file would have another length than was asked for.
                request.headers["accept-encoding"] = "identity"
            return line.call(lambda: self._attempt(request, options))

        def _attempt(self, request: Any, options: dict[str, Any]) -> Any:
            try:
                response = super().send(request, **options)
            except httpx.UnsupportedProtocol:
                raise  # a wrong HF_ENDPOINT
            except httpx.TransportError as error:
                raise Again(_broken(error, reached=line.reached)) from error
            line.reached = True
            reason = _bad_answer(response, asked=request.headers.get("range"), **options)
            if reason is not None:
                response.close()
                raise Again(reason, asked_wait_s(response.headers))
            return response

    set_client_factory(lambda: Client(**plain))
    try:
        yield
    finally:
        set_client_factory(lambda: httpx.Client(**plain))


def asked_wait_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that Retry-After (a number or a date) or RateLimit asks for."""
    asked = headers.get("retry-after", "").strip()
    if asked.isdigit():
        return float(asked)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(asked).timestamp() - time.time())
    except ValueError:
        limit = _utils().parse_ratelimit_headers(headers)
        # One second more, since the hub rounds.
        return float(limit.reset_in_seconds + 1) if limit and limit.remaining == 0 else None


def _utils() -> Any:
    from huggingface_hub import utils

    return utils


def _bad_answer(response: Any, *, asked: str | None, stream: bool = False, **_: Any) -> str | None:
    """Return what is wrong with an answer that another one may cure, None = nothing."""
    status = response.status_code
    if status in TRY_AGAIN or status >= 500:
        return f"answered {status}"
    if status == _RANGE_UNSATISFIABLE:
        return "holds less of a file than it said"
    wanted = _wanted_bytes(asked)
    if stream or wanted is None or status not in (200, 206):
        return None
    # A short answer is half a file; a long one comes from a server that ignored the range.
    if len(response.content) == wanted:
        return None
    return f"sent {len(response.content):,} bytes of a file instead of {wanted:,}"


def _wanted_bytes(asked: str | None) -> int | None:
    """Return the size of a range like `bytes=0-99`; None for one without an end."""
    first, dash, last = (asked or "").removeprefix("bytes=").partition("-")
    return int(last) - int(first) + 1 if dash and first.isdigit() and last.isdigit() else None


def _broken(error: Exception, *, reached: bool) -> str:
    name = type(error).__name__
    return f"broke the connection ({name})" if reached else f"does not answer ({name})"
