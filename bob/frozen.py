"""The base of every record that is read from a file."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A record that rejects unknown keys and cannot be changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")
