"""What all tables of a study file are."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Length = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A table of the study file; a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
