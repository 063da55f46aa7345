"""A run at a mirror, as far as a preflight looks at it."""

from pathlib import Path

from yxanul.runfolder.checkpoints import MANIFEST_NAME, checkpoint_name
from yxanul.runfolder.layout import RunFolder


def run_at(mirror: Path) -> RunFolder:
    """Return the folder of the run's rows there, beside a checkpoint that makes it one."""
    checkpoint = mirror / "checkpoints" / checkpoint_name(1, 0)
    checkpoint.mkdir(parents=True)
    (checkpoint / MANIFEST_NAME).touch()
    folder = RunFolder(mirror / "run")
    folder.root.mkdir()
    return folder
