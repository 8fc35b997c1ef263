"""Whole answers of several constraints, as the server puts them together: reasoning, calls of tools, the answer itself.

Beside the formats of structural tags, with which they nest, there are

    part      {"at": 0}                        a constraint that has passed its check: one of the spec's `parts`
    text      {"until": […], "excludes": […]}  text up to and with the first of these marks, of `least` to
                                               `most` characters
    optional  {"content": …}
    repeat    {"content": …, "separator": …}   once or more
    entries   {"entries": [{"content": …, "is_required": true}, …], "separator": …}  in this order
    calls     {"starts": {mark: [format, …]}, "excludes": […], "bars": "{", "only_one": false}
              free text with calls in it, each begun by a mark. The text holds no mark but to begin a call, none of
              `excludes`, and does not begin with `bars`. `only_one`: the answer ends with the first call.

No request may bring them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from specserve.engine.grammars.rules import grammars_in, literal
from specserve.engine.grammars.structural_tags import ANY_TEXT, TagWriter


class AnswerWriter(TagWriter):
    def kinds(self) -> dict[str, Callable[[dict[str, Any], str, int], str]]:
        return super().kinds() | {
            "part": self._part,
            "text": self._text,
            "optional": self._optional,
            "repeat": self._repeat,
            "entries": self._entries,
            "calls": self._calls,
        }

    def _part(self, value: dict[str, Any], pointer: str, depth: int) -> str:
        own, others = grammars_in(self._spec.parts[value["at"]])
        self._grammars |= others
        return self._rule(self._other(own))

    def _text(self, value: dict[str, Any], pointer: str, depth: int) -> str:
        ends, least, most = value["until"], value.get("least", 0), value.get("most")
        body = ANY_TEXT if not least and most is None else f"/(?s:.{{{least},{'' if most is None else most}}})/"
        excluded = value.get("excludes") or ()
        if not excluded:
            return self._until(*ends, body=body)
        return self._rule(" | ".join(self._until(*ends, *excluded, ending=end, body=body) for end in ends))

    def _optional(self, value: dict[str, Any], pointer: str, depth: int) -> str:
        return self._rule(f"{self.format(value['content'], f'{pointer}/content', depth)}?")

    def _repeat(self, value: dict[str, Any], pointer: str, depth: int) -> str:
        one = self.format(value["content"], f"{pointer}/content", depth)
        between = self.format(value["separator"], f"{pointer}/separator", depth)
        return self._rule(f"{one} ({between} {one})*")

    def _entries(self, value: dict[str, Any], pointer: str, depth: int) -> str:
        """From the last to the first: what may follow when something has been written, and when nothing has."""
        between = self.format(value["separator"], f"{pointer}/separator", depth)
        empty = self._rule('""')
        after_some, after_none = empty, empty
        for at, entry in reversed(list(enumerate(value["entries"]))):
            written = self.format(entry["content"], f"{pointer}/entries/{at}/content", depth)
            skipped_some, skipped_none = ("", "") if entry["is_required"] else (f" | {after_some}", f" | {after_none}")
            after_none = self._rule(f"{written} {after_some}{skipped_none}")
            after_some = self._rule(f"{between} {written} {after_some}{skipped_some}")
        return after_none

    def _calls(self, value: dict[str, Any], pointer: str, depth: int) -> str:
        starts: dict[str, list[Any]] = value["starts"]
        excluded = (*starts, *value.get("excludes", ()))
        bodies = {
            start: " | ".join(self.format(call, f"{pointer}/starts", depth) for call in calls)
            for start, calls in starts.items()
        }

        def call(body: str) -> str:
            texts = [f"{self._until(*excluded, ending=start, body=body)} ({bodies[start]})" for start in starts]
            return self._rule(" | ".join(texts)) if texts else ""

        body = ANY_TEXT
        if value.get("bars"):
            body = f"({ANY_TEXT} & ~(/\\s*/ {literal(value['bars'])} {ANY_TEXT}))"
        none = self._without(*excluded, body=body)
        if not starts:
            return none
        first = call(body)
        if value.get("only_one"):
            return self._rule(f"{first} | {none}")
        if body == ANY_TEXT:
            return self._rule(f"{first}* {none}")
        return self._rule(f"{first} {call(ANY_TEXT)}* {self._without(*excluded)} | {none}")
