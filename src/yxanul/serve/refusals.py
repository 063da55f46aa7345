"""What a client is told when it gets no text, in the words and the form of OpenAI's API."""

from typing import Any


class RequestError(Exception):
    """A request that is answered with an error; the server goes on."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        field: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.field = field
        """The field of the body that is wrong."""
        self.code = code
        self.headers = headers or {}

    def as_json(self) -> dict[str, Any]:
        """Return the body of the answer."""
        return {
            "error": {
                "message": self.message,
                "type": _kind(self.status),
                "param": self.field,
                "code": self.code,
            }
        }


def _kind(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def stopping() -> RequestError:
    """Return what is told once the server was asked to stop."""
    return RequestError("the server is shutting down", status=503, code="shutting_down")


def too_many(running: int) -> RequestError:
    """Return what is told when no more requests are answered at once."""
    return RequestError(
        f"{running:,} requests are being answered; try again in a moment",
        status=503,
        code="overloaded",
        headers={"Retry-After": "1"},
    )


def queue_full(waiting: int) -> RequestError:
    """Return what is told when no more texts may wait."""
    return RequestError(
        f"{waiting:,} texts are waiting already; try again in a moment",
        status=429,
        code="queue_full",
        headers={"Retry-After": "1"},
    )
