"""`--pooler-config`: the JSON that other servers know, as the engine's PoolerConfig."""

from __future__ import annotations

import json
from typing import Any

from specserve.engine.config import PoolerConfig
from specserve.engine.errors import InvalidParameterError

OLDER_NAMES = {
    "seq_pooling_type": "pooling_type",
    "tok_pooling_type": "pooling_type",
    "normalize": "use_activation",
    "softmax": "use_activation",
    "activation": "use_activation",
}
FIELDS = tuple(PoolerConfig.__slots__)
KINDS: dict[str, type] = {"pooling_type": str, "use_activation": bool, "dimensions": int, "step_tag_id": int}


def pooler_config(text: str) -> PoolerConfig:
    """Raises ValueError with a rule for anything else than a JSON object of FIELDS."""
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise ValueError('must be a JSON object such as {"pooling_type": "mean"}')
    values: dict[str, Any] = {}
    for key, value in given.items():
        name = OLDER_NAMES.get(key, key)
        if name not in FIELDS:
            raise ValueError(f"must have no other keys than {', '.join(FIELDS)}; {key!r} is none of them")
        values[name] = _checked(name, value)
    try:
        return PoolerConfig(**values)
    except InvalidParameterError as error:
        raise ValueError(f"must be valid: {error.message}") from None


def _checked(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name == "returned_token_ids":
        if not isinstance(value, list) or not all(type(one) is int and one >= 0 for one in value):
            raise ValueError("must have a list of token ids in returned_token_ids")
        return tuple(value)
    if type(value) is not KINDS[name]:
        raise ValueError(f"must have a {KINDS[name].__name__} in {name}")
    return str(value).lower() if name == "pooling_type" else value
