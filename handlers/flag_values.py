"""What single flags take, where it is more than a number or one of some words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from specserve.handlers.flags import integer, json_object, positive_size
from specserve.handlers.generation_defaults import check_override
from specserve.handlers.lora_modules import RANKS
from specserve.handlers.named_templates import named_template, template_names


def model_len(text: str) -> int | None:
    """`auto` and -1 mean the model's own length."""
    if text in ("auto", "-1"):
        return None
    return positive_size(text)


def template(text: str) -> str:
    """A Jinja template in one line, the content of the file it names, or one of ours by its name."""
    if "{{" in text or "{%" in text or "{#" in text:
        return text
    if not Path(text).exists() and (ours := named_template(text)) is not None:
        return ours
    try:
        return Path(text).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        names = ", ".join(template_names())
        raise ValueError(
            f"it is neither a template, nor a file that can be read ({reason}), nor one of {names}"
        ) from error


def generation_override(text: str) -> dict[str, Any]:
    values = json_object()(text)
    check_override(values)
    return values


def paths(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found or not all(path.startswith("/") for path in found):
        raise ValueError("must be paths that begin with a slash, separated by commas")
    return found


def rank(text: str) -> int:
    value = integer(1)(text)
    if value not in RANKS:
        raise ValueError(f"must be one of {', '.join(map(str, RANKS))}")
    return value


def existing_folder(text: str) -> str:
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise ValueError("must be a folder that is there")
    return str(folder.resolve())


def name(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def one_key(text: str) -> str:
    """HTTP headers carry printable ASCII; another key could never be sent."""
    if not text.isascii() or not text.isprintable() or not text.strip() or " " in text:
        raise ValueError("must be printable ASCII without spaces")
    return text
