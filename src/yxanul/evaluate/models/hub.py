"""Models on the hub: which commit of one is there, its files, and what a failure to get them means.

The hub is asked once, without the patience of its own libraries, so that a machine without a
network hears of it at once; the commit that it names is then the one that is read.
"""

import errno
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from traceback import walk_tb
from typing import Any

from yxanul.data.sources.hub.failures import causes, is_refusal
from yxanul.data.sources.hub.names import HUB_ID
from yxanul.errors import (
    CorruptDataError,
    DiskError,
    HubUnreachableError,
    MissingExtraError,
    UsageError,
    YxanulError,
    in_words,
)
from yxanul.hardware.memory import exhaustion, is_out_of_memory
from yxanul.model.fp8 import hush_torchao
from yxanul.runfolder.durable import FULL, number_of, refuse_absent_disk

_ASKED_S = 15.0
_CONFIG, _BRANCH = "config.json", "main"
_FILES = (_CONFIG, "*.safetensors", "model.safetensors.index.json")
"""What is read of an export of ours."""
_CARD = "README.md"
# By name, since their packages are optional; HfHubHTTPError is an answer, the others are none.
_OFFLINE = "OfflineModeIsEnabled"
_OUTAGES = {"TransportError", _OFFLINE, "LocalEntryNotFoundError", "HfHubHTTPError"}
_NO_SUCH_FILE = "RemoteEntryNotFoundError"
# Where the hub's library brings files. What does it for large ones (hf_xet) has no errors of its
# own: an outage is a RuntimeError.
_BRINGING = {"huggingface_hub.file_download", "huggingface_hub._snapshot_download"}
# Told without a file's name, if by hf_xet in words alone; and of a hf_xet that does not fit.
_REFUSED_HERE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG, errno.EMFILE)
_UNFIT = (AttributeError, ImportError, TypeError)
_NO_MEMORY = "run fewer other programs on this machine, or take one with more memory"


@dataclass(frozen=True)
class Snapshot:
    """A model of the hub in the hub's cache, and a sentence that says which commit it is."""

    folder: Path
    note: str


def is_hub_id(name: str) -> bool:
    """Tell whether a name, as it was typed, is owner/name of the hub and no path here.

    Below a folder that is here it is a path, mistyped if it leads nowhere: its words stay here.
    """
    return HUB_ID.fullmatch(name) is not None and not Path(name).parent.is_dir()


def snapshot(name: str, *, accept: Callable[[Path], object]) -> Snapshot:
    """Bring what an export holds of owner/name, or take the copy here where no hub is reached.

    `accept` is given the folder when config.json lies in it, and may raise before weights are
    asked for. Raises what it does, what `failure` tells, and `DiskError`.
    """
    folder, is_reached = newest_config(name)
    accept(folder)
    # The card stays with the weights; a copy that a scoring brought lacks it, and is whole.
    files = (*_FILES, _CARD) if is_reached else _FILES
    folder = _download(name, folder.name, files=files, is_reached=is_reached)
    note = brought(name, folder, is_reached=is_reached)
    if not is_reached:
        note += f", of commit {folder.name}"
    return Snapshot(folder, note)


def of_cache(folder: Path) -> tuple[str, str] | None:
    """Return owner/name and commit of a folder of the hub's cache, which need not be there now.

    None: it is no place of the cache.
    """
    kind, *name = folder.parents[1].name.split("--") if len(folder.parts) > 2 else ("",)
    is_snapshot = folder.parent.name == "snapshots" and kind == "models" and len(name) == 2
    return ("/".join(name), folder.name) if is_snapshot else None


def snapshot_at(name: str, commit: str) -> tuple[Snapshot, frozenset[str]]:
    """Bring what an export holds of a commit of owner/name, or find it here, as `snapshot` does.

    Returns the names of its files on the hub too: none where the hub is not reached. One that is
    lost in the middle leaves a part of it.
    """
    info = _ask(name, revision=commit)
    folder = _download(name, commit, files=_FILES, is_reached=info is not None)
    names = frozenset(one.rfilename for one in (info and info.siblings) or ())
    return Snapshot(folder, f"{name} at commit {commit}"), names


def newest_config(name: str) -> tuple[Path, bool]:
    """Bring config.json of the newest commit; return its folder, called like the commit.

    False: the hub is not reached, and the folder is the copy on this machine. Raises as `snapshot`.
    """
    commit = newest_commit(name)
    # By the commit: the branch may move. The cache's own stays where it is until weights are here.
    found = _download(name, commit or _BRANCH, files=(_CONFIG,), is_reached=commit is not None)
    if commit is not None and not (found / _CONFIG).is_file():
        raise UsageError(
            f"{name} has no {_CONFIG}, so it is no model for transformers (a GGUF file is "
            "llama.cpp's): name one that has"
        )
    return found, commit is not None


