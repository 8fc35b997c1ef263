"""Chat templates of our own, for model families whose own template knows no tools: `--chat-template NAME`."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "chat/templates"


def template_names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in FOLDER.glob("*.jinja")))


def named_template(name: str) -> str | None:
    """Its text; None when there is none of this name."""
    return (FOLDER / f"{name}.jinja").read_text(encoding="utf-8") if name in template_names() else None
