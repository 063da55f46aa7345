"""What in a configuration shapes a stage's tokens, and whether prepared data was made with it.

The one idea: a stage's settings are one hash where the same command may have made the data, and are
compared one by one where the data lies elsewhere (`--data PREPARED`), so that a change of the
configuration is never without effect and without a word.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from yxanul.config.schema import SourceConfig, StageConfig
from yxanul.config.treatment import TreatmentConfig
from yxanul.data.prepared.manifest import FORMAT_VERSION, Manifest, SourceRecord
from yxanul.data.prepared.shards import SHARD_TOKENS
from yxanul.data.tokenizer import VOCABULARY_SHA256
from yxanul.errors import UsageError

# What a source's settings may change without another token: how much it is read, how it is named
# in the papers, and how it is reached.
_SHAPES_NO_TOKEN = {"weight", "licence", "attribution", "private"}
_COMMIT = re.compile(r"[0-9a-f]{40}")
LISTS = {"hub": "hub_sources", "embedded": "embedded_sources"}
"""The kinds of sources, and where a stage lists them; any other data.source is a place."""
# What a rule set is made of where it is applied; by default none is.
_RULES = TreatmentConfig.model_validate(
    {rules: {} for rules in ("c4", "fineweb", "gopher_quality", "gopher_repetition")}
).model_dump(mode="json")
# Raise it when cleaning, dedup or split give other tokens for the same documents.
_PROCESS_VERSION = 2


def settings_sha256(stage: StageConfig, held: Mapping[str, SourceRecord] | None = None) -> str:
    """Return the hash of everything in a stage's configuration that shapes its tokens.

    `held` are sources that are prepared already, by name (see `source_settings`). Where a folder of
    texts lies is no part of it, nor what `data.seed` is there: its files are read in the order of
    their names, and the manifest has a hash of them.
    """
    sources = [
        source_settings(one, held.get(one.name) if held else None) for one in own_sources(stage)
    ]
    treatment = stage.data.folder_treatment.model_dump(mode="json")
    return _sum_of(stage, sources, domain=folder_domain(stage), treatment=treatment)


def has_same_split(stage: StageConfig, held: Mapping[str, SourceRecord], *, sha256: str) -> bool:
    """Tell whether a stage's sources `held`, prepared under `sha256`, had its seed and split.

    So it is if that hash comes out of theirs and the stage's own; a folder has no seed.
    """
    sources = [record.settings for record in held.values()]
    if stage.data.source in LISTS:
        return _sum_of(stage, sources, domain="", treatment=None) == sha256
    treatment, domain = sources.pop().get("treatment"), next(iter(held.values())).domain
    return _sum_of(stage, [], domain=domain, treatment=treatment) == sha256


def _sum_of(
    stage: StageConfig,
    sources: Sequence[Mapping[str, object]],
    *,
    domain: str,
    treatment: object,
) -> str:
    """Return the hash; the domain and the treatment are those of a folder."""
    is_folder = stage.data.source not in LISTS
    settings: dict[str, object] = {
        "process": [_PROCESS_VERSION, FORMAT_VERSION, SHARD_TOKENS, VOCABULARY_SHA256],
        "name": stage.name,
        "source": "folder" if is_folder else stage.data.source,
        "seed": None if is_folder else stage.data.seed,
        "validation_fraction": stage.data.validation_fraction,
        "sources": sources,
    }
    if is_folder:
        settings["domain"] = domain
        settings["treatment"] = treatment
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def source_settings(source: SourceConfig, held: SourceRecord | None = None) -> dict[str, object]:
    """Return the settings of a source that shape its tokens.

    A commit stands there as what `held` was asked for, a branch, a tag or the newest: the manifest
    has the commit that was read, and `check_revisions` compares. So one may write the resolved
    commit into the recipe later, and the data stays usable.
    """
    shape = source.model_dump(mode="json", exclude=_SHAPES_NO_TOKEN)
    if asked_commit(source):
        shape["hub_revision"] = held.settings.get("hub_revision") if held else None
    return shape


def asked_commit(source: SourceConfig) -> str | None:
    """Return the commit that a source asks for; None = the newest, or a branch or tag."""
    asked = source.hub_revision
    return asked if asked is not None and _COMMIT.fullmatch(asked) else None


def own_sources(stage: StageConfig) -> tuple[SourceConfig, ...]:
    """Return the sources that `data.source` hub or embedded means; none for a folder."""
    key = LISTS.get(stage.data.source)
    found: tuple[SourceConfig, ...] = () if key is None else getattr(stage.data, key)
    return found


def folder_domain(stage: StageConfig, made_of: str | None = None) -> str:
    """Return the domain of a folder: of the source `made_of`, of the first, or the stage's name."""
    configured = (*stage.data.embedded_sources, *stage.data.hub_sources)
    first = configured[0].domain if configured else stage.name
    return next((source.domain for source in configured if source.name == made_of), first)


def check_revisions(stages: Sequence[StageConfig], held: Manifest, *, place: Path) -> None:
    """Refuse prepared data of another commit than the one that a source asks for."""
    for stage in stages:
        for source in own_sources(stage) if stage.name in held.stages else ():
            if source.name in held.sources:
                _check_revision(source, held.sources[source.name], place=place)


