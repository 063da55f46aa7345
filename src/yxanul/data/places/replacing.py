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
    asked_commit,
    differences,
    has_same_split,
    own_sources,
    sources_of,
)
from yxanul.errors import UsageError
from yxanul.runfolder.storage import is_address

# Settings of a source that may be other ones where its bytes are the same: how it is named, a
# branch or tag, of which the commit is not known yet, and where a checkout lies.
_BYTES_ALIKE = ("domain was", "hub_revision was", "documentation was")


def refuse_other_bytes(theirs: Manifest, stages: Sequence[StageConfig], *, address: str) -> None:
    """Raise `UsageError` where a stage at an address is not what `stages` would make of it.

    Compared are stages and sources that both have; what is read from an address itself is not.
    """
    for stage in stages:
        held = sources_of(stage, theirs)
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
    # Documentation may stand beside any kind of source.
    made = {record.kind for record in held.values()} - {"documentation"}
    if made - {kind}:
        yield f"its data.source was {', '.join(sorted(made))} and is {kind}"
        return
    for source in own_sources(stage):
        record = held.get(source.name)
        if record is None:
            continue
        commit = asked_commit(source)
        if commit and record.kind == "hub" and record.version != f"{source.hub_id}@{commit}":
            yield f"{source.name} was {record.version} and is {source.hub_id}@{commit}"
        for line in differences(source, record):
            if not line.startswith(_BYTES_ALIKE):
                yield f"{source.name}: {line}"
    # What a cluster treated has settings of its own, which its manifest does not tell.
    is_joined = any(map(is_of_parts, held.values()))
    if not is_joined and not has_same_split(stage, held, sha256=sha256):
        what = "folder_treatment" if kind == "folder" else "seed"
        yield f"data.{what}, data.validation_fraction or the program's version was another"
