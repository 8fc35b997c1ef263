"""The guide's table says what the rules do; run this file to write it anew."""

from __future__ import annotations

import re
from pathlib import Path

from specserve.engine.grammars import formats
from specserve.engine.grammars.schema_rules import KEYWORDS

GUIDE = Path(__file__).parents[3] / "docs/guides/structured-outputs.md"


def keyword_table() -> str:
    rows = "".join(f"| `{name}` | {treatment} | {note} |\n" for name, (treatment, note) in sorted(KEYWORDS.items()))
    return f"| Keyword | Treatment | Note |\n|---|---|---|\n{rows}"


def format_list() -> str:
    def listed(names: object) -> str:
        return ", ".join(f"`{name}`" for name in sorted(names))  # type: ignore[call-overload]

    narrower = ", ".join(f"`{name}` as `{other}`" for name, other in sorted(formats.NARROWER.items()))
    return (
        f"Formats of strings: {listed({*formats.PATTERNS, *formats.BUILT_IN})} (leap years are known, leap seconds not "
        f"written). Written as a narrower one: {narrower}. Without a meaning of their own: {listed(formats.ANYTHING)}. "
        f"Formats of integers: `int32`, and `int64` within ±2^53. Any other format cannot be enforced.\n\n"
    )


def with_tables(guide: str) -> str:
    guide = re.sub(
        r"(?s)(<!-- keywords:[^\n]*-->\n\n).*?(<!-- /keywords -->)",
        lambda match: f"{match[1]}{keyword_table()}{match[2]}",
        guide,
    )
    return re.sub(
        r"(?s)(<!-- formats -->\n\n).*?(<!-- /formats -->)",
        lambda match: f"{match[1]}{format_list()}{match[2]}",
        guide,
    )


def test_the_guide_tells_what_is_enforced() -> None:
    guide = GUIDE.read_text("utf-8")
    assert "| `uniqueItems` |" in guide
    assert guide == with_tables(guide), f"run python {Path(__file__).name}"


if __name__ == "__main__":
    GUIDE.write_text(with_tables(GUIDE.read_text("utf-8")), "utf-8")
