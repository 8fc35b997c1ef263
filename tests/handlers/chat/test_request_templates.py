"""Templates of requests: rendered like the server's own, and ended when they cost too much."""

from __future__ import annotations

import os

import pytest

from specserve.generated.errors import InvalidPrompt
from specserve.handlers.chat.conversation import Conversation
from specserve.handlers.chat.request_templates import RequestTemplates
from specserve.handlers.chat.template import ChatTemplate

HELLO = Conversation(messages=[{"role": "user", "content": "Grüß <dich>\n"}], template_kwargs={"mood": "well"})
SPECIAL = {"bos_token": "<s>"}


@pytest.fixture(scope="module")
def templates() -> RequestTemplates:
    return RequestTemplates()


def rendered(templates: RequestTemplates, source: str) -> str:
    return templates.render(source, SPECIAL, "auto", HELLO)


def test_they_read_as_the_servers_own(templates: RequestTemplates) -> None:
    source = "{{ bos_token }}{% for m in messages %}{{ m | tojson }}{% endfor %}{{ mood }}"
    assert rendered(templates, source) == ChatTemplate(source, SPECIAL).render(HELLO)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("a\n{% if %}", "line 2"),
        ("{{ raise_exception('not today') }}", "not today"),
        ("{{ messages[0].nothing.more }}", "refuses"),
        ("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", "more than 2 s"),
        ("{{ 'a' * 10**10 }}", "memory"),
        ("{% for i in range(100000) %}{{ 'a' * 10000 }}{% endfor %}", "characters"),
        ("{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(0) }}", "calls itself"),
        ("{{ messages.__class__.__base__.__subclasses__() }}", "refuses"),
        ("{{ ''.__class__.__mro__ }}{{ messages[0].__init__.__globals__ }}", "refuses"),
        ("{{ (messages | attr('__class__')).x.y }}", "refuses"),
        ("{{ '{0.__class__.__init__}'.format(messages).x.y }}", "refuses"),
        ("{{ range(10**9) | list }}", "refuses"),
    ],
    ids=[
        "syntax", "raises", "undefined", "endless", "memory", "long", "recursion", "subclasses", "globals", "attr",
        "format", "range"
    ],
)  # fmt: skip
def test_what_cannot_or_must_not_be_rendered_is_refused_by_name(
    templates: RequestTemplates, source: str, reason: str
) -> None:
    with pytest.raises(InvalidPrompt, match=reason) as refused:
        rendered(templates, source)
    assert refused.value.param == "chat_template"


def test_the_next_template_does_not_suffer(templates: RequestTemplates) -> None:
    with pytest.raises(InvalidPrompt):
        rendered(templates, "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}")
    assert rendered(templates, "{{ mood }}") == "well"


def test_a_process_is_used_again_and_sees_nothing_of_the_environment(templates: RequestTemplates) -> None:
    rendered(templates, "{{ mood }}")
    process = templates._idle[-1]
    rendered(templates, "{{ mood }}")
    assert templates._idle[-1] is process
    with open(f"/proc/{process.pid}/environ", "rb") as environment:
        names = {entry.partition(b"=")[0] for entry in environment.read().split(b"\0") if entry}
    assert names <= {b"PYTHONPATH", b"LC_CTYPE"}
    assert len(os.environ) > len(names)
