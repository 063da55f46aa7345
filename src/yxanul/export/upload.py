"""An export put into a private repository of the hub, for those who asked for it by a flag.

The token is read from HF_TOKEN alone, and is in no message, file or child process of ours.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from yxanul.data.sources.hub.failures import is_refusal, offline_by
from yxanul.data.sources.hub.names import HUB_ID
from yxanul.errors import (
    InfrastructureError,
    MissingExtraError,
    UsageError,
    YxanulError,
    in_words,
)


def check_repository(name: str) -> None:
    """Refuse what can be refused before anything is written: a wrong name, no token, no hub."""
    if not HUB_ID.fullmatch(name):
        raise UsageError(f"--upload {name}: it takes owner/name")
    _token()
    if _hub().constants.HF_HUB_OFFLINE:
        raise UsageError(f"--upload needs the hub, and is offline: unset {offline_by()}")


def upload(folder: Path, name: str) -> str:
    """Put the folder's files into the private repository, made if it is not there; return its URL.

    A public repository of that name, or a refusal of the hub, is a `UsageError`, a hub that is not
    reached or fails an `InfrastructureError`.
    """
    hub = _hub()
    api = hub.HfApi(token=_token())
    try:
        url = str(api.create_repo(name, private=True, exist_ok=True))
        is_private = api.repo_info(name).private
        if is_private:
            api.upload_folder(repo_id=name, folder_path=folder, commit_message="Export by yxanul")
    except Exception as error:  # the client's errors have no common base; none is swallowed
        raise _failure(name, error, folder=folder) from error
    if not is_private:
        raise UsageError(
            f"{name} is a public repository; make it private, or upload {folder} yourself"
        )
    return url


def _failure(name: str, error: Exception, *, folder: Path) -> YxanulError:
    # A library may quote the whole request.
    reason = in_words(error).replace(_token(), "HF_TOKEN")
    told = f"the hub did not take {name}: {reason}"
    # The same command again would refuse --out, which is there by now.
    again = f"the export itself is in {folder}, and can be MODEL of another export with --upload"
    if is_refusal(error):
        may = "set HF_TOKEN to a token that may write there, or name a repository of yours"
        return UsageError(f"{told}; {may}; {again}")
    return InfrastructureError(f"{told}; {again}")


def _token() -> str:
    """Return HF_TOKEN without the line end that copying leaves; a `UsageError` if it is none."""
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token:
        raise UsageError("--upload needs a token that may write, in the variable HF_TOKEN")
    if not (token.isascii() and token.isprintable()):
        raise UsageError("HF_TOKEN holds what no token does (not printable ASCII): copy it anew")
    return token


def _hub() -> Any:
    try:
        import huggingface_hub.constants  # comes with transformers
    except ImportError as error:
        raise MissingExtraError(
            'an upload needs the package huggingface_hub: pip install "yxanul[export]"'
        ) from error
    return huggingface_hub
