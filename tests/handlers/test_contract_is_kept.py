"""What the contract asks of handlers is checked when the application is built."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from specserve.generated import document, errors, schemas
from specserve.generated.operations import OPERATIONS
from specserve.handlers import __file__ as handlers_file
from specserve.handlers import fields
from specserve.handlers.context import RequestContext
from specserve.handlers.lifecycle import Lifecycle
from specserve.handlers.limits import Limits
from specserve.handlers.model_directory import ModelDirectory, Source
from specserve.handlers.openai.models import Models
from specserve.handlers.routing import ContractError, mount

MODEL_OPERATIONS = {name: operation for name, operation in OPERATIONS.items() if operation.tag == "models"}
COMPLETION_OPERATIONS = {name: operation for name, operation in OPERATIONS.items() if operation.tag == "completions"}


def mount_with(operations: dict[str, Any], handlers: dict[str, object]) -> None:
    mount(FastAPI(), operations, handlers, readiness=Lifecycle(), limits=Limits())


def test_handlers_that_fit_are_mounted() -> None:
    mount_with(MODEL_OPERATIONS, {"models": Models(ModelDirectory(Source(["m"], lambda: None)))})


def test_a_missing_handler_stops_the_start() -> None:
    with pytest.raises(ContractError, match="no handler"):
        mount_with(MODEL_OPERATIONS, {})


def test_a_missing_method_stops_the_start() -> None:
    class Half:
        async def list_models(self, context: RequestContext) -> schemas.ModelList:
            raise NotImplementedError

    with pytest.raises(ContractError, match="retrieve_model"):
        mount_with(MODEL_OPERATIONS, {"models": Half()})


def test_a_wrong_body_type_stops_the_start() -> None:
    class Confused:
        async def create_completion(
            self, body: schemas.ChatCompletionRequest, context: RequestContext
        ) -> schemas.Completion:
            raise NotImplementedError

    with pytest.raises(ContractError, match="ChatCompletionRequest"):
        mount_with(COMPLETION_OPERATIONS, {"completions": Confused()})


def test_a_documented_refusal_without_a_class_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(errors.ERRORS, "invalid_prompt")
    with pytest.raises(ContractError, match="invalid_prompt"):
        mount_with(COMPLETION_OPERATIONS, {})


def test_every_request_schema_has_a_policy() -> None:
    assert set(fields.POLICIES) == {operation.body for operation in OPERATIONS.values() if operation.body}


@pytest.mark.parametrize(("schema", "policy"), fields.POLICIES.items())
def test_every_request_field_has_exactly_one_policy(schema: type[Any], policy: fields.FieldPolicy) -> None:
    listed = [*policy.used, *policy.without_effect, *policy.refused]
    assert sorted(listed) == sorted(schema.model_fields)


@pytest.mark.parametrize("policy", fields.POLICIES.values())
def test_every_field_without_effect_says_why(policy: fields.FieldPolicy) -> None:
    assert all(len(reason.split()) >= 4 for reason in policy.without_effect.values())


def test_a_refused_field_may_be_sent_with_its_default() -> None:
    body = schemas.CompletionRequest.model_validate(
        {"prompt": "a", "watermarking": None, "logits_processors": [], "return_token_offsets": False}
    )
    fields.COMPLETION.check(body)
    marked = schemas.CompletionRequest.model_validate({"prompt": "a", "watermarking": True})
    with pytest.raises(errors.UnsupportedParameter) as refusal:
        fields.COMPLETION.check(marked)
    assert refusal.value.param == "watermarking"


def test_the_application_is_built_without_torch() -> None:
    code = "import sys, specserve.handlers.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


OF_BODIES = {"open_bodies.py", "wire.py", "violations.py", "unknown_fields.py", "sockets.py"}
"""What judges the shape of a body, or of a message that is one."""
AROUND_BODIES = {"BodyTimeout": "routing.py", "InvalidRequest": "errors.py", "InvalidValue": "deadlines.py"}
"""A body that does not arrive, an HTTP error of the framework's own, a header: no schema speaks of these."""


def test_a_well_formed_body_is_refused_with_a_listed_code_only() -> None:
    catalogue = json.loads(document())["x-error-codes"]
    listed = {code for operation in OPERATIONS.values() for code in operation.refusals}
    of_bodies = {code for code, entry in catalogue.items() if entry.get("where") == "body"} - listed
    classes = {errors.ERRORS[code].__name__ for code in of_bodies}
    folder = Path(handlers_file).parent
    for path in sorted(folder.rglob("*.py")):
        if path.name not in OF_BODIES:
            names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
            wrong = {name for name in names & classes if AROUND_BODIES.get(name) != path.name}
            assert not wrong, f"{path.name} refuses with {wrong}; a refusal of a well-formed body is one of x-refusals"