def refuse_other_settings(
    manifest: Manifest, stages: Sequence[StageConfig], *, place: Path | str
) -> None:
    """Raise `UsageError` where the data in `place` was not made from the sources of `stages`.

    Compared are the sources of the kind (hub or embedded) that a stage was prepared from: one that
    is not there, another commit, and other settings. What an older version did not know counts as
    its default. Of a folder of texts nothing is compared: it may have been treated by a cluster.
    """
    for stage in stages:
        held = manifest.sources_of(stage.name)
        key = list_of(stage, held)
        if key is None:
            continue
        asked: tuple[SourceConfig, ...] = getattr(stage.data, key)
        if absent := [source.name for source in asked if source.name not in held]:
            raise UsageError(
                f"{place} lacks {', '.join(absent)}, which data.{key} of {stage.name} name; "
                "prepare the data with it, or take it out of the stage's file."
            )
        for source in asked:
            record = held[source.name]
            _check_revision(source, record, place=place)
            changes = changed_settings(source_settings(source, record), record.settings)
            if told := [f"{key} {change}" for key, change in changes]:
                raise UsageError(
                    f"{place} was prepared with other settings of {source.name} ({stage.name}): "
                    f"{'; '.join(told)}; use those, or prepare the data with these."
                )


def tell_other_licences(
    manifest: Manifest,
    stages: Sequence[StageConfig],
    *,
    place: Path,
    say: Callable[[str], None],
) -> None:
    """Say where the data in `place` names another licence or attribution than a source asks for.

    What is written of data and of runs has those of the data. One that a source leaves open is not
    compared: the text's own origin states it.
    """
    for stage in stages:
        held = manifest.sources_of(stage.name)
        key = list_of(stage, held)
        asked: tuple[SourceConfig, ...] = () if key is None else getattr(stage.data, key)
        for source in asked:
            for name in ("licence", "attribution"):
                now = getattr(source, name)
                made = getattr(held[source.name], name) if source.name in held else now
                if now not in (None, made):
                    say(
                        f"{place} holds {source.name} with the {name} {made!r}, and its stage says "
                        f"{now!r}: that holds once the data is prepared anew, in another folder"
                    )


def list_of(stage: StageConfig, held: Mapping[str, SourceRecord]) -> str | None:
    """Return the key of the sources that a prepared stage was made from; None = of a folder.

    `held` are the stage's prepared sources.
    """
    kinds = {record.kind for record in held.values()}
    if not kinds or "folder" in kinds:
        return None
    # Documentation may stand in either list: then the one that is read, or names what is there.
    known = [key for kind, key in LISTS.items() if kind in kinds]
    if not known:
        read = LISTS.get(stage.data.source)
        known = [read] if read else list(LISTS.values())
    named = {key: {source.name for source in getattr(stage.data, key)} for key in known}
    return min(known, key=lambda key: len(named[key] ^ held.keys()))


def kinds_of(held: Mapping[str, SourceRecord]) -> set[str]:
    """Return the kinds of sources, but for documentation, which may stand beside any."""
    return {record.kind for record in held.values()} - {"documentation"}


def is_other_commit(source: SourceConfig, record: SourceRecord) -> bool:
    """Tell whether a source asks for another commit than it was prepared from."""
    commit = asked_commit(source)
    is_asked = commit is not None and record.kind == "hub"
    return is_asked and record.version != f"{source.hub_id}@{commit}"


def _check_revision(source: SourceConfig, record: SourceRecord, *, place: Path | str) -> None:
    if is_other_commit(source, record):
        raise UsageError(
            f"{place} holds {source.name} of {record.version}, and hub_revision asks for "
            f"{source.hub_revision}: choose another folder, or set hub_revision to what is there."
        )


def changed_settings(
    asked: Mapping[str, object], made: Mapping[str, object]
) -> Iterator[tuple[str, str]]:
    """Yield (key, "was ... and is ...") of the settings in which a source is another than `made`.

    What an older version did not know counts as its default.
    """
    default = SourceConfig(name="default", domain="default", weight=1.0)
    yield from _changed(asked, made, usual=source_settings(default))


def _changed(
    asked: Mapping[str, object], made: Mapping[str, object], *, usual: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    for key, value in asked.items():
        before = made.get(key, usual[key])
        if isinstance(value, dict) and isinstance(before, dict):
            for inner, change in _changed(value, before, usual=usual[key] or _RULES[key]):
                yield f"{key}.{inner}", change
        elif value != before:
            yield key, _difference(before, value)


def _difference(before: object, value: object) -> str:
    """Say what a setting was and is; long ones begin shortly before they differ."""
    was, now = json.dumps(before), json.dumps(value)
    same = next((n for n in range(len(was)) if was[n : n + 1] != now[n : n + 1]), 0)
    begin, dots = (same - 20, "...") if same > 60 else (0, "")
    return f"was {dots}{was[begin:][:80]} and is {dots}{now[begin:][:80]}"
