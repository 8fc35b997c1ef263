"""A handler that does not fit the contract is a finding of the type checker and a failure at start-up."""

import re
import textwrap
from pathlib import Path

import pytest
from mypy import api

PRELUDE = """
    from collections.abc import AsyncIterator
    from specserve.generated import schemas
    from specserve.generated.operations import ChatApi, ModelsApi

    class Context: ...
"""
# Handlers, each with what the type checker says, or nothing, and the error at start-up, or none. That a body
# of a wrong type is also refused at start-up is the work of whoever mounts the handler, and tested there.
HANDLERS: dict[str, tuple[str, str, type[Exception] | None]] = {
    "complete": (
        """
        class Complete(ModelsApi[Context]):
            async def list_models(self, context: Context) -> schemas.ModelList:
                return schemas.ModelList(object="list", data=[])

            async def retrieve_model(self, model: str, context: Context) -> schemas.Model:
                return schemas.Model(id=model, object="model", created=1, owned_by="us")

        Complete()
        """,
        "",
        None,
    ),
    "without a method": (
        """
        class WithoutAMethod(ModelsApi[Context]):
            async def list_models(self, context: Context) -> schemas.ModelList:
                return schemas.ModelList(object="list", data=[])

        WithoutAMethod()
        """,
        'Cannot instantiate abstract class "WithoutAMethod" with abstract attribute "retrieve_model"',
        TypeError,
    ),
    "wrong body": (
        """
        class WrongBody(ChatApi[Context]):
            async def create_chat_completion(
                self, body: schemas.CompletionRequest, context: Context
            ) -> schemas.ChatCompletion | AsyncIterator[schemas.ChatCompletionChunk]:
                raise NotImplementedError

        WrongBody()
        """,
        'Argument 1 of "create_chat_completion" is incompatible with supertype',
        None,
    ),
    "wrong result": (
        """
        class WrongResult(ChatApi[Context]):
            async def create_chat_completion(
                self, body: schemas.ChatCompletionRequest, context: Context
            ) -> schemas.Completion:
                raise NotImplementedError

        WrongResult()
        """,
        'Return type "Coroutine[Any, Any, Completion]" of "create_chat_completion" incompatible',
        None,
    ),
    "undocumented error": (
        """
        from specserve.generated.errors import ModelIsShy
        """,
        'has no attribute "ModelIsShy"',
        ImportError,
    ),
    "error without code": (
        """
        from specserve.generated.errors import BadRequest
        raise BadRequest("Something is wrong.", code="made_up")
        """,
        'Unexpected keyword argument "code" for "BadRequest"',
        TypeError,
    ),
    "missing field": (
        """
        schemas.Model(id="demo", object="model", created=1)
        """,
        'Missing named argument "owned_by"',
        ValueError,
    ),
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory, root: Path) -> dict[str, str]:
    """What one run of the type checker says about each handler."""
    folder = tmp_path_factory.mktemp("handlers")
    files = {}
    for name, (source, _, _) in HANDLERS.items():
        files[name] = folder / f"{re.sub(r'[^a-z]', '_', name)}.py"
        files[name].write_text(textwrap.dedent(PRELUDE) + textwrap.dedent(source))
    settings = folder / "mypy.ini"
    settings.write_text(f"[mypy]\nstrict = True\nmypy_path = {root / 'src'}\nfollow_imports = silent\n")
    options = ["--config-file", str(settings), "--cache-dir", str(folder / "cache"), "--no-error-summary"]
    output, complaints, _ = api.run([*options, *map(str, files.values())])
    assert not complaints
    lines = [line for line in output.splitlines() if ": error:" in line]
    return {name: "\n".join(line for line in lines if path.name in line) for name, path in files.items()}


@pytest.mark.parametrize("name", HANDLERS)
def test_the_type_checker_reports_a_handler_that_does_not_fit(name, reports):
    expected = HANDLERS[name][1]
    if expected:
        assert expected in reports[name]
    else:
        assert reports[name] == ""


@pytest.mark.parametrize("name", HANDLERS)
def test_start_up_fails_for_a_handler_that_does_not_fit(name):
    source, _, failure = HANDLERS[name]
    program = compile(textwrap.dedent(PRELUDE) + textwrap.dedent(source), name, "exec")
    if failure is None:
        exec(program, {"__name__": name})
    else:
        with pytest.raises(failure):
            exec(program, {"__name__": name})
