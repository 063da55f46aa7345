"""Where documents come from: one `Source` for each thing that a stage's configuration can name.

A source is opened cheaply (packages are found, the hub is asked for a revision, nothing is
imported), and read as often as one likes: every reading gives the same documents in the same order.
"""

import platform
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

from yxanul.config.schema import SourceConfig
from yxanul.data.bookmark import Bookmark
from yxanul.data.document import Document
from yxanul.data.progress import unheard
from yxanul.data.sources import (
    api_pages,
    code,
    factbook,
    folder,
    mathematics,
    reasoning,
    wikipedia,
)
from yxanul.data.sources.counted import CountedReading
from yxanul.data.sources.hub.part import HubPart
from yxanul.data.sources.hub.patience import Line, Patience
from yxanul.data.sources.hub.source import HubReader, reader_version, resolve_revision
from yxanul.data.sources.packages import in_hash_order, package_version
from yxanul.data.sources.snippets import read as snippets
from yxanul.data.sources.snippets.origin import Origin, open_origin
from yxanul.errors import ConfigError

HUB_LICENCE = "as the data set's page on the hub says"


@dataclass(frozen=True, slots=True)
class Source:
    """A named stream of documents with its provenance.

    `version` says what the text depends on: package, Python, revision or hash of contents.
    `documents()` starts a new reading; `dropped` counts, by reason, what the latest reading left
    out so far, and is complete when the reading is. `bookmark` lets it be read on from the middle.
    """

    name: str
    domain: str
    licence: str
    attribution: str | None
    version: str
    documents: Callable[[], Iterator[Document]]
    dropped: Counter[str]
    bookmark: Bookmark
    most: int | None = None
    """Documents that it gives at most; None = that is not known before they are read."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How a source of the hub is opened, or documentation.

    `news` gets a line for every wait, and while files are hashed; `begun` is the `version` that an
    earlier start has read a part of (None = nothing is begun), and is gone on with.
    """

    news: Callable[[str], None] = unheard
    begun: str | None = None
    patience: Patience = field(default_factory=Patience)


# What an embedded source is, apart from its settings.
@dataclass(frozen=True, slots=True)
class _Embedded:
    domain: str
    licence: str
    attribution: str
    version: Callable[[], str]
    read: Callable[..., Iterator[Document]]
    count: int | None = None  # of a generated source; None = a fixed body of text


def open_source(
    config: SourceConfig,
    kind: Literal["hub", "embedded"],
    *,
    seed: int,
    opening: Opening | None = None,
) -> Source:
    """Return the source that `config` names; `seed` decides what is generated and the order.

    One with `documentation` is read from there. Without `opening` a source of the hub is begun anew
    and waits in silence. Raises ConfigError for an unknown name, MissingExtraError for a missing
    package, HubUnreachableError when the hub does not answer, UsageError when it refuses.
    """
    if config.documentation is not None:
        return _open_documentation(config, config.documentation, opening=opening or Opening())
    if kind == "hub":
        return _open_hub(config, opening or Opening())
    known = _embedded_sources()
    if config.name not in known:
        raise ConfigError(
            f"data.embedded_sources: there is no embedded source {config.name!r}; the names are "
            f"{', '.join(known)}."
        )
    embedded = known[config.name]
    dropped = Counter[str]()
    if embedded.count is None:
        read = partial(
            _read_fixed,
            embedded.read,
            seed=seed,
            max_documents=config.max_documents,
            dropped=dropped,
        )
    else:
        count = config.max_documents or embedded.count
        read = partial(embedded.read, seed=seed, count=count, dropped=dropped)
    counted = CountedReading(partial(_restart, read, dropped), name=config.name)
    return Source(
        name=config.name,
        domain=config.domain,
        licence=config.licence or embedded.licence,
        attribution=config.attribution or embedded.attribution,
        version=embedded.version(),
        documents=counted.documents,
        dropped=dropped,
        bookmark=counted.bookmark(),
        most=config.max_documents or embedded.count,
    )


