"""Whether what is to be prepared may replace what lies at an address already.

The one idea: only bytes decide that, and they are there after hours; what is bound to differ shows
before, in what a manifest tells of its sources against the configuration. What may turn out alike
is let through: another source beside those there, or a tag in place of a branch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from yxanul.config.schema import StageConfig
from yxanul.data.parts.files import is_of_parts
from yxanul.data.prepared.manifest import Manifest, SourceRecord
from yxanul.data.prepared.settings import (
    LISTS,
    changed_settings,
    has_same_split,
    is_other_commit,
    kinds_of,
    own_sources,
    source_settings,
)
from yxanul.errors import UsageError
from yxanul.runfolder.storage import is_address

# Settings of a source that may be other ones where its bytes are the same: how it is named, a
# branch or tag, of which the commit is not known yet, and where a checkout lies.
_BYTES_ALIKE = {"domain", "hub_revision", "documentation"}


def refuse_other_bytes(theirs: Manifest, stages: Sequence[StageConfig], *, address: str) -> None:
    """Raise `UsageError` where a stage at an address is not what `stages` would make of it.

    Compared are stages and sources that both have; what is read from an address itself is not.
    """
    for stage in stages:
        held = theirs.sources_of(stage.name)
        if not held or is_address(stage.data.source):
            continue
        sha256 = theirs.stages[stage.name].settings_sha256
        if told := list(_other_bytes(stage, held, sha256=sha256)):
            raise UsageError(
                f"--upload: {address} holds another {stage.name} than is to be prepared "
                f"({'; '.join(told)}); choose another address"
            )


def names_of(stages: Sequence[StageConfig]) -> Iterator[str]:
    """Yield the names that stages and their sources will have; a folder is named like its stage."""
    for stage in stages:
        yield stage.name
        yield from (source.name for source in own_sources(stage))


def _other_bytes(
    stage: StageConfig, held: Mapping[str, SourceRecord], *, sha256: str
) -> Iterator[str]:
    kind = stage.data.source if stage.data.source in LISTS else "folder"
    made = kinds_of(held)
    if made - {kind}:
        yield f"its data.source was {', '.join(sorted(made))} and is {kind}"
        return
    for source in own_sources(stage):
        record = held.get(source.name)
        if record is None:
            continue
        if is_other_commit(source, record):
            yield f"{source.name} was {record.version} and is {source.hub_id}@{source.hub_revision}"
        for key, change in changed_settings(source_settings(source, record), record.settings):
            if key not in _BYTES_ALIKE:
                yield f"{source.name}: {key} {change}"
    if _has_telling_split(stage, held) and not has_same_split(stage, held, sha256=sha256):
        seed = "" if kind == "folder" else "data.seed, "
        yield f"{seed}data.validation_fraction or the program's version was another"


def _has_telling_split(stage: StageConfig, held: Mapping[str, SourceRecord]) -> bool:
    """Tell whether bytes depend on all that the hash of a stage tells beside its sources.

    What is read from the hub and documentation have no seed. What a cluster treated has settings of
    its own, which its manifest does not tell.
    """
    if stage.data.source not in LISTS:
        return "folder" in kinds_of(held) and not any(map(is_of_parts, held.values()))
    shared = [held[source.name] for source in own_sources(stage) if source.name in held]
    return any(record.kind == "embedded" for record in shared)
