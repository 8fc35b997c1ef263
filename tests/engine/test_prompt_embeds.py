"""Files of embeddings are checked completely before the engine hears of them."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from test_request_check import MODEL, request

from specserve.engine.api import NO_TOKEN
from specserve.engine.errors import InvalidParameterError, UnsupportedFeatureError
from specserve.engine.prompt_embeds import (
    check_file,
    decode_prompt_embeds,
    layout,
    placeholder_ids,
    with_repetition,
    without_repetition,
)
from specserve.engine.runner.embeddings import given_rows

WIDTH = MODEL.hidden_size
GOOD = save({"prompt": torch.ones(5, WIDTH)})


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def file_of(header: object, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def with_value(value: float, dtype: torch.dtype) -> bytes:
    rows = torch.ones(3, WIDTH, dtype=dtype)
    rows[2, 1] = value
    return save({"a": rows})


def saved_by_torch(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


@given(
    num_tokens=st.integers(1, 40),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32]),
    name=st.text(max_size=12).filter(lambda name: name != "__metadata__"),
    metadata=st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    data=st.data(),
)
def test_rows_of_any_accepted_file_are_those_that_safetensors_reads(
    num_tokens: int, dtype: torch.dtype, name: str, metadata: dict[str, str] | None, data: st.DataObject
) -> None:
    file = save({name: torch.randn(num_tokens, WIDTH).to(dtype)}, metadata)
    assert decode_prompt_embeds(encoded(file), MODEL) == file
    assert placeholder_ids(file) == [NO_TOKEN] * num_tokens
    assert (layout(file).num_tokens, layout(file).hidden_size) == (num_tokens, WIDTH)
    start = data.draw(st.integers(0, num_tokens - 1))
    stop = data.draw(st.integers(start + 1, num_tokens))
    assert torch.equal(given_rows(file, start, stop), load(file)[name][start:stop])


@pytest.mark.parametrize(
    ("file", "what"),
    [
        (b"", "no safetensors file"),
        (b"\xff" * 40, "no safetensors file"),
        (GOOD[:-1], "no safetensors file"),
        (GOOD + b"0", "no safetensors file"),
        (file_of([], b""), "no safetensors file"),
        (
            file_of({"a": {"dtype": "F32", "shape": [1, WIDTH], "data_offsets": [0, 4]}}, b"0" * 4),
            "no safetensors file",
        ),
        ((1 << 60).to_bytes(8, "little") + b"{}", "no safetensors file"),
        (saved_by_torch(torch.ones(5, WIDTH)), "torch.save, which is not read"),
        (file_of({}, b""), "0 tensors"),
        (save({"a": torch.ones(2, WIDTH), "b": torch.ones(2, WIDTH)}), "2 tensors"),
        (save({"a": torch.ones(2, WIDTH, dtype=torch.int64)}), "type I64"),
        (save({"a": torch.ones(2, WIDTH, dtype=torch.float64)}), "type F64"),
        (save({"a": torch.ones(WIDTH)}), "shape"),
        (save({"a": torch.ones(1, 2, WIDTH)}), "shape"),
        (save({"a": torch.ones(2, WIDTH + 1)}), "shape"),
        (save({"a": torch.ones(0, WIDTH)}), "shape"),
        (with_value(float("nan"), torch.float32), "not finite"),
        (with_value(float("-inf"), torch.float16), "not finite"),
        (with_value(float("inf"), torch.bfloat16), "not finite"),
        (with_value(float("-nan"), torch.bfloat16), "not finite"),
    ],
)
def test_other_files_are_refused_with_what_is_wrong(file: bytes, what: str) -> None:
    with pytest.raises(InvalidParameterError, match=what) as caught:
        decode_prompt_embeds(encoded(file), MODEL, param="prompt_embeds.0")
    assert caught.value.param == "prompt_embeds.0"
    assert len(caught.value.message) < 500


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    with pytest.raises(InvalidParameterError):
        check_file(data, WIDTH)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_damaged_file_is_refused_or_still_one_of_this_width(place: int, value: int) -> None:
    damaged = bytearray(GOOD)
    damaged[place] = value
    try:
        check_file(bytes(damaged), WIDTH)
    except InvalidParameterError:
        return
    assert layout(bytes(damaged)).hidden_size == WIDTH
    assert bool(np.isfinite(given_rows(bytes(damaged), 0, 5).float().numpy()).all())


@pytest.mark.parametrize("text", ["not base64!", "QUJD\n", "QUJ", "é"])
def test_what_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameterError, match=r"base64|safetensors"):
        decode_prompt_embeds(text, MODEL)


def test_a_server_that_takes_none_says_so() -> None:
    with pytest.raises(UnsupportedFeatureError, match="--enable-prompt-embeds") as caught:
        decode_prompt_embeds(encoded(GOOD), replace(MODEL, accepts_prompt_embeds=False))
    assert caught.value.param == "prompt_embeds"


def test_siblings_send_their_file_once() -> None:
    other = bytes(bytearray(GOOD))  # equal, but another object: nobody compares megabytes
    files = [GOOD, GOOD, None, GOOD, GOOD, other]
    requests = [replace(request(), request_id=f"r{at}", prompt_embeds=file) for at, file in enumerate(files)]
    sent = without_repetition(requests)
    assert [one.prompt_embeds for one in sent] == [GOOD, b"", None, GOOD, b"", other]
    assert with_repetition(sent) == requests
