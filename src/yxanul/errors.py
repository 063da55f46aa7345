"""The family of errors that a user can meet; each class carries the process's exit code.

::

    YxanulError                      1   internal error
    ├── StoppedOnRequest            10   saved after SIGINT or SIGTERM; start me again
    ├── InfrastructureError         11   a restart may cure it
    │   ├── HubUnreachableError          the data hub did not answer
    │   └── BrokenDiskError              the disk does not answer
    ├── GateStopError               20   a gate said stop
    ├── UsageError                  30   a wrong flag, value or combination
    │   ├── ConfigError                  a configuration file or --set
    │   ├── MissingExtraError            an optional package is not installed
    │   └── SandboxUnavailableError      this machine cannot contain model-written programs
    ├── CorruptDataError            31   bytes on disk are not what was written
    │   ├── CorruptShardError            a token shard or its manifest
    │   └── CorruptCheckpointError       a checkpoint
    ├── DiskError                   32   full or not writable
    └── NumericsError               33   loss or gradients are not finite

A message is one sentence or two: what is wrong, where (file and key, or flag), what to do.
The command line prints it without a traceback and leaves with `exit_code`.
"""

import textwrap

_MOST_LETTERS = 200


def first_line(error: BaseException) -> str:
    """Return the first line of what a library says, which may be a page; else the error's name."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:_MOST_LETTERS]


def in_words(error: BaseException) -> str:
    """Return the beginning of all that a library says, as one line; else the error's name."""
    told = str(error).strip() or type(error).__name__
    return textwrap.shorten(told, _MOST_LETTERS, placeholder="...")


class YxanulError(Exception):
    """Anything this program raises on purpose."""

    exit_code = 1


class StoppedOnRequest(YxanulError):  # noqa: N818  (a request is not an error)
    """The run was asked to stop, and its state is saved."""

    exit_code = 10


class InfrastructureError(YxanulError):
    """Something outside the program failed; starting again may cure it."""

    exit_code = 11


class HubUnreachableError(InfrastructureError):
    """A data set on the hub could not be reached."""


class GateStopError(YxanulError):
    """A gate between stages said stop."""

    exit_code = 20


class UsageError(YxanulError):
    """The user asked for something impossible."""

    exit_code = 30


class ConfigError(UsageError):
    """A configuration file or a `--set` is wrong."""


class MissingExtraError(UsageError):
    """A package of an optional extra is not installed."""


class SandboxUnavailableError(UsageError):
    """This machine cannot contain model-written programs, so they are not run."""


class CorruptDataError(YxanulError):
    """Bytes on disk are not what was written."""

    exit_code = 31


class CorruptShardError(CorruptDataError):
    """A token shard or its manifest is damaged."""


class CorruptCheckpointError(CorruptDataError):
    """No checkpoint that verifies can be used."""


class ExportCheckError(CorruptDataError):
    """An export does not say what the model says, or is not what was written."""


class DiskError(YxanulError):
    """The disk is full or cannot be written."""

    exit_code = 32


class BrokenDiskError(InfrastructureError):
    """The disk does not answer, or has become read-only."""


class NumericsError(YxanulError):
    """Loss or gradients are not finite."""

    exit_code = 33
