"""Every operation we share with Cohere takes and gives at least what the installed client's own types say.

The client's requests are the keyword arguments of its methods. It reads answers without checking them, so a field it
calls required is one it relies on.
"""

from typing import Any

import cohere
import pytest
from cohere.base_client import BaseCohere
from cohere.v2.client import V2Client
from parity import JSON, Shape, gaps, of_document, of_method, of_python, schema_of

TARGETS: dict[tuple[str, str], Any] = {
    ("/v1/rerank", "request"): BaseCohere.rerank,
    ("/v1/rerank", JSON): cohere.RerankResponse,
    ("/rerank", "request"): BaseCohere.rerank,
    ("/rerank", JSON): cohere.RerankResponse,
    ("/v2/rerank", "request"): V2Client.rerank,
    ("/v2/rerank", JSON): cohere.V2RerankResponse,
    ("/v1/embed", "request"): BaseCohere.embed,
    ("/v1/embed", JSON): cohere.EmbedResponse,
    ("/v2/embed", "request"): V2Client.embed,
    ("/v2/embed", JSON): cohere.EmbedByTypeResponse,
}
WAIVED = {
    ("/v2/embed", "request.inputs[].content[]<image_url>.type is required here, the client may leave it out"): (
        "the client always writes it, as its default"
    ),
    ("/v2/embed", "request.inputs[].content[]<text>.type is required here, the client may leave it out"): (
        "the client always writes it, as its default"
    ),
    ("/v2/embed", "application/json.response_type lacks the value 'embeddings_floats'"): "this version answers by type",
}


def shape_of(target: Any, part: str) -> Shape:
    return of_method(target, "request_options") if part == "request" else of_python(target)


@pytest.mark.parametrize(("path", "part"), TARGETS)
def test_nothing_of_the_clients_types_is_missing(path: str, part: str) -> None:
    assert [gap for gap in found_gaps(path, part) if (path, gap) not in WAIVED] == []


def test_every_waiver_is_needed() -> None:
    assert WAIVED.keys() == {(path, gap) for path, part in TARGETS for gap in found_gaps(path, part)}


def found_gaps(path: str, part: str) -> list[str]:
    ours = of_document(schema_of("post", path, part))
    return list(gaps(shape_of(TARGETS[path, part], part), ours, part, part == "request", set()))


def test_a_missing_argument_is_found() -> None:
    ours = of_document(schema_of("post", "/v2/rerank", "request"))
    del ours.objects[0].fields["top_n"]
    found = list(gaps(shape_of(V2Client.rerank, "request"), ours, "request", True, set()))
    assert found == ["request.top_n is missing"]
