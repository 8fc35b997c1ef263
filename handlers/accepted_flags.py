"""Flags of other servers that are accepted without effect, each with a line that says why, and older names of flags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from specserve.handlers.flags import Flag, switch

GROUP = "Accepted without effect"


@dataclass(frozen=True, slots=True)
class AcceptedFlag:
    """A flag that changes nothing: what it asks for is so anyway, or there is nothing here that it could change."""

    flag: Flag
    why: str

    def notice(self) -> str:
        return f"{self.flag.spelling} has no effect: {self.why}"


def only(*values: str, reason: str) -> Callable[[str], str]:
    """Takes the values that come to the same; any other would be a promise."""

    def parse(text: str) -> str:
        if text.lower() not in values:
            raise ValueError(f"must be {' or '.join(values)}: {reason}")
        return text.lower()

    return parse


def accepted(
    name: str, why: str, parse: Callable[[str], Any] = switch, metavar: str = "VALUE", short: str | None = None
) -> AcceptedFlag:
    return AcceptedFlag(Flag(name=name, group=GROUP, help=why, parse=parse, metavar=metavar, short=short), why)


ONE_DEVICE = "one process computes on one device"
ACCEPTED = (
    accepted("enable_request_id_headers", "every answer has the header X-Request-Id"),
    accepted("enable_prompt_tokens_details", "usage always says how much of the prompt was cached"),
    accepted("disable_log_requests", "requests are never logged with their content"),
    accepted("disable_log_stats", "no statistics are logged"),
    accepted("guided_decoding_backend", "the server chooses how it constrains the output", str, "NAME"),
    accepted("swap_space", "an interrupted sequence is computed again, not swapped out", str, "SIZE"),
    accepted("enable_chunked_prefill", "long prompts are always computed in pieces"),
    accepted(
        "logprobs_mode",
        "log probabilities are those of the model, before penalties and temperature",
        only("raw_logprobs", reason="log probabilities are those of the model, before penalties and temperature"),
        "MODE",
    ),
    accepted(
        "tokenizer_mode",
        "there is one form of tokenizer, that of the model's own files",
        only("auto", "hf", "fast", reason="there is one form of tokenizer, that of the model's own files"),
        "MODE",
    ),
    accepted(
        "load_format",
        "weights are read from safetensors",
        only("auto", "safetensors", reason="weights are read from safetensors"),
        "FORMAT",
    ),
    accepted("tensor_parallel_size", ONE_DEVICE, only("1", reason=ONE_DEVICE), "N", "-tp"),
    accepted("pipeline_parallel_size", ONE_DEVICE, only("1", reason=ONE_DEVICE), "N", "-pp"),
    accepted("data_parallel_size", ONE_DEVICE, only("1", reason=ONE_DEVICE), "N", "-dp"),
)
ACCEPTED_FLAGS = tuple(each.flag for each in ACCEPTED)


def take_notices(given: dict[str, Any]) -> tuple[str, ...]:
    """One line for each flag without effect, which is removed from `given`."""
    return tuple(each.notice() for each in ACCEPTED if given.pop(each.flag.name, None) is not None)
