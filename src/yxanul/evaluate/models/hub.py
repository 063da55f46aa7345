"""Models on the hub: which commit of one is there, and what a failure to open one means.

The hub is asked once, without the patience of its own libraries, so that a machine without a
network hears of it at once; the commit that it names is then the one that is read.
"""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yxanul.errors import (
    CorruptDataError,
    HubUnreachableError,
    MissingExtraError,
    UsageError,
    YxanulError,
)
from yxanul.model.fp8 import hush_torchao

_ASKED_S = 15.0
# By name, since their packages are optional; HfHubHTTPError is an answer, the others are none.
_REFUSALS = {"RepositoryNotFoundError", "GatedRepoError", "HFValidationError"}
_OUTAGES = {"TransportError", "OfflineModeIsEnabled", "LocalEntryNotFoundError", "HfHubHTTPError"}


def transformers() -> Any:
    """Return the package; without it this is a `MissingExtraError`."""
    hush_torchao()  # which it loads where it is installed
    try:
        import transformers  # an optional extra
    except ImportError as error:
        raise MissingExtraError(
            "models of Hugging Face need the package transformers, which is not installed: "
            'pip install "yxanul[eval]"'
        ) from error
    return transformers


def newest_commit(name: str) -> str | None:
    """Return the commit of owner/name on the hub, None if the hub cannot be reached.

    A model that is not there, or may not be read, is a `UsageError`.
    """
    transformers()
    from huggingface_hub import HfApi  # comes with transformers

    try:
        found: str | None = HfApi().model_info(name, timeout=_ASKED_S).sha
    except Exception as error:  # the client's errors have no common base; none is swallowed
        known = failure(name, error)
        if isinstance(known, HubUnreachableError):
            return None
        raise known from error
    return found


def failure(name: str, error: Exception) -> YxanulError:
    """Return the error to raise for what the libraries raised when they opened a model."""
    kinds = {kind.__name__ for one in _causes(error) for kind in type(one).__mro__}
    reason = textwrap.shorten(str(error) or type(error).__name__, 200, placeholder="...")
    if "SafetensorError" in kinds:
        return CorruptDataError(f"the weights of {name} are damaged: {reason}")
    if not Path(name).is_dir() and kinds & _REFUSALS:
        return UsageError(
            f"{name} is no folder here, and the hub has no model of that name, or it is private or "
            "gated: correct the name, or set HF_TOKEN to a token that may read it"
        )
    if not Path(name).is_dir() and kinds & _OUTAGES:
        return HubUnreachableError(
            f"{name} is no folder here and no copy of it is on this machine, and the hub could not "
            "be reached: try again later, or name a folder"
        )
    return UsageError(f"{name} is no model that can be opened here: {reason}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    # The libraries also raise `from None`, which hides the cause but keeps it as the context.
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
