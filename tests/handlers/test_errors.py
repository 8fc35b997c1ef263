"""What a client is told of an error: little enough to fit, and nothing of the machine it happened on."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specserve.engine import errors as engine_errors
from specserve.generated.errors import ERRORS, TYPES, ApiError
from specserve.handlers.envelopes import FORMS, MAX_ERROR_BYTES, MESSAGES, error_bytes
from specserve.handlers.errors import ENGINE_ERRORS, cleaned, to_api_error


@given(st.text(max_size=30), st.integers(1, 3000), st.sampled_from(["\x00", "é", "🙂", '"', "\\", "\u2028"]))
def test_an_envelope_is_small_whatever_is_quoted(text: str, times: int, filler: str) -> None:
    error = ERRORS["invalid_value"]((text + filler) * times, param=(filler + text) * times)
    raw = error_bytes(error)
    assert len(raw) <= MAX_ERROR_BYTES < 8192
    told = json.loads(raw)["error"]
    assert (told["code"], told["type"]) == ("invalid_value", "invalid_request_error")
    assert error.message.startswith(told["message"].removesuffix("…"))


@pytest.mark.parametrize("envelope", FORMS)
def test_every_envelope_is_small(envelope: str) -> None:
    error = ERRORS["invalid_value"]("\x00" * 3000, param="\x00" * 3000)
    assert len(error_bytes(error, envelope=envelope, request_id="r" * 128)) <= MAX_ERROR_BYTES


@pytest.mark.parametrize("code", ERRORS)
def test_the_messages_envelope_knows_every_error(code: str) -> None:
    error = ERRORS[code]("no", param="model")
    told = json.loads(error_bytes(error, envelope=MESSAGES, request_id="r-1"))
    assert (told["type"], told["request_id"], told["error"]["message"]) == ("error", "r-1", "no")
    assert (told["error"]["code"], told["error"]["param"]) == (code, "model")
    assert told["error"]["type"] in TYPES[MESSAGES].values()


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("no file /home/ann/models/x/config.json here", "no file … here"),
        ("see ~/models/tiny/, please", "see …, please"),
        ("<object at 0x7f3a5c0de1> broke", "<object at …> broke"),
        ("got <class 'int'>", "got …"),
        ("POST /v1 takes 1/2 or http://a/b/c", "POST /v1 takes 1/2 or http://a/b/c"),
        ("prompt has 9000 tokens, the limit is 8192", "prompt has 9000 tokens, the limit is 8192"),
    ],
)
def test_paths_addresses_and_types_are_left_out(told: str, shown: str) -> None:
    assert cleaned(told) == shown


def subclasses(kind: type[Exception]) -> list[type[Exception]]:
    return [kind, *(found for child in kind.__subclasses__() for found in subclasses(child))]


@pytest.mark.parametrize("kind", subclasses(engine_errors.RequestError))
def test_every_refusal_of_the_engine_is_the_callers_to_mend(kind: type[Exception]) -> None:
    error = kind(300, 200, param="prompt") if "Long" in kind.__name__ else kind("no", param="prompt")  # type: ignore[call-arg]
    refusal = to_api_error(error, request_id="r")
    assert refusal.status in (400, 404)
    assert refusal.param == "prompt"
    assert not refusal.retryable


@pytest.mark.parametrize("known", ENGINE_ERRORS.values())
def test_what_can_be_tried_again_says_when(known: type[ApiError]) -> None:
    engine_error = next(kind for kind, api_error in ENGINE_ERRORS.items() if api_error is known)
    error = engine_error(300, 200) if "Long" in engine_error.__name__ else engine_error("full")  # type: ignore[call-arg, arg-type]
    assert ("Retry-After" in to_api_error(error, request_id="r").headers) == known.retryable
