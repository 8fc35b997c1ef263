"""Mounts the contract's operations: the only code that knows routes. It checks the handlers when the app is built."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from specserve.generated.base import Serialised
from specserve.generated.errors import (
    ERRORS,
    ApiError,
    BodyTimeout,
    DeadlineExceeded,
    EngineDead,
    RateLimitExceeded,
    RouteNotFound,
    ServerDraining,
    ServerLoading,
)
from specserve.generated.operations import Operation
from specserve.handlers.context import OWNER_KEY, Readiness, RequestContext, request_identity
from specserve.handlers.deadlines import Deadline
from specserve.handlers.errors import bounded, cleaned, send_error, to_api_error
from specserve.handlers.fair_share import FairShare
from specserve.handlers.first_use import with_models
from specserve.handlers.limits import Limits
from specserve.handlers.open_bodies import ClientGone, OpenBodies
from specserve.handlers.sse import EventStream, payload_of
from specserve.handlers.unknown_fields import header_of_names, unknown_fields
from specserve.handlers.wire import parse_body, parse_query

Method = Callable[..., Coroutine[Any, Any, object]]


class ContractError(RuntimeError):
    """The handlers do not offer what the contract says; the server must not start."""


def mount(
    app: FastAPI,
    operations: Mapping[str, Operation],
    handlers: Mapping[str, object],
    *,
    readiness: Readiness,
    limits: Limits,
) -> Mapping[str, ByMethod]:
    """Add a route for every operation, and return those whose path is fixed.

    `handlers` has one object per tag. Raises ContractError.
    """
    by_path: dict[str, dict[str, Endpoint]] = {}
    bodies = OpenBodies(max_bytes=limits.max_body_bytes, timeout_s=limits.body_timeout_s)
    shares = FairShare(limits.max_open_per_client)
    readiness.when_draining(bodies.give_up)
    for operation in operations.values():
        method = checked_method(operation, handlers)
        by_path.setdefault(operation.path, {})[operation.method] = Endpoint(
            operation, method, readiness, limits, bodies, shares
        )
    mounted = {path: ByMethod(endpoints) for path, endpoints in by_path.items()}
    # Before those that FastAPI brings: routes are tried in turn.
    app.router.routes[:0] = [Route(routable(path, mounted), one) for path, one in mounted.items()]
    return {path: one for path, one in mounted.items() if "{" not in path}


def routable(path: str, paths: Iterable[str]) -> str:
    """A parameter at the end may contain slashes, as model names do, where no other path goes on below it."""
    goes_on = any(other.startswith(f"{path}/") for other in paths)
    return path[:-1] + ":path}" if path.endswith("}") and not goes_on else path


def checked_method(operation: Operation, handlers: Mapping[str, object]) -> Method:
    """The handler's method for an operation, if it takes what the contract sends. Raises ContractError."""
    where = f"operation {operation.id} ({operation.method} {operation.path})"
    unknown = sorted(operation.refusals - ERRORS.keys())
    if unknown:
        raise ContractError(f"{where} lists the refusals {', '.join(unknown)}, which no error class has as its code")
    handler = handlers.get(operation.tag)
    if handler is None:
        raise ContractError(f"{where} has no handler; hand create_app one for the tag {operation.tag!r}")
    owner = type(handler).__name__
    method: Method | None = getattr(handler, operation.id, None)
    if method is None or getattr(method, "__isabstractmethod__", False):
        raise ContractError(f"{where} is not implemented; {owner} needs a method {operation.id}")
    if not inspect.iscoroutinefunction(method):
        raise ContractError(f"{where}: {owner}.{operation.id} must be an async method")
    wanted = get_type_hints(getattr(operation.protocol, operation.id))
    offered = get_type_hints(method)
    names = (
        *(["body"] if operation.body else []),
        *operation.path_params,
        *(["query"] if operation.query else []),
        "context",
    )
    if tuple(inspect.signature(method).parameters) != names:
        raise ContractError(f"{where}: {owner}.{operation.id} must take ({', '.join(names)})")
    for name in names[:-1]:
        if offered.get(name) != wanted[name]:
            raise ContractError(
                f"{where}: {owner}.{operation.id} takes {name} as {shown(offered.get(name))}, "
                f"the contract sends {shown(wanted[name])}"
            )
    return method


def shown(annotation: object) -> str:
    return getattr(annotation, "__name__", str(annotation))


@dataclass(frozen=True, slots=True)
class StraightWay:
    """Requests for operations under a fixed path, without a router: the path has been found in the table already.

    All WebSockets go this way too.
    """

    operations: Mapping[str, ByMethod]
    sockets: ASGIApp

    def is_for(self, scope: Scope) -> bool:
        if scope["type"] == "websocket":
            return True
        if scope["type"] != "http" or scope.get("root_path"):
            return False
        found = self.operations.get(scope["path"])
        return found is not None and scope["method"] in found.endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        to = self.sockets if scope["type"] == "websocket" else self.operations[scope["path"]]
        await to(scope, receive, send)


