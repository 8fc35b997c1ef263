# Written by codegen.py; change openapi/ instead.
"""What every wire type starts from."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

M = TypeVar("M", bound=BaseModel, covariant=True)


class ApiModel(BaseModel):
    """Validates as JSON Schema does: text is never read as a number or a truth value, unknown keys are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False, protected_namespaces=())


@dataclass(frozen=True, slots=True)
class Serialised(Generic[M]):
    """A wire type that is JSON already: the way for events that come by the thousand. `event` is the name of one."""

    json: bytes
    event: str = ""
