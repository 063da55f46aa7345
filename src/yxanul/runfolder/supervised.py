"""What a supervised program tells its supervisor, in a file that it is named.

Any command can be supervised, torchrun and scripts among them. They do not hand on where the run
folder is, nor the exit code of what they launched, so the program itself says both.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

VARIABLE = "YXANUL_RUN_NOTE"
"""The environment variable that names the file."""
BEGUN_VARIABLE = "YXANUL_RUN_BEGUN"
"""The environment variable that names the run folder which an earlier start has come to."""
NAMED_VARIABLE = "YXANUL_RUN_NAMED"
"""The environment variable that names the checkpoint from which one has gone on by name."""


def tell_supervisor(**news: Any) -> None:
    """Add to what the supervisor is told: code and reason of an end, or how far the run came.

    Only the main rank speaks; without a supervisor nothing is done.
    """
    if is_main_process():
        _tell(news)


def tell_run_folder(place: Path) -> None:
    """Tell the supervisor where the run folder lies, and, on the main rank's machine, who works.

    One process of every machine speaks: each may have a supervisor, which sees in the folder how
    far the run has come.
    """
    if is_main_process():
        _tell({"run_folder": str(place), "pid": os.getpid()})
    elif os.environ.get("LOCAL_RANK") == "0":
        _tell({"run_folder": str(place)})


def is_started_again(place: Path) -> bool:
    """Tell whether an earlier start under the same supervisor has come to this run folder.

    What lies there is that start's own work: what may not lie there has been looked for.
    """
    return os.environ.get(BEGUN_VARIABLE) == str(place)


def tell_named(checkpoint: Path) -> None:
    """Tell the supervisor that the run has gone on from the checkpoint that a person named."""
    tell_supervisor(named=str(checkpoint.resolve()))


def has_gone_on_from(checkpoint: Path) -> bool:
    """Tell whether an earlier start under the same supervisor has gone on from it by name."""
    return os.environ.get(NAMED_VARIABLE) == str(checkpoint.resolve())


def is_main_process() -> bool:
    """Tell whether this process speaks for all: torchrun's first, and one that is alone.

    A pod may have a RANK that means nothing without a WORLD_SIZE.
    """
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def _tell(news: dict[str, Any]) -> None:
    note = os.environ.get(VARIABLE)
    if not note:
        return
    # Temporary folders are cleared of what is old, and may be full: it ends no run, nor its code.
    with suppress(OSError):
        Path(note).parent.mkdir(exist_ok=True)
        with Path(note).open("a", encoding="utf-8") as file:
            file.write(json.dumps(news) + "\n")


def read_note(note: Path) -> dict[str, Any]:
    """Return all that the supervised program has told; nothing is an empty one.

    Of several that a script has started one after the other, the last that came to a run folder
    is the program: how one before it ended is not its end.
    """
    told: dict[str, Any] = {}
    if note.exists():
        for line in note.read_text(encoding="utf-8", errors="replace").splitlines():
            news = _news(line)
            if "run_folder" in news:
                told = {"named": told["named"]} if "named" in told else {}
            told |= news
    return told


def _news(line: str) -> dict[str, Any]:
    """Return one line's news; half a line of a killed process, and what is not ours, is none."""
    try:
        news = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    is_ours = isinstance(news, dict) and (
        isinstance(news.get("run_folder", ""), str)
        and isinstance(news.get("named", ""), str)
        and isinstance(news.get("pid", 0), int)
        and isinstance(news.get("code", 0), int)
        and isinstance(news.get("reason", ""), str)
        and ("code" in news) == ("reason" in news)
    )
    return news if is_ours else {}
