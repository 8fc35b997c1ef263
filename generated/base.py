# Written by codegen.py; change openapi/ instead.
"""What every wire type starts from."""

from pydantic import BaseModel, ConfigDict


class ApiModel(BaseModel):
    """Validates as JSON Schema does: text is never read as a number or a truth value, unknown keys are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False, protected_namespaces=())
