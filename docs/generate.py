"""Write docs/reference/ from the contract, the field policies and the flags.

python docs/generate.py           write the pages
python docs/generate.py --check   write nothing; exit 1 when a page is not what would be written
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import jinja2

from specserve.generated import document
from specserve.generated.operations import OPERATIONS
from specserve.handlers.accepted_flags import ACCEPTED
from specserve.handlers.command_line import ENVIRONMENT_PREFIX, EXIT_CODES
from specserve.handlers.fields import POLICIES, FieldPolicy
from specserve.handlers.flag_table import FLAGS
from specserve.handlers.flags import Flag
from specserve.handlers.settings import ServerSettings

HERE = Path(__file__).resolve().parent
OUTPUT = HERE / "reference"
PAGES = ("errors.md", "flags.md", "parameters.md")
BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} entries",
    "maxItems": "at most {} entries",
    "maxProperties": "at most {} entries",
}
WHERE = {
    "any": "every operation",
    "body": "every operation with a body",
    "key": "every operation that needs a key",
    "route": "any path",
}
Json = Any


# ---- parameters ----------------------------------------------------------------------------------
def requests(doc: Json) -> Iterator[dict[str, Json]]:
    """One entry for each request schema: its operations, and a row for each field in the document's order."""
    for schema, policy in POLICIES.items():
        described = doc["components"]["schemas"][schema.__name__]
        paths = [f"{op.method} {op.path}" for op in OPERATIONS.values() if op.body is schema]
        required = described.get("required", [])
        rows = [field_row(doc, name, part, policy, name in required) for name, part in described["properties"].items()]
        yield {
            "name": schema.__name__,
            "description": described["description"],
            "paths": paths,
            "rows": rows,
            "counts": {
                state: sum(row["state"] == state for row in rows) for state in ("honoured", "no effect", "refused")
            },
        }


def field_row(doc: Json, name: str, part: Json, policy: FieldPolicy, is_required: bool) -> dict[str, str]:
    default = "required" if is_required else f"`{json.dumps(part['default'])}`" if "default" in part else ""
    meaning = part.get("description") or resolved(doc, part).get("description", "")
    row = {"name": name, "type": type_of(doc, part), "default": default, "bounds": bounds_of(doc, part)}
    if name in policy.without_effect:
        return row | {
            "state": "no effect",
            "meaning": f"{meaning} *Accepted without effect: {policy.without_effect[name]}.*",
        }
    if name in policy.refused:
        return row | {"state": "refused", "meaning": f"{meaning} *Refused with `unsupported_parameter`.*"}
    return row | {"state": "honoured", "meaning": meaning}


def resolved(doc: Json, part: Json) -> Json:
    """What a reference refers to, also when null is the only other branch."""
    branches = [branch for branch in part.get("anyOf", []) if branch.get("type") != "null"]
    if len(branches) == 1 and "type" not in part:
        part = branches[0]
    if "$ref" in part:
        return resolved(doc, doc["components"]["schemas"][part["$ref"].rsplit("/", 1)[-1]])
    return part


def type_of(doc: Json, part: Json) -> str:
    part = resolved(doc, part)
    if "const" in part or "enum" in part:
        values = part.get("enum", [part.get("const")])
        return " or ".join(f"`{value}`" for value in values if value is not None)
    branches = part.get("anyOf", []) + part.get("oneOf", [])
    if branches:
        return " or ".join(dict.fromkeys(type_of(doc, branch) for branch in branches if branch.get("type") != "null"))
    kinds = part.get("type", "anything")
    kinds = [kind for kind in ([kinds] if isinstance(kinds, str) else kinds) if kind != "null"]
    if kinds == ["array"]:
        return f"list of {type_of(doc, part.get('items', {}))}"
    return " or ".join(kinds)


def bounds_of(doc: Json, part: Json) -> str:
    """Limits of the value itself; those of the entries of a list are in the document."""
    part = resolved(doc, part)
    found = [form.format(short(part[key])) for key, form in BOUNDS.items() if key in part]
    found = ["not empty" if text in ("at least 1 entries", "at least 1 characters") else text for text in found]
    if "pattern" in part:
        found.append(f"matches `{part['pattern']}`")
    return ", ".join(found)


def short(number: float) -> str:
    for power in (31, 32, 63, 64):
        for sign, base in (("", 2**power), ("-", -(2**power))):
            if number == base:
                return f"{sign}2^{power}"
            if number == base - 1:
                return f"{sign}2^{power} - 1"
    return f"{number:g}" if isinstance(number, float) else str(number)


# ---- flags ---------------------------------------------------------------------------------------
def flag_groups() -> dict[str, list[dict[str, str]]]:
    defaults = {field.name: getattr(ServerSettings(), field.name) for field in fields(ServerSettings)}
    groups: dict[str, list[dict[str, str]]] = {}
    for flag in FLAGS:
        groups.setdefault(flag.group, []).append(
            {
                "spelling": flag.spelling,
                "value": value_of(flag),
                "default": default_of(flag, defaults[flag.name]),
                "help": flag.help.partition(" (default ")[0],
            }
        )
    return groups


def value_of(flag: Flag) -> str:
    if flag.is_switch:
        return f"(switch; `--no-{flag.spelling[2:]}` turns it off)"
    return f"`{flag.metavar}{' …' if flag.many else ''}`"


def default_of(flag: Flag, value: object) -> str:
    if value is None or value == ():
        return ""
    if flag.is_switch:
        return "on" if value else "off"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


# ---- errors --------------------------------------------------------------------------------------
def error_rows(doc: Json) -> list[dict[str, str]]:
    rows = []
    for code, entry in doc["x-error-codes"].items():
        paths = [f"`{op.path}`" for op in OPERATIONS.values() if code in op.refusals]
        rows.append(
            {
                "code": code,
                "status": entry["status"],
                "type": entry["type"],
                "param": entry["param"],
                "retryable": "yes" if entry["retryable"] else "no",
                "where": WHERE[entry["where"]] if "where" in entry else ", ".join(dict.fromkeys(paths)),
                "summary": entry["summary"],
            }
        )
    return sorted(rows, key=lambda row: (row["status"], row["code"]))


# ---- pages ---------------------------------------------------------------------------------------
def pages() -> dict[str, str]:
    """Name and content of every page."""
    doc = json.loads(document())
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|").replace("\n", " ").strip()
    values = {
        "requests": list(requests(doc)),
        "headers": doc["x-headers"],
        "groups": flag_groups(),
        "prefix": ENVIRONMENT_PREFIX,
        "accepted": ACCEPTED,
        "exit_codes": EXIT_CODES,
        "errors": error_rows(doc),
    }
    return {name: environment.get_template(f"{name}.jinja").render(values) for name in PAGES}


def stale_pages(output: Path) -> list[str]:
    """Pages that are missing, left over, or not what would be written."""
    fresh = pages()
    present = {path.name: path.read_text() for path in output.glob("*") if path.is_file()}
    return sorted(name for name in fresh.keys() | present.keys() if fresh.get(name) != present.get(name))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write docs/reference/.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is not fresh")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.check:
        stale = stale_pages(options.output)
        print(
            "\n".join(f"stale: docs/reference/{name}; run make docs" for name in stale)
            or "docs/reference is up to date"
        )
        return int(bool(stale))
    options.output.mkdir(exist_ok=True)
    for name, text in pages().items():
        (options.output / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