@dataclass(frozen=True, slots=True)
class ByMethod:
    """The operations of one path. It refuses other methods itself: a path with a parameter may fit as well."""

    endpoints: Mapping[str, Endpoint]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if method not in self.endpoints:
            allowed = self.endpoints.keys() | ({"HEAD"} if "GET" in self.endpoints else set())
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(allowed))})
        await self.endpoints[method](scope, receive, send)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation over ASGI: state, body, handler, answer; and a watch for the client going away."""

    operation: Operation
    method: Method
    readiness: Readiness
    limits: Limits
    bodies: OpenBodies
    shares: FairShare

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = RequestContext(request_identity(scope), owner=scope.get(OWNER_KEY, ""))
        if RateLimitExceeded.code not in self.operation.refusals:
            await self.serve(scope, receive, send, context)
            return
        try:
            client = self.shares.take(scope)
        except RateLimitExceeded as refusal:
            await self.refuse(send, refusal, context)
            return
        try:
            await self.serve(scope, receive, send, context)
        finally:
            self.shares.give_back(client)

    async def serve(self, scope: Scope, receive: Receive, send: Send, context: RequestContext) -> None:
        """One request, from its body to the end of its answer."""
        try:
            self.check_state()
            if DeadlineExceeded.code in self.operation.refusals:
                context.deadline = Deadline.of(scope, self.limits.request_timeout_s)
            arguments = await self.read_arguments(scope, receive, context)
        except ClientGone:
            return
        except Exception as error:
            await self.refuse(send, to_api_error(error, request_id=context.identity.id), context)
            return
        # A client who leaves ends the answer wherever it is: in the template, queued, in prefill or between two
        # tokens. Cancelling it closes every generator, which aborts in the engine.
        answering = current_task()
        watch = asyncio.create_task(cancel_when_gone(receive, answering))
        try:
            await self.answer(arguments, context, send)
        except asyncio.CancelledError:
            if not watch.done():
                raise  # it is the server that ends this request
            answering.uncancel()
        finally:
            watch.cancel()

    async def refuse(self, send: Send, error: ApiError, context: RequestContext) -> None:
        """Answer with an error, in the form the operation's clients read."""
        headers, request_id = context.response_headers, context.identity.id
        await send_error(send, error, headers, envelope=self.operation.errors, request_id=request_id)

    def check_state(self) -> None:
        """Refuse while the server cannot serve this operation; operations that always work list no such refusal."""
        state, refusals = self.readiness.state, self.operation.refusals
        if state == "ready":
            return
        if state == "loading" and ServerLoading.code in refusals:
            progress = self.readiness.progress
            done = "" if progress is None else f", {progress:.0%} done"
            raise ServerLoading(
                f"the model is still loading ({self.readiness.phase}{done}); try again soon",
                headers={"Retry-After": "2"},
            )
        if state == "draining" and ServerDraining.code in refusals:
            raise ServerDraining(
                "the server is shutting down and takes nothing new; try another one, or this one later",
                headers={"Retry-After": "10", "Connection": "close"},
            )
        if state == "failed" and EngineDead.code in refusals:
            reason = cleaned(self.readiness.phase)
            raise EngineDead(bounded(f"the engine has stopped ({reason}); the server has to be restarted"))

    async def read_arguments(self, scope: Scope, receive: Receive, context: RequestContext) -> list[object]:
        arguments: list[object] = []
        if self.operation.body is not None:
            try:
                raw = await self.bodies.read(scope, receive)
            except TimeoutError:
                self.check_state()  # a drain waits for answers, not for questions
                raise BodyTimeout(
                    f"the body was not complete within {self.limits.body_timeout_s:g} s; send it faster, or less",
                    headers={"Connection": "close"},
                ) from None
            context.num_body_bytes = len(raw)
            body, ignored = parse_body(raw, self.operation.body)
            if ignored and self.limits.is_strict:
                raise unknown_fields(ignored, self.operation.body)
            if ignored:
                context.response_headers["x-ignored-params"] = header_of_names(ignored)
            context.adopt_id(getattr(body, "request_id", None), scope)
            arguments.append(body)
        for name in self.operation.path_params:
            value = scope["path_params"][name]
            if not value:
                raise RouteNotFound(f"{self.operation.path} needs a {name}")
            arguments.append(value)
        if self.operation.query is not None:
            query, ignored = parse_query(scope["query_string"], self.operation.query)
            if ignored and self.limits.is_strict:
                raise unknown_fields(ignored, self.operation.query)
            if ignored:
                context.response_headers["x-ignored-params"] = header_of_names(ignored)
            arguments.append(query)
        return [*arguments, context]

    async def answer(self, arguments: list[object], context: RequestContext, send: Send) -> None:
        def to_error(error: Exception) -> ApiError:
            return to_api_error(error, request_id=context.identity.id)

        try:
            work, deadline = with_models(lambda: self.method(*arguments)), context.deadline
            result = await (work if deadline is None else deadline.wait(work))
        except Exception as error:
            await self.refuse(send, to_error(error), context)
            return
        if isinstance(result, AsyncGenerator):
            if context.deadline is not None:  # else the answer watches it, to end in its own words
                result = context.deadline.items(result)
            stream = EventStream(
                send,
                end_mark=self.operation.end_mark,
                keep_alive_s=self.limits.keep_alive_s,
                to_error=to_error,
                headers=context.response_headers,
                is_named=self.operation.named_events,
                envelope=self.operation.errors,
                request_id=context.identity.id,
            )
            await stream.send_all(result)
            return
        kind, body = written(result, self.operation)
        head = {**kind, "content-length": str(len(body)), **context.response_headers}
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        await send({"type": "http.response.body", "body": body})


def written(result: object, operation: Operation) -> tuple[dict[str, str], bytes]:
    """A whole answer as its header and bytes; those that come as bytes are no JSON."""
    if isinstance(result, (Serialised, BaseModel)):
        return {"content-type": "application/json"}, payload_of(result)
    if isinstance(result, bytes):
        return {"content-type": "application/octet-stream"}, result
    if not operation.empty:
        raise TypeError(f"operation {operation.id} answered with {type(result).__name__}")
    return {}, b""


async def cancel_when_gone(receive: Receive, answering: asyncio.Task[Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    answering.cancel()


def current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("requests are answered in tasks of an event loop")
    return task
