"""Token ids to text, one token at a time, and stop strings in that text. Knows no engine and no requests.

What `Detokenizer` returns, joined, is what the tokenizer's `decode` makes of all tokens at once, with one
exception in favour of the reader: where a vocabulary spells characters by single-byte tokens and the model
writes a run of them that is not UTF-8, `decode` replaces the whole run, while here the characters that were
complete stay.
"""

from __future__ import annotations

from codecs import utf_8_decode
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from specserve.engine.api import Tokenizer, TokenSpelling

REPLACEMENT = "\ufffd"
MAX_UTF8_BYTES = 4
NUM_CONTEXT_TOKENS = 16
"""So many tokens before a text are enough to know how it begins: no unfinished character is spread over more."""
MAX_WINDOW_TOKENS = 32
"""A window that has not ended in a whole character by then never will; it is given out as it is."""


class _Decoder(Protocol):
    def append(self, token_id: int) -> str: ...

    def flush(self) -> str: ...


class Detokenizer:
    """The text of one sequence. Each call returns the text that became certain, in constant time."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        skip_special_tokens: bool = True,
        strips_spaces: bool = True,
        after: Sequence[int] = (),
    ) -> None:
        """`after` are the tokens of a text that this one goes on in. Their text is not returned, but a character they
        leave unfinished is completed, and a space that the beginning of a text would lose is kept; `strips_spaces`
        False keeps it too.
        """
        spelling = tokenizer.spelling
        self._num_spaces_to_strip = 0
        self._skipped: frozenset[int] = frozenset()
        self._decoder: _Decoder
        if spelling is None:
            self._decoder = _WindowDecoder(tokenizer, skip_special_tokens)
            self._go_on(after, frozenset())
            return
        self._num_spaces_to_strip = spelling.num_stripped_spaces if strips_spaces else 0
        if skip_special_tokens:
            self._skipped = spelling.special_ids
        self._decoder = _ByteDecoder(tokenizer) if spelling.byte_ids is None else _RunDecoder(tokenizer, spelling)
        self._go_on(after, spelling.byte_ids or frozenset())

    def _go_on(self, after: Sequence[int], byte_ids: frozenset[int]) -> None:
        """Read the end of `after`, from a place where no run of single-byte tokens is under way."""
        begin = max(0, len(after) - NUM_CONTEXT_TOKENS)
        while begin > 0 and after[begin] in byte_ids:
            begin -= 1
        if any(after[at] not in self._skipped for at in range(begin)):
            self._num_spaces_to_strip = 0
        for token_id in after[begin:]:
            self.append(token_id)

    def append(self, token_id: int) -> str:
        """New text, perhaps none while a character is incomplete."""
        if token_id in self._skipped:
            return ""
        text = self._decoder.append(token_id)
        return self._strip(text) if self._num_spaces_to_strip else text

    def flush(self) -> str:
        """The rest, at the end of the sequence: incomplete characters become replacement characters."""
        return self._strip(self._decoder.flush())

    def _strip(self, text: str) -> str:
        while self._num_spaces_to_strip and text:
            if text[0] != " ":
                self._num_spaces_to_strip = 0
                break
            text = text[1:]
            self._num_spaces_to_strip -= 1
        return text


class _ByteDecoder:
    """Any tokens' bytes may join to a character."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._token_bytes = tokenizer.token_bytes
        self._incomplete = b""

    def append(self, token_id: int) -> str:
        data = self._incomplete + self._token_bytes(token_id)
        text, num_used = utf_8_decode(data, "replace", False)
        self._incomplete = data[num_used:]
        return text

    def flush(self) -> str:
        text, self._incomplete = self._incomplete.decode("utf-8", "replace"), b""
        return text


class _RunDecoder:
    """Tokens are text, but for single-byte tokens: a run of those is UTF-8, or else all replacements."""

    def __init__(self, tokenizer: Tokenizer, spelling: TokenSpelling) -> None:
        self._token_bytes = tokenizer.token_bytes
        self._byte_ids = spelling.byte_ids or frozenset()
        self._pending = b""
        self._broken = False

    def append(self, token_id: int) -> str:
        piece = self._token_bytes(token_id)
        if token_id not in self._byte_ids:
            return self.flush() + piece.decode("utf-8", "replace") if piece else ""
        self._pending += piece
        if not self._broken:
            try:
                text = self._pending.decode("utf-8")
            except UnicodeDecodeError:
                if len(self._pending) < MAX_UTF8_BYTES:
                    return ""
                self._broken = True
            else:
                self._pending = b""
                return text
        text = REPLACEMENT * len(self._pending)
        self._pending = b""
        return text

    def flush(self) -> str:
        text = REPLACEMENT * len(self._pending)
        self._pending = b""
        self._broken = False
        return text


class _WindowDecoder:
    """For tokenizers whose tokens depend on their neighbours: decodes the last few tokens together.

    The window is the tokens given out last, for context, and those not given out yet: what the latter add to
    the text of the former is new.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._window: list[int] = []
        self._num_context = 0
        self._context_text = ""
        self._text = ""

    def append(self, token_id: int) -> str:
        self._window.append(token_id)
        text = self._decode(self._window)
        is_partial = text.endswith(REPLACEMENT)
        if text == self._text and not is_partial:
            # A skipped or unknown token, or a space that vanishes because no text is before it.
            if self._context_text or len(self._window) > MAX_WINDOW_TOKENS:
                self._window.pop()
            return ""
        self._text = text
        if is_partial and len(self._window) - self._num_context < MAX_WINDOW_TOKENS:
            return ""
        return self._give_out()

    def flush(self) -> str:
        return self._give_out()

    def _give_out(self) -> str:
        new_text = self._text[len(self._context_text) :]
        del self._window[: self._num_context]
        self._num_context = len(self._window)
        self._text = self._context_text = self._decode(self._window)
        return new_text

    def _decode(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=self._skip_special_tokens)


class CheckedText(NamedTuple):
    """`text` may be shown; `stop` is the stop string that ended the sequence, if one did."""

    text: str
    stop: str | None = None


class StopChecker:
    """Finds the first stop string in a text that arrives in pieces, wherever the borders of the pieces are.

    The first is the one that is complete first, the longest of those that are complete at once. The longest
    end of the text that may become a stop string is held back.
    """

    def __init__(self, stop: Sequence[str], *, include_in_output: bool = False) -> None:
        self._stop = tuple(stop)
        self._include = include_in_output
        self._max_held = max(map(len, self._stop), default=1) - 1
        self._held = ""

    def append(self, new_text: str, *, may_stop: bool = True) -> CheckedText:
        """`may_stop` false lets stop strings pass that are complete within `new_text`."""
        if not self._stop or not new_text:
            return CheckedText(new_text)
        text = self._held + new_text
        if may_stop:
            ends = [
                (start + len(stop), start, stop)
                for stop in self._stop
                if (start := text.find(stop, max(0, len(self._held) - len(stop) + 1))) >= 0
            ]
            if ends:
                end, start, stop = min(ends)
                self._held = ""
                return CheckedText(text[: end if self._include else start], stop)
        cut = self._hold_from(text)
        self._held = text[cut:]
        return CheckedText(text[:cut])

    def flush(self) -> str:
        """What was held back, when no more text comes."""
        text, self._held = self._held, ""
        return text

    def _hold_from(self, text: str) -> int:
        for cut in range(max(0, len(text) - self._max_held), len(text)):
            tail = text[cut:]
            if any(len(stop) > len(tail) and stop.startswith(tail) for stop in self._stop):
                return cut
        return len(text)
