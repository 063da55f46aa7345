"""An export put into a private repository of the hub, for those who asked for it by a flag.

The token is read from HF_TOKEN alone, and is in no message, file or child process of ours.
"""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path
from typing import Any

from yxanul.errors import InfrastructureError, MissingExtraError, UsageError

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def check_repository(name: str) -> None:
    """Refuse what can be refused before anything is written: a wrong name, no token."""
    if not _REPOSITORY.fullmatch(name):
        raise UsageError(f"--upload {name}: it takes owner/name")
    if not os.environ.get("HF_TOKEN"):
        raise UsageError("--upload needs a token that may write, in the variable HF_TOKEN")
    _hub()


def upload(folder: Path, name: str) -> str:
    """Put the folder's files into the private repository, made if it is not there; return its URL.

    A public repository of that name is a `UsageError`, a refusal of the hub or none to be reached
    an `InfrastructureError`.
    """
    hub = _hub()
    api = hub.HfApi(token=os.environ["HF_TOKEN"])
    try:
        url = str(api.create_repo(name, private=True, exist_ok=True))
        is_private = api.repo_info(name).private
        if is_private:
            api.upload_folder(repo_id=name, folder_path=folder, commit_message="Export by yxanul")
    except Exception as error:  # the client's errors have no common base; none is swallowed
        reason = textwrap.shorten(str(error) or type(error).__name__, 200, placeholder="...")
        raise InfrastructureError(
            f"the hub did not take {name}: {reason}; the export itself is in {folder}"
        ) from error
    if not is_private:
        raise UsageError(
            f"{name} is a public repository; make it private, or upload {folder} yourself"
        )
    return url


def _hub() -> Any:
    try:
        import huggingface_hub  # comes with transformers
    except ImportError as error:
        raise MissingExtraError(
            'an upload needs the package huggingface_hub: pip install "yxanul[export]"'
        ) from error
    return huggingface_hub
