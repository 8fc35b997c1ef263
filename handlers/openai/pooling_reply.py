"""Replies that are lists of numbers: as JSON, or as bytes with a header that says what they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import orjson

from specserve.generated.errors import UnsupportedValue
from specserve.handlers.context import RequestContext
from specserve.handlers.pooling.run import Numbers, PoolingRun
from specserve.handlers.pooling.vectors import VectorFormat, json_array

METADATA = "metadata"
MAX_METADATA_BYTES = 60_000
"""Longer lines of a header are refused by clients."""


async def listed(
    run: PoolingRun, arrays: Sequence[Numbers], entry: Callable[[int, object], Mapping[str, object]], form: VectorFormat
) -> bytes:
    """The whole reply as JSON. `entry` is what stands in the list for the value at an index."""
    data = await json_array((entry(at, form.value(one)), one.size) for at, one in enumerate(arrays))
    return orjson.dumps({**head(run), "data": data, "usage": usage(run)})


async def as_bytes(run: PoolingRun, arrays: Sequence[Numbers], form: VectorFormat, context: RequestContext) -> bytes:
    """All numbers one after the other. Raises UnsupportedValue when there is more to say than a header holds."""
    parts = [form.data(one) for one in arrays]
    if form.encoding == "bytes":
        places = list(places_of(arrays, parts, form))
        metadata = orjson.dumps({**head(run), "data": places, "usage": usage(run)})
        if len(metadata) > MAX_METADATA_BYTES:
            raise UnsupportedValue(
                f"the header that says where the numbers of {len(arrays)} inputs are would have {len(metadata)} bytes, "
                f"the limit is {MAX_METADATA_BYTES}; send fewer inputs at once, or encoding_format: bytes_only",
                param="encoding_format",
            )
        context.response_headers[METADATA] = metadata.decode("ascii")
    return b"".join(parts)


def head(run: PoolingRun) -> dict[str, object]:
    identity = run.identity
    return {"id": identity.id, "object": "list", "created": identity.created, "model": identity.model}


def usage(run: PoolingRun) -> dict[str, object]:
    return run.count.usage().model_dump(exclude_unset=True)


def places_of(arrays: Sequence[Numbers], parts: Sequence[bytes], form: VectorFormat) -> Iterator[dict[str, object]]:
    """Where each input's numbers are, in bytes."""
    start = 0
    for at, (array, part) in enumerate(zip(arrays, parts, strict=True)):
        yield {
            "index": at,
            "embed_dtype": form.dtype,
            "endianness": "big" if form.is_big_endian else "little",
            "start": start,
            "end": start + len(part),
            "shape": list(array.shape),
        }
        start += len(part)
