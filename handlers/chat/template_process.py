"""The process that renders templates which came with a request: `python -m specserve.handlers.chat.template_process`.

One job is one JSON line on standard input, its outcome one JSON line on standard output. A job that takes too much
processor time is ended by the operating system with this process, one that takes too much memory fails; neither is
felt by the server. Standard input ends when the server does, and with it this process.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from typing import Any

from jinja2 import TemplateSyntaxError

from specserve.generated.errors import InvalidPrompt
from specserve.handlers.chat.conversation import Conversation
from specserve.handlers.chat.template import TEMPLATE_FAILURES, ChatTemplate, reason

MAX_CPU_S = 2.0
MAX_MEMORY_BYTES = 1 << 29


def outcome(job: dict[str, Any]) -> dict[str, str]:
    """`text`, or `problem` in a few words."""
    try:
        template = ChatTemplate(job["source"], job["special_tokens"], job["content_format"])
        return {"text": template.render(Conversation(**job["conversation"]))}
    except InvalidPrompt as error:
        return {"problem": error.message}
    except TemplateSyntaxError as error:
        return {"problem": f"chat_template is no valid Jinja template: line {error.lineno}: {error.message}"}
    except TEMPLATE_FAILURES as error:
        return {"problem": f"chat_template cannot be used: {reason(error)}"}


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server
    print("ready", flush=True)
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, MAX_CPU_S)
        try:
            answer = json.dumps(outcome(json.loads(line)))
        except MemoryError:  # the text was there, its JSON is too large
            answer = json.dumps({"problem": "chat_template needs too much memory"})
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(answer, flush=True)


if __name__ == "__main__":
    main()
