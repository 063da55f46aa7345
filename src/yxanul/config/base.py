"""The manners that every block of settings shares: frozen, strict, no unknown key, no inf or nan.

It holds no setting of its own.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

LARGEST_INT = 10**15  # far over any token count, far under where floats lose whole numbers
PositiveInt = Annotated[int, Field(gt=0, le=LARGEST_INT)]
PositiveFloat = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A block of settings. Strict: the text "3" is not the number 3, and 1 is not true."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def refuse(problems: list[str]) -> None:
    """Raise ValueError with one line per problem, if there is any."""
    if problems:
        raise ValueError("\n".join(problems))
