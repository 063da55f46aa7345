"""Documents from a data set on the Hugging Face hub, streamed: nothing is stored but the shards.

A set that cannot be reached, or is not there, is an error that names it and the ways on; there is
no other source to fall back to. Retries and resuming inside a set are not here yet.
"""

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from yxanul.config.schema import SourceConfig
from yxanul.data.document import Document
from yxanul.data.tokenizer import load_tokenizer
from yxanul.errors import ConfigError, HubUnreachableError, MissingExtraError, UsageError

# Request timeout and too many requests: the only refusals that waiting cures.
_TRY_AGAIN = (408, 429)
# By name, since their packages are optional: what the libraries raise without an answer's status.
_ABSENT = {"DatasetNotFoundError", "DataFilesNotFoundError", "HFValidationError"}


def resolve_revision(config: SourceConfig) -> str:
    """Return the commit of the data set that `config` names; contacts the hub.

    Raises HubUnreachableError (an outage), UsageError (the set or the revision does not exist, or
    may not be read), MissingExtraError (package datasets) or ConfigError (no hub_id).
    """
    try:
        from huggingface_hub import HfApi  # comes with the optional extra
    except ImportError as error:
        raise _missing() from error
    hub_id = _hub_id(config)
    if config.private and _token() is None:
        raise UsageError(
            f"The data set {hub_id} is private and HF_TOKEN is not set: set it to a token that may "
            f"read the set, or use --data embedded or --data DIR."
        )
    try:
        found = HfApi(token=_token()).dataset_info(hub_id, revision=config.hub_revision)
    except Exception as error:  # the client's errors have no common base; none is swallowed
        raise _failure(hub_id, error) from error
    return str(found.sha)


def read_documents(
    config: SourceConfig, *, revision: str, dropped: dict[str, int]
) -> Iterator[Document]:
    """Yield the rows of one split as documents, in the set's own order.

    Raises HubUnreachableError when the hub fails at any point, UsageError when it refuses the
    set, ConfigError for a wrong hub_config, hub_split or text_template. Dropped: rows under
    min_tokens, and empty ones.
    """
    hub_id = _hub_id(config)
    taken = 0
    for number, row in enumerate(_rows(config, revision)):
        text = render_row(row, config)
        reason = _unfit(text, config.min_tokens)
        if reason:
            dropped[reason] = dropped.get(reason, 0) + 1
            continue
        url = row.get("url")
        yield Document(
            text=text,
            source=config.name,
            id=f"{hub_id}/{config.hub_config or 'default'}/{config.hub_split}/{number}",
            url=url if isinstance(url, str) else None,
        )
        taken += 1
        if taken == config.max_documents:
            return


def render_row(row: Mapping[str, Any], config: SourceConfig) -> str:
    """Return a row as text: `text_template` filled with its columns.

    A column that holds a chat (a list of {role, content}) is written as "User: ..." and
    "Assistant: ..." paragraphs by "{messages}", or turn by turn by "{messages[0][content]}".
    Raises ConfigError when the template does not fit the columns.
    """
    template = config.text_template if config.text_template is not None else "{text}"
    columns = {name: _column(value) for name, value in row.items()}
    try:
        return template.format_map(columns).strip()
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"Source {config.name}: text_template {template!r} does not fit the data set "
            f"{config.hub_id}, whose columns are {', '.join(columns)} ({error})."
        ) from error


def _rows(config: SourceConfig, revision: str) -> Iterator[Mapping[str, Any]]:
    try:
        from datasets import load_dataset  # an optional extra, and slow to import
    except ImportError as error:
        raise _missing() from error
    hub_id = _hub_id(config)
    try:
        stream = load_dataset(
            hub_id,
            config.hub_config,
            split=config.hub_split,
            revision=revision,
            streaming=True,
            token=_token(),
        )
        rows = iter(stream)
    except Exception as error:  # see resolve_revision
        if isinstance(error, ValueError) and _status(error) is None:
            raise ConfigError(
                f"Source {config.name}: hub_config {config.hub_config!r} or hub_split "
                f"{config.hub_split!r} does not fit the data set {hub_id} ({_first_line(error)})."
            ) from error
        raise _failure(hub_id, error) from error
    while True:
        try:
            batch = list(islice(rows, 256))
        except Exception as error:  # see resolve_revision
            raise _failure(hub_id, error) from error
        if not batch:
            return
        yield from batch


def _unfit(text: str, min_tokens: int | None) -> str | None:
    if not text:
        return "empty"
    if min_tokens is None:
        return None
    # A token has at least one byte, so most short texts need no tokeniser.
    if len(text.encode()) < min_tokens or len(load_tokenizer().encode(text)) < min_tokens:
        return "under min_tokens"
    return None


class _Chat(list[Any]):
    """A list of {role, content}: single turns by index, and as text the whole conversation."""

    def __str__(self) -> str:
        return "\n\n".join(f"{str(turn['role']).capitalize()}: {turn['content']}" for turn in self)


def _column(value: Any) -> Any:
    """Return a chat as one that knows how to print itself, anything else as it is."""
    is_chat = (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, dict) and {"role", "content"} <= turn.keys() for turn in value)
    )
    return _Chat(value) if is_chat else value


def _hub_id(config: SourceConfig) -> str:
    if config.hub_id is None:
        raise ConfigError(
            f"Source {config.name} has no hub_id: a source of data.hub_sources must name its data "
            f"set (owner/name)."
        )
    return config.hub_id


def _token() -> str | None:
    return os.environ.get("HF_TOKEN") or None


def _failure(hub_id: str, error: Exception) -> UsageError | HubUnreachableError:
    """Return the error to raise: another start may cure an outage, but not a wrong name."""
    status = _status(error)
    if status is None:
        is_refused = any(type(one).__name__ in _ABSENT for one in _causes(error))
    else:
        is_refused = 400 <= status < 500 and status not in _TRY_AGAIN
    reason = type(error).__name__ + (f", HTTP {status}" if status else "")
    if is_refused:
        return UsageError(
            f"The data set {hub_id} (or its hub_revision) does not exist, is private or is gated "
            f"({reason}): correct its name, set HF_TOKEN to a token that may read it, or use "
            f"--data embedded to train offline or --data DIR for a folder of your own."
        )
    return HubUnreachableError(
        f"The data set {hub_id} could not be reached on the hub ({reason}): start again later, use "
        f"--data embedded to train offline, --data DIR for a folder of your own, or set a token in "
        f"HF_TOKEN if the set is private."
    )


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that the hub answered with, None = it did not answer."""
    for one in _causes(error):
        status = getattr(getattr(one, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _missing() -> MissingExtraError:
    return MissingExtraError(
        "Streaming from the hub needs the package datasets, which is not installed: "
        'pip install "yxanul[hub]", or use --data embedded or --data DIR.'
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
