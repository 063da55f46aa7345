"""One split of a data set of the hub: what is asked for, and what to do without it.

The one idea: documents to train on and items of benchmarks are read by the same code and fail in
the same sentences; only the way on differs.
"""

from __future__ import annotations

from dataclasses import dataclass

from yxanul.config.schema import SourceConfig
from yxanul.errors import ConfigError

TRAIN_WITHOUT = "--data embedded to train offline or --data DIR for a folder of your own"


@dataclass(frozen=True, slots=True)
class HubPart:
    """A split of a data set, as its reader names it."""

    name: str
    """What asks for it, in errors."""
    hub_id: str
    config: str | None
    split: str
    revision: str | None
    """A commit; None = the newest."""
    private: bool
    without: str
    """The flags that do without the hub: goes on a sentence that ends in "or use"."""
    is_resumed: bool = True
    """Whether a reading that broke off is gone on with at the next start."""

    @classmethod
    def of(cls, config: SourceConfig) -> HubPart:
        """Return the part that a training source names; without a hub_id it is a ConfigError."""
        if config.hub_id is None:
            raise ConfigError(
                f"Source {config.name} has no hub_id: a source of data.hub_sources must name its "
                "data set (owner/name)."
            )
        return cls(
            name=f"Source {config.name}",
            hub_id=config.hub_id,
            config=config.hub_config,
            split=config.hub_split,
            revision=config.hub_revision,
            private=config.private,
            without=TRAIN_WITHOUT,
        )
