"""What a failure of the hub's libraries means for the user: one sentence and an exit code.

Another start may cure an outage, but not a wrong name, a missing right or a wrong column.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from yxanul.data.sources.hub.part import HubPart
from yxanul.data.sources.hub.patience import TRY_AGAIN, GaveUp
from yxanul.errors import (
    ConfigError,
    HubUnreachableError,
    MissingExtraError,
    UsageError,
    YxanulError,
    first_line,
)

# By name, since their packages are optional: what the libraries raise without an answer's status.
_ABSENT = {
    "DatasetNotFoundError",
    "DataFilesNotFoundError",
    "EmptyDatasetError",
    "HFValidationError",
}
_OFFLINE = "OfflineModeIsEnabled"
_SWITCHES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
_ON = {"1", "ON", "YES", "TRUE"}  # what the libraries take for yes


def offline_by() -> str:
    """Return the variables that keep the hub's libraries offline, as they name them."""
    names = (name for name in _SWITCHES if os.environ.get(name, "").upper() in _ON)
    return " and ".join(names)


def failure(part: HubPart, error: Exception) -> YxanulError:
    """Return the error to raise for one of the libraries' errors."""
    chain = list(causes(error))
    gave_up = next((one for one in chain if isinstance(one, GaveUp)), None)
    if gave_up is not None:
        return unreachable(part, str(gave_up))
    if any(type(one).__name__ == _OFFLINE for one in chain):
        return UsageError(
            f"The data set {part.hub_id} is not asked for offline: unset {offline_by()}, "
            f"with a token in HF_TOKEN if the set is private, or use {part.without}."
        )
    status = _status(chain)
    reason = type(error).__name__ + (f", HTTP {status}" if status else "")
    if is_refusal(error):
        return _refused(part, reason)
    return unreachable(part, f"failed ({reason})")


def is_refusal(error: Exception) -> bool:
    """Return whether no other start cures it: the hub will not, or a name cannot be one."""
    chain = list(causes(error))
    status = _status(chain)
    if status is None:
        return any(type(one).__name__ in {*_ABSENT, _OFFLINE} for one in chain)
    return 400 <= status < 500 and status not in TRY_AGAIN


def unreachable(part: HubPart, reason: str) -> HubUnreachableError:
    """Return the error for an outage; `reason` goes on a sentence that begins with "the hub"."""
    later = "later, it goes on where it stopped" if part.is_resumed else "later"
    return HubUnreachableError(
        f"The data set {part.hub_id} could not be reached: the hub {reason}. Start the same "
        f"command {later}; or use {part.without}, or a token in HF_TOKEN if the set is private."
    )


def wrong_part(part: HubPart, error: Exception) -> ConfigError:
    """Return the error for a hub_config or hub_split that the set does not have."""
    return ConfigError(
        f"{part.name}: hub_config {part.config!r} or hub_split {part.split!r} does not fit the "
        f"data set {part.hub_id} ({first_line(error)})."
    )


def has_status(error: Exception) -> bool:
    """Return whether the hub answered, with a refusal, or was given up."""
    chain = list(causes(error))
    return bool(_status(chain)) or any(isinstance(one, GaveUp) for one in chain)


def missing_package(without: str) -> MissingExtraError:
    """Return the error for an installation without the extra; `without` is a part's."""
    return MissingExtraError(
        "Streaming from the hub needs the package datasets, which is not installed: "
        f'pip install "yxanul[hub]", or use {without}.'
    )


def _refused(part: HubPart, reason: str) -> UsageError:
    return UsageError(
        f"The data set {part.hub_id} (or its hub_revision) does not exist, is private or is "
        f"gated ({reason}): correct its name, set HF_TOKEN to a token that may read it, or use "
        f"{part.without}."
    )


def _status(chain: list[BaseException]) -> int | None:
    """Return the HTTP status that the hub answered with, None = it did not answer."""
    for one in chain:
        status = getattr(getattr(one, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
    return None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it came from.

    The libraries also raise `from None`, which hides the cause but keeps it as the context.
    """
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
