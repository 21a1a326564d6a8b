"""Types of values that several configs have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Kind = Literal["constant", "linear", "geometric"]
Seed = Annotated[int, Field(ge=0)]
