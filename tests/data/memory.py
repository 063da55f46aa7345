"""A source that lives in memory, and a prepared folder made from such sources."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from yxanul.config.schema import StageConfig
from yxanul.config.treatment import TreatmentConfig
from yxanul.data.document import Document
from yxanul.data.places.hashed import HASHED_NAME
from yxanul.data.prepared.manifest import Manifest, ShardFile
from yxanul.data.prepared.shards import ShardWriter, Tokens
from yxanul.data.preparing.build import prepare_sources
from yxanul.data.preparing.pipeline import Effort, PlannedSource
from yxanul.data.treating.treatment import Treatment, plain_recipe


@dataclass
class MemorySource:
    """Texts written for the tests; `keys` are their split keys, if they have any."""

    name: str
    texts: Sequence[str]
    keys: Sequence[str | None] | None = None
    domain: str = "tests"
    licence: str | None = "CC0-1.0"
    attribution: str | None = "the tests"
    version: str = "tests 1"
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def documents(self) -> Callable[[], Iterator[Document]]:
        return self._documents

    def _documents(self) -> Iterator[Document]:
        for number, text in enumerate(self.texts):
            key = self.keys[number] if self.keys else None
            yield Document(text, self.name, f"{self.name}-{number}", f"memory:{number}", key)


def sentences(count: int, *, about: str = "stone") -> list[str]:
    """Return different short texts, of 5 to 40 words."""
    return [
        f"Number {n} of the {about}s: " + " ".join(f"{about}{i}" for i in range(n % 36 + 1))
        for n in range(count)
    ]


def write_shards(
    folder: Path, split: str, *, parts: Sequence[Tokens], shard_tokens: int = 1000
) -> tuple[ShardFile, ...]:
    """Write token arrays one after another as the shards of one split."""
    with ShardWriter(folder, split, shard_tokens=shard_tokens) as writer:
        for part in parts:
            writer.append(part)
        return writer.finish()


def plan(
    source: MemorySource,
    *,
    stage: str = "stage1_tests",
    fraction: float = 0.2,
    min_tokens: int | None = None,
    **treatment: Any,
) -> PlannedSource:
    """Return the plan of a source, as `prepare` would make it, with these keys of its treatment."""
    return PlannedSource(
        name=source.name,
        stage=stage,
        kind="embedded",
        validation_fraction=fraction,
        open=partial(_opened, source),
        recipe=lambda: plain_recipe(Treatment(TreatmentConfig(**treatment), min_tokens=min_tokens)),
    )


def _opened(source: MemorySource) -> MemorySource:
    return source


def prepare_plans(
    out: Path,
    *,
    plans: Sequence[PlannedSource],
    settings: str = "0" * 64,
    shard_tokens: int = 500,
) -> Manifest:
    """Prepare plans in small shards, without a word; all stages have the hash `settings`."""
    return prepare_sources(
        plans,
        out,
        settings={plan.stage: settings for plan in plans},
        progress=lambda line: None,
        effort=Effort(shard_tokens=shard_tokens),
    )


def prepare_texts(out: Path, **sources: Sequence[str]) -> Manifest:
    """Prepare `name=texts` as the sources of one stage."""
    plans = [plan(MemorySource(name, texts)) for name, texts in sources.items()]
    return prepare_plans(out, plans=plans)


def all_bytes(root: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder, but for when its texts were hashed."""
    files = (p for p in root.rglob("*") if p.is_file() and p.name != HASHED_NAME)
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


def stage(name: str, **data: Any) -> StageConfig:
    """Return a stage with these keys in its data section."""
    return StageConfig.model_validate(
        {
            "name": name,
            "training": {
                "total_tokens": 4096,
                "batch_tokens": 1024,
                "learning_rate": 1e-3,
                "seq_len_curriculum": [{"from_fraction": 0.0, "seq_len": 64}],
            },
            "data": {"validation_fraction": 0.2, **data},
        }
    )


def source(name: str, **settings: Any) -> dict[str, Any]:
    """Return the settings of one source."""
    return {"name": name, "domain": "math", "weight": 1.0, **settings}