def open_folder(
    path: Path,
    *,
    name: str,
    domain: str,
    progress: Callable[[str], None] = unheard,
    begun: str | None = None,
) -> Source:
    """Return the files below `path` as a source, after a look at every text.

    `progress` gets a line now and then while the files are hashed and looked at, and may raise.
    `begun` is the `version` that an earlier start has looked at. Raises UsageError when there is
    nothing to read, and what is wrong with the texts. The licence is the user's to know.
    """
    dropped = Counter[str]()
    reader = folder.FolderReader(path, name=name, dropped=dropped)
    version = folder.folder_version(path, progress=progress)
    if version != begun:
        reader.check(progress)
    return Source(
        name=name,
        domain=domain,
        licence="unknown (a folder of the user's)",
        attribution=None,
        version=version,
        documents=reader.documents,
        dropped=dropped,
        bookmark=Bookmark("folder", mark=reader.mark, resume=reader.resume),
    )


def _open_documentation(config: SourceConfig, place: str, *, opening: Opening) -> Source:
    origin = open_origin(place, progress=opening.news)
    dropped = Counter[str]()
    read = partial(_read_documentation, origin, config=config, dropped=dropped)
    counted = CountedReading(partial(_restart, read, dropped), name=config.name)
    return Source(
        name=config.name,
        domain=config.domain,
        licence=config.licence or origin.licence or "as the documentation itself says",
        attribution=config.attribution,
        version=origin.version,
        documents=counted.documents,
        dropped=dropped,
        bookmark=counted.bookmark(),
        most=config.max_documents,
    )


def _read_documentation(
    origin: Origin, *, config: SourceConfig, dropped: Counter[str]
) -> Iterator[Document]:
    documents = snippets.read_documents(origin, name=config.name, dropped=dropped)
    return islice(documents, config.max_documents)


def _open_hub(config: SourceConfig, opening: Opening) -> Source:
    line = Line(str(config.hub_id), opening.news, opening.patience)
    version = f"{config.hub_id}@{resolve_revision(HubPart.of(config), line)}"
    if opening.begun not in (None, version):
        opening.news(f"{config.name}: goes on with {opening.begun}; the newest is {version}")
        version = str(opening.begun)
    dropped = Counter[str]()
    revision = version.removeprefix(f"{config.hub_id}@")
    reader = HubReader(config, revision=revision, line=line, dropped=dropped)
    return Source(
        name=config.name,
        domain=config.domain,
        licence=config.licence or HUB_LICENCE,
        attribution=config.attribution,
        version=version,
        documents=reader.documents,
        dropped=dropped,
        bookmark=Bookmark(reader_version(), mark=reader.mark, resume=reader.resume),
        most=config.max_documents,
    )


def _embedded_sources() -> dict[str, _Embedded]:
    gym = partial(_generated_version, reasoning.PACKAGE, reasoning.LICENCE)
    texts = {
        module.NAME: _Embedded(
            module.DOMAIN,
            module.LICENCE,
            module.ATTRIBUTION,
            partial(package_version, module.PACKAGE, licence=module.LICENCE),
            module.read_documents,
        )
        for module in (wikipedia, factbook)
    }
    generated = {
        name: _Embedded(domain, reasoning.LICENCE, attribution, gym, read, count)
        for name, domain, attribution, read, count in (
            (
                reasoning.NAME,
                reasoning.DOMAIN,
                reasoning.ATTRIBUTION,
                reasoning.read_documents,
                reasoning.DEFAULT_DOCUMENTS,
            ),
            (
                mathematics.GSM_NAME,
                mathematics.DOMAIN,
                mathematics.GSM_ATTRIBUTION,
                mathematics.read_gsm_symbolic,
                mathematics.DEFAULT_DOCUMENTS,
            ),
            (
                mathematics.ARITHMETIC_NAME,
                mathematics.DOMAIN,
                mathematics.ARITHMETIC_ATTRIBUTION,
                mathematics.read_arithmetic,
                mathematics.DEFAULT_DOCUMENTS,
            ),
        )
    }
    library = {
        module.NAME: _Embedded(
            module.DOMAIN,
            module.LICENCE,
            module.ATTRIBUTION,
            code.library_version,
            module.read_documents,
        )
        for module in (code, api_pages)
    }
    return {**texts, **generated, **library}


def _generated_version(package: str, licence: str) -> str:
    return f"{package_version(package, licence=licence)}, Python {platform.python_version()}"


def _read_fixed(
    read: Callable[..., Iterator[Document]],
    *,
    seed: int,
    max_documents: int | None,
    dropped: Counter[str],
) -> Iterator[Document]:
    yield from islice(in_hash_order(read(dropped=dropped), seed=seed), max_documents)


def _restart(read: Callable[[], Iterator[Document]], dropped: Counter[str]) -> Iterator[Document]:
    dropped.clear()
    return read()