def brought(name: str, folder: Path, *, is_reached: bool) -> str:
    """Tell the cache that what is read of a commit is here; return the sentence that says which.

    When the hub is out of reach the cache's branch leads to it, and never to half a model.
    """
    if not is_reached:
        return f"the hub could not be reached: {name} is the copy that is on this machine"
    told, branch = f"{name} at commit {folder.name}", folder.parents[1] / "refs" / _BRANCH
    try:
        if not branch.is_file() or branch.read_text(encoding="utf-8") != folder.name:
            branch.parent.mkdir(parents=True, exist_ok=True)
            # A name of its own: processes of one run may do this at once.
            beside = branch.with_name(f".{_BRANCH}.{os.getpid()}")
            beside.write_text(folder.name, encoding="utf-8")
            beside.replace(branch)
    except OSError as error:  # a cache may be for reading only
        return f"{told} (without the hub it is not found: {branch}: {error.strerror})"
    return told


def _download(name: str, revision: str, *, files: tuple[str, ...], is_reached: bool) -> Path:
    import huggingface_hub  # comes with transformers

    hub: Any = huggingface_hub
    if not sys.stderr.isatty():
        hub.utils.disable_progress_bars()  # they would fill a log
    try:
        found = hub.snapshot_download(
            name, revision=revision, allow_patterns=list(files), local_files_only=not is_reached
        )
    except Exception as error:  # the client's errors have no common base; none is swallowed
        raise failure(name, error) from error
    return Path(found)


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
    info = _ask(name)
    return None if info is None else info.sha


def _ask(name: str, *, revision: str | None = None) -> Any:
    """Return what the hub tells of owner/name; None, and what is raised, as `newest_commit`."""
    transformers()
    from huggingface_hub import HfApi  # comes with transformers

    try:
        return HfApi().model_info(name, revision=revision, timeout=_ASKED_S)
    except Exception as error:  # the client's errors have no common base; none is swallowed
        known = failure(name, error)
        if isinstance(known, HubUnreachableError):
            return None
        raise known from error


def failure(name: str, error: Exception) -> YxanulError:
    """Return the error to raise for what the libraries raised when they opened a model.

    A disk that does not answer is raised: a `BrokenDiskError`.
    """
    chain = list(causes(error))
    kinds = {kind.__name__ for one in chain for kind in type(one).__mro__}
    reason = in_words(error)
    if any(number_of(one) in FULL for one in chain):
        return DiskError(f"no space is left for {name}; HF_HOME names another place for its copy")
    if any(map(is_out_of_memory, chain)):
        return exhaustion(error, f"{name} was not opened: {_NO_MEMORY}")
    is_far = not Path(name).is_dir() and _NO_SUCH_FILE not in kinds
    # Set offline, the copy here is wanted: no refusal, as it is of a data set.
    if is_far and is_refusal(error) and _OFFLINE not in kinds:
        return UsageError(
            f"{name} is no folder here, and the hub has no model of that name, or it is private or "
            "gated, or the token is wrong: correct the name, or set HF_TOKEN to a token that may "
            "read it"
        )
    if is_far and kinds & _OUTAGES:
        return HubUnreachableError(
            f"{name} is no folder here and no copy of it is on this machine, and the hub could not "
            "be reached: try again later, or name a folder"
        )
    if is_far and _is_of_bringing(chain):
        return HubUnreachableError(
            f"{name} could not be brought from the hub ({reason}): try again later, or name a "
            "folder"
        )
    refuse_absent_disk(error, Path(name))
    if "SafetensorError" in kinds:
        return CorruptDataError(f"the weights of {name} are damaged: {reason}")
    return UsageError(f"{name} is no model that can be opened here: {reason}")


def _is_of_bringing(chain: list[BaseException]) -> bool:
    """Tell whether the hub's library failed as it brought a file, and no file here was refused."""
    for one in (chain[0], chain[0].__cause__):
        if getattr(one, "filename", None) or isinstance(one, _UNFIT):
            return False
    if any(number_of(one) in _REFUSED_HERE for one in chain):
        return False
    frames = (frame for one in chain for frame, _ in walk_tb(one.__traceback__))
    return any(frame.f_globals.get("__name__") in _BRINGING for frame in frames)
