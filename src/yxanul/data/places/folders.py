"""Where the data of a run's stages lies: texts in folders, a prepared folder, or an address.

The one idea: what cannot be read as it is asked for is refused before anything is opened, with what
to do instead.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path

from yxanul.config.schema import StageConfig
from yxanul.data.files import refuse_checkpoint
from yxanul.data.parts.files import Parts, holds_parts, is_of_parts, open_parts
from yxanul.data.prepared.manifest import MANIFEST_NAME, Manifest, SourceRecord
from yxanul.data.prepared.settings import LISTS, own_sources
from yxanul.data.prepared.workspace import MARKER_NAME
from yxanul.data.sources.snippets.origin import PACKAGE
from yxanul.data.walk import unreadable
from yxanul.errors import BrokenDiskError, CorruptDataError, UsageError, YxanulError
from yxanul.runfolder.durable import reading
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.storage import is_address


def shared_address(stages: Sequence[StageConfig]) -> str | None:
    """Return the address that all stages read, None if they read nothing from an address.

    Raises `UsageError` if only some do.
    """
    chosen = {stage.data.source for stage in stages}
    addresses = sorted(filter(is_address, chosen))
    if addresses and len(chosen) > 1:
        raise UsageError(
            f"data.source is {addresses[0]} for some stages only; an address holds the data of all "
            "stages: give it with --data"
        )
    return addresses[0] if addresses else None


def stage_parts(stage: StageConfig) -> Parts | None:
    """Return the texts that the tasks of a cluster treated for a stage; None = plain ones.

    Plain texts at an address are a `UsageError`, and so are parts of another stage, or that are not
    all there.
    """
    if is_address(stage.data.source):
        address = stage.data.source.rstrip("/")
        parts = open_parts(f"{address}/{stage.name}") or open_parts(address)
        if parts is None:
            raise UsageError(
                f"{stage.data.source} holds neither a prepared folder nor texts that the tasks of "
                f"a cluster treated for {stage.name}; other texts are read from a folder of this "
                "machine"
            )
    else:
        parts = open_parts(str(stage_folder(stage)))
    if parts is not None and parts.provenance.stage != stage.name:
        raise UsageError(
            f"{parts.place} holds texts that were treated for {parts.provenance.stage}, and none "
            f"for {stage.name}; a run of several stages reads a subfolder each, named like the "
            "stage"
        )
    return parts


def tell_unjoined(stage: StageConfig, parts: Parts, *, say: Callable[[str], None]) -> None:
    """Say which sources of a stage are not among the parts that it is made of."""
    joined = parts.provenance.source
    for key in LISTS.values():
        names = [source.name for source in getattr(stage.data, key)]
        if joined in names and len(names) > 1:
            others = ", ".join(name for name in names if name != joined)
            say(f"{stage.name} is made of {joined} alone: {parts.place} has no texts of {others}")


def stage_folder(stage: StageConfig) -> Path:
    """Return the folder of texts that a stage reads: the subfolder of its name, if there is one.

    Raises `CorruptDataError` where nobody may look for that.
    """
    folder = Path(stage.data.source)
    own = folder / stage.name
    try:
        return own if own.is_dir() else folder
    except OSError as error:
        raise unreadable(folder, error) from error


def has_parts(stage: StageConfig) -> bool:
    """Tell whether tasks of a cluster treated the stage's texts, by a recipe of their own.

    So do parts that cannot be opened: whoever reads them says why.
    """
    try:
        return stage_parts(stage) is not None
    except (YxanulError, OSError):
        return True


def folders_behind(
    stages: Sequence[StageConfig], held: Manifest
) -> Iterator[tuple[Path, SourceRecord]]:
    """Yield the folders of texts and documentation that `held` was made of, as stages name them."""
    for stage in stages:
        own = held.sources_of(stage.name)
        texts = own.get(stage.name)
        if texts is not None and texts.kind == "folder" and not is_address(stage.data.source):
            folder = stage_folder(stage)
            chosen = Path(stage.data.source)
            if folder != chosen or not _is_own_gone(chosen, stages, texts=texts):
                yield folder, texts
        for source in own_sources(stage):
            place = source.documentation
            if place is None or place.startswith(PACKAGE) or source.name not in own:
                continue
            if own[source.name].settings.get("documentation") == place:
                yield Path(place), own[source.name]


def check_folders(stages: Sequence[StageConfig], *, held: Container[str]) -> None:
    """Refuse a folder that is absent, prepared, being prepared, a checkpoint or read twice.

    A stage of `held` is prepared, and needs its folder no more. Raises `UsageError`, and
    `CorruptDataError` for a folder that may not be read.
    """
    reader: dict[Path, str] = {}
    for stage in stages:
        if stage.data.source in LISTS or is_address(stage.data.source):
            continue
        try:
            folder = _checked_folder(stage, stages, held=held)
        except (OSError, CorruptDataError, BrokenDiskError) as error:
            if stage.name in held:
                continue  # whoever compares its texts with what is prepared tells it
            if isinstance(error, PermissionError):
                raise unreadable(Path(stage.data.source), error) from error
            raise
        if folder is None:
            continue
        if folder in reader:
            raise UsageError(
                f"The stages {reader[folder]} and {stage.name} would both read {folder}; give each "
                "a folder of its own."
            )
        reader[folder] = stage.name


def _checked_folder(
    stage: StageConfig, stages: Sequence[StageConfig], *, held: Container[str]
) -> Path | None:
    """Return the folder that a stage reads; None: it is prepared, and that is gone."""
    chosen = Path(stage.data.source)
    if not chosen.exists():
        if stage.name in held:
            return None
        several = ", with a subfolder per stage, named like it" if len(stages) > 1 else ""
        raise UsageError(
            f"The data folder {chosen} does not exist: give --data an existing folder{several}."
        )
    if not chosen.is_dir():
        raise UsageError(f"--data {chosen} is a file; name the folder that it lies in")
    for folder in (chosen, chosen / stage.name):
        refuse_checkpoint(folder)
        _refuse_prepared(folder)
    _refuse_missing_subfolders(chosen, _sharing(stages, chosen), held=held)
    folder = stage_folder(stage).absolute()
    is_gone = stage.name in held and folder == chosen.absolute()
    return None if is_gone else folder


def _is_own_gone(chosen: Path, stages: Sequence[StageConfig], *, texts: SourceRecord) -> bool:
    """Tell whether a stage's texts lay in a subfolder of `chosen` that is there no more.

    Of parts that may be gone what else lies beside them says nothing.
    """
    if len(_sharing(stages, chosen)) > 1:
        return True
    return is_of_parts(texts) and holds_parts(chosen, texts.version) is None


def _sharing(stages: Sequence[StageConfig], chosen: Path) -> list[StageConfig]:
    """Return the stages that are given one folder; several have a subfolder of it each."""
    return [stage for stage in stages if Path(stage.data.source) == chosen]


def _refuse_prepared(folder: Path) -> None:
    if (folder / MANIFEST_NAME).is_file():
        raise UsageError(
            f"{folder} is prepared already (it has a {MANIFEST_NAME}), so it is no folder of "
            "texts: use it as it is, name the folder of texts, or, where `prepare` did not write "
            "that file, move it away."
        )
    if (folder / MARKER_NAME).is_file():
        raise UsageError(
            f"{folder} is being prepared, or its preparation was cut short (it has a "
            f"{MARKER_NAME}), so it is no folder of texts: let the command that prepares it end, "
            "or start it again, and use what it makes."
        )


def refuse_out_inside(stages: Sequence[StageConfig], out: Path) -> None:
    """Refuse to write below a folder of texts, where what is written would be read."""
    for stage in stages:
        if stage.data.source in LISTS or is_address(stage.data.source):
            continue
        folder, target = stage_folder(stage).resolve(), out.resolve()
        if not target.is_relative_to(folder):
            continue
        # Of parts nothing below their folder is read, but what is called like the stage.
        beside = target != folder and not target.is_relative_to(folder / stage.name)
        if beside and has_parts(stage):
            continue
        if not any(part.startswith(".") for part in target.relative_to(folder).parts):
            raise UsageError(
                f"{out}, where the data is to be written, lies in {folder}, whose files are read "
                f"for {stage.name}: choose a place outside it with --out."
            )


def _refuse_missing_subfolders(
    chosen: Path, stages: Sequence[StageConfig], *, held: Container[str]
) -> None:
    """Stages that are given one folder have a subfolder each, but for those that are prepared."""
    needed = [stage.name for stage in stages if stage.name not in held]
    absent = [name for name in needed if not (chosen / name).is_dir()]
    if len(stages) > 1 and absent:
        raise UsageError(
            f"--data {chosen} has no subfolder for {', '.join(absent)}; a run of several stages "
            "reads one each, named like the stage"
        )


def prepared_folder(source: str, *, run: RunFolder | None = None) -> Path | None:
    """Return the prepared folder that a stage's data.source names; None = it names none.

    `hub` and `embedded` are no folders, whatever lies in one of that name. Nor is one that may not
    be read, and whoever reads its texts tells that; but where the `run` was begun with what is
    prepared there it is a `CorruptDataError`, or a `BrokenDiskError` where its disk fails.
    """
    folder = Path(source)
    try:
        is_folder = source not in LISTS and (folder / MANIFEST_NAME).is_file()
    except OSError as error:
        if run is None or not run.data_pointer.exists() or run.prepared_data() != folder.resolve():
            return None
        with reading(folder):  # which tells a disk that fails
            if not isinstance(error, PermissionError):
                raise
        raise CorruptDataError(
            f"The run's prepared data in {folder} cannot be read ({error.strerror or error}): "
            "give this user the right to read it."
        ) from error
    return folder if is_folder else None
