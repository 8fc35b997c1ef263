"""Prompts that come as embeddings: a safetensors file with one tensor, a row for each token. Imports no torch.

The API process checks a file completely; the engine process then reads rows of it without copying the rest.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from safetensors import SafetensorError, deserialize

from specserve.engine.api import NO_TOKEN, GenerationRequest, ModelInfo
from specserve.engine.errors import InvalidParameterError, UnsupportedFeatureError

BYTES_PER_VALUE = {"F16": 2, "BF16": 2, "F32": 4}
EXPONENT_BITS = {"F16": 0x7C00, "BF16": 0x7F80, "F32": 0x7F800000}
"""All of them set: infinity or not a number."""
HEADER_LENGTH_BYTES = 8
ZIP_MAGIC = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tensor [num_tokens, hidden_size] of a file lies. `dtype` is one of BYTES_PER_VALUE."""

    dtype: str
    num_tokens: int
    hidden_size: int
    offset: int

    @property
    def row_bytes(self) -> int:
        return self.hidden_size * BYTES_PER_VALUE[self.dtype]


def decode_prompt_embeds(encoded: str, model: ModelInfo, *, param: str = "prompt_embeds") -> bytes:
    """The checked file, for `GenerationRequest.prompt_embeds`, from its base64 form. Takes milliseconds per megabyte.

    Raises UnsupportedFeatureError when the server takes none, InvalidParameterError when the file is not one float16,
    bfloat16 or float32 tensor of the model's width, or holds values that are not finite.
    """
    if not model.accepts_prompt_embeds:
        raise UnsupportedFeatureError(
            f"{param} needs a server that was started with --enable-prompt-embeds; send a prompt of text or token ids",
            param=param,
        )
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidParameterError(f"{param} is not base64: {str(error)[:200]}", param=param) from error
    if data[:4] == ZIP_MAGIC:
        raise InvalidParameterError(
            f"{param} looks like a file of torch.save, which is not read because such files can run code; "
            "send what safetensors.torch.save writes",
            param=param,
        )
    check_file(data, model.hidden_size, param=param)
    return data


def check_file(data: bytes, hidden_size: int, *, param: str = "prompt_embeds") -> None:
    """Raises InvalidParameterError as `decode_prompt_embeds` does."""

    def fault(what: str) -> InvalidParameterError:
        advice = f"send a safetensors file with one tensor [tokens, {hidden_size}]"
        return InvalidParameterError(f"{param} {what}; {advice}", param=param)

    try:
        tensors = deserialize(data)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise fault(f"is no safetensors file ({str(error)[:200]})") from error
    if len(tensors) != 1:
        raise fault(f"holds {len(tensors)} tensors")
    _, tensor = tensors[0]
    dtype, shape = tensor["dtype"], tensor["shape"]
    if dtype not in BYTES_PER_VALUE:
        raise fault(f"is of type {dtype}, which is none of {', '.join(BYTES_PER_VALUE)}")
    if len(shape) != 2 or shape[1] != hidden_size or shape[0] < 1:
        raise fault(f"has the shape {list(shape)[:8]}")
    exponent = EXPONENT_BITS[dtype]
    values = np.frombuffer(tensor["data"], dtype=f"<u{BYTES_PER_VALUE[dtype]}")
    if bool(((values & exponent) == exponent).any()):
        raise fault("holds values that are not finite")


def layout(data: bytes) -> Layout:
    """Of a file that `check_file` has accepted."""
    length = int.from_bytes(data[:HEADER_LENGTH_BYTES], "little")
    begin = HEADER_LENGTH_BYTES + length
    header = json.loads(data[HEADER_LENGTH_BYTES:begin])
    (tensor,) = (entry for name, entry in header.items() if name != "__metadata__")
    num_tokens, hidden_size = tensor["shape"]
    return Layout(tensor["dtype"], num_tokens, hidden_size, begin + tensor["data_offsets"][0])


def placeholder_ids(data: bytes) -> list[int]:
    """`prompt_token_ids` beside a checked file: they count its rows."""
    return [NO_TOKEN] * layout(data).num_tokens


def without_repetition(requests: Sequence[GenerationRequest]) -> list[GenerationRequest]:
    """The same requests for the channel: one that follows with the very same file has it empty."""
    sent: list[GenerationRequest] = []
    last: bytes | None = None
    for request in requests:
        repeats = request.prompt_embeds is not None and request.prompt_embeds is last
        sent.append(replace(request, prompt_embeds=b"") if repeats else request)
        last = request.prompt_embeds
    return sent


def with_repetition(requests: Sequence[GenerationRequest]) -> list[GenerationRequest]:
    """Undoes `without_repetition`."""
    received: list[GenerationRequest] = []
    for request in requests:
        if request.prompt_embeds == b"" and received:
            request = replace(request, prompt_embeds=received[-1].prompt_embeds)
        received.append(request)
    return received
