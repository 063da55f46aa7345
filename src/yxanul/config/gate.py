"""What a stage must reach before the next one starts, and what happens when it does not.

The one idea: thresholds are settings, hashed before the stage begins and never changed afterwards.
How they are compared with scores lives in `yxanul.curriculum`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from yxanul.config.base import PositiveFloat, Section, refuse


class RollbackConfig(Section):
    """What a new attempt at a stage changes, and how many there may be."""

    max_rollbacks: int = Field(
        default=2, ge=0, le=20, description="New attempts at this stage before the gate says stop."
    )
    replay_factor: float = Field(
        default=2.0, ge=1, description="data.replay_share is multiplied by this at each rollback."
    )
    min_replay_share: float = Field(
        default=0.2,
        ge=0,
        le=0.5,
        description="Replay share that a rolled-back stage has at least (the first stage has "
        "nothing to replay); 0.5 is the most.",
    )
    rate_factor: float = Field(
        default=0.7,
        gt=0,
        le=1,
        description="All peak learning rates of the stage are multiplied by this at each rollback.",
    )


class ExtensionConfig(Section):
    """How a stage that is still learning is lengthened."""

    max_extensions: int = Field(
        default=2, ge=0, le=20, description="Extensions of this stage before the gate says stop."
    )
    fraction: float = Field(
        default=0.1, gt=0, le=1, description="Share of the stage's tokens that an extension adds."
    )
    min_gain: float = Field(
        default=0.003,
        ge=0,
        description="G6: a stage still falls if its bits per byte are forecast to fall by this "
        "share with 10 % more tokens (0.003 = 0.3 %).",
    )
    when: Literal["falling", "short"] = Field(
        default="falling",
        description="falling = a stage that still falls is extended; short = only one that did not "
        "reach min_improvement as well.",
    )


class ForecastConfig(Section):
    """Bits per byte after D tokens: floor + scale / D ** power."""

    floor: float = Field(ge=0, description="Where the curve ends, in bits per byte.")
    scale: PositiveFloat = Field(description="Bits per byte above the floor after one token.")
    power: PositiveFloat = Field(description="How fast the rest falls (no unit).")
    clock: Literal["run", "stage"] = Field(
        default="run",
        description="stage = D counts from the stage's beginning, as in what `yxanul gate RUN "
        "--forecast` prints; run = from the run's, as in curves without this key, which are hardly "
        "more than straight lines in a late stage.",
    )


class LevelConfig(Section):
    """What an earlier run lets expect; `yxanul gate RUN --forecast` prints it."""

    forecast: dict[str, ForecastConfig] = Field(
        min_length=1, description="{domain: its curve}; a domain that is not here is not judged."
    )
    margin: float = Field(
        default=0.03, ge=0, description="G5: so far above the forecast is no reason to warn."
    )
    limit: float = Field(
        default=0.08, ge=0, description="G5: farther above the forecast the run stops."
    )

    @model_validator(mode="after")
    def _limit_follows_margin(self) -> LevelConfig:
        if self.limit < self.margin:
            refuse([f"limit ({self.limit}) is below margin ({self.margin}); raise it"])
        return self


class GateConfig(Section):
    """What a stage must reach before the next one starts."""

    min_improvement: float = Field(
        default=0.005,
        ge=0,
        lt=1,
        description="G2: relative fall of the own domains' bits per byte that the stage must reach "
        "(0.005 = 0.5 %).",
    )
    retention_margin: float = Field(
        default=0.01,
        ge=0,
        description="G3: an older domain whose bits per byte rose by less than this share, with "
        "95 % confidence, has been kept (0.01 = 1 %).",
    )
    retention_limit: float = Field(
        default=0.02,
        ge=0,
        description="G3: an older domain whose bits per byte rose by more than this share, with "
        "95 % confidence, has been forgotten: the stage is rolled back (0.02 = 2 %).",
    )
    training_noise: PositiveFloat | None = Field(
        default=None,
        description="Standard deviation, between seeds, of a domain's relative change of bits per "
        "byte over the stage (0.01 = 1 %); it widens every interval. null = not measured: how much "
        "the last five scores of a domain waver stands in for it.",
    )
    bad_steps_margin: float = Field(
        default=0.001,
        ge=0,
        lt=1,
        description="G1: share of the stage's steps with a spike, or that moved no weight, that is "
        "no reason to warn.",
    )
    bad_steps_limit: float = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="G1: a larger share of bad steps, three at least, rolls the stage back.",
    )
    level: LevelConfig | None = Field(
        default=None, description="G5: what the own domains should have reached; null = not judged."
    )
    extension: ExtensionConfig = Field(default=ExtensionConfig(), description="What `extend` does.")
    rollback: RollbackConfig = Field(default=RollbackConfig(), description="What `rollback` does.")

    @model_validator(mode="after")
    def _limits_follow_margins(self) -> GateConfig:
        refuse(
            [
                f"{name}_limit ({limit}) is below {name}_margin ({margin}); raise it"
                for name, margin, limit in (
                    ("retention", self.retention_margin, self.retention_limit),
                    ("bad_steps", self.bad_steps_margin, self.bad_steps_limit),
                )
                if limit < margin
            ]
        )
        return self
