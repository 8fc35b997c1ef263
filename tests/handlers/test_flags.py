"""Objects in flags: whole as JSON, or key by key with dots."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specserve.handlers.command_line import read_settings
from specserve.handlers.flag_parser import with_whole_objects
from specserve.handlers.flags import UsageError

FLAG = "--override-generation-config"


def overrides(*argv: str) -> Any:
    return read_settings(argv, {}).override_generation_config


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([f"{FLAG}.temperature", "0.5"], {"temperature": 0.5}),
        (["--override_generation_config.max_new_tokens=4k"], {"max_new_tokens": 4000}),
        ([f"{FLAG}.top_k", "7", f"{FLAG}.do_sample=true"], {"top_k": 7, "do_sample": True}),
        ([f"{FLAG}.eos_token_id+", "7", f"{FLAG}.eos_token_id+=8,9"], {"eos_token_id": [7, 8, 9]}),
        ([FLAG, '{"top_k": 5, "min_p": 0.1}', f"{FLAG}.top_k", "7"], {"top_k": 7, "min_p": 0.1}),
        ([f"{FLAG}.temperature", "null"], {"temperature": None}),
    ],
)
def test_keys_of_an_object_can_be_given_with_dots(argv: list[str], expected: dict[str, Any]) -> None:
    assert overrides(*argv) == expected


def test_dotted_keys_are_checked_as_those_of_the_whole() -> None:
    with pytest.raises(UsageError, match="unknown key temprature"):
        overrides(f"{FLAG}.temprature", "0.5")
    with pytest.raises(UsageError, match="has a value already"):
        overrides(f"{FLAG}.a", "1", f"{FLAG}.a.b", "2")


def test_dots_elsewhere_stay_as_they_are() -> None:
    settings = read_settings(["org/model.v1", "--host", "0.0.0.0", "--served-model-name", "a.b"], {})
    assert (settings.model, settings.host, settings.served_model_name) == ("org/model.v1", "0.0.0.0", ("a.b",))
    with pytest.raises(UsageError, match=r"there is no flag --port\.x"):
        read_settings(["--port.x", "1"], {})


KEYS = st.text("abcdefgh_", min_size=1, max_size=6)
SCALARS = st.one_of(st.integers(-99, 99), st.booleans(), st.none(), st.floats(-9, 9), st.text("xyz ", max_size=5))


@given(value=st.recursive(SCALARS, lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3), max_leaves=6))
def test_any_object_comes_back_from_its_dotted_form(value: Any) -> None:
    def dotted(prefix: str, part: Any) -> list[str]:
        if isinstance(part, dict):
            return [word for key, inner in part.items() for word in dotted(f"{prefix}.{key}", inner)]
        return [prefix, json.dumps(part)]

    whole = {"k": value}
    flag, text = with_whole_objects(dotted("--x", whole), ["--x"])
    assert (flag, json.loads(text)) == ("--x", whole)
