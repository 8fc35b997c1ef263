"""Write generated/ from openapi/.

python codegen.py           bundle, overlay, lint, and write the files
python codegen.py --check   write nothing; exit 1 when generated/ is not what would be written

What is written: openapi.json (one flat document, published as it is), schemas.py (the wire types), base.py
(what they start from), errors.py (one exception class per code) and operations.py (one Protocol per tag, one
table of operations). Reading and overlaying are in codegen_bundle.py, the rules in codegen_lint.py. Knows nothing of
handlers and engine.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import jinja2
from datamodel_code_generator import InputFileType, LiteralType, PythonVersion, generate
from datamodel_code_generator.config import GenerateConfig
from datamodel_code_generator.enums import AllOfClassHierarchy, DataModelType
from datamodel_code_generator.format import Formatter

from codegen_bundle import ContractError, Json, bundle, flatten, name_of, operations_of, subschemas, walk
from codegen_lint import lint

ROOT = Path(__file__).resolve().parent
SOURCE = ROOT / "openapi"
OUTPUT = ROOT / "generated"
HEADER = "# Written by codegen.py; change openapi/ instead."
FILES = ("__init__.py", "base.py", "errors.py", "openapi.json", "operations.py", "schemas.py")


# ---- schemas -------------------------------------------------------------------------------------
def mark_fail_fast(schemas: dict[str, Json]) -> None:
    """A list that is one branch of a union stops at its first bad item: a bad prompt of 32,000 tokens would
    otherwise be reported token by token, for each branch."""

    def mark(schema: Json) -> None:
        schema = schemas[name_of(schema)] if "$ref" in schema else schema
        if schema.get("type") == "array" and "x-fail_fast" not in schema:
            schema["x-fail_fast"] = True
            mark(schema["items"])

    for name, schema in schemas.items():
        for _, part in list(subschemas(schema, name)):
            for branch in part.get("anyOf", []):
                mark(branch)


def query_schemas(doc: Json) -> dict[str, Json]:
    """The query parameters of each operation that has some, as one object: the handler gets them as a whole."""
    found = {}
    for _, _, operation in operations_of(doc):
        params = [param for param in operation.get("parameters", []) if param["in"] == "query"]
        if params:
            found[query_name(operation)] = {
                "description": f"Query parameters of {operation['operationId']}.",
                "type": "object",
                "required": [param["name"] for param in params if param.get("required")],
                "properties": {param["name"]: param["schema"] for param in params},
            }
    return found


def query_name(operation: Json) -> str:
    return "".join(part.capitalize() for part in operation["operationId"].split("_")) + "Query"


def write_schemas(doc: dict[str, Json], out: Path) -> None:
    every = copy.deepcopy(doc["components"]["schemas"] | query_schemas(doc))
    schemas = {name: schema for name, schema in every.items() if schema.get("x-codegen", True)}
    mark_fail_fast(schemas)
    for name, schema in schemas.items():
        for where, part in list(subschemas(schema, name)):
            part.pop("deprecated", None)  # pydantic would warn whenever the server itself reads the field
            if where != name:
                part.pop("description", None)  # the document explains fields; here they would double the file
    source = {"openapi": "3.1.0", "info": doc["info"], "paths": {}, "components": {"schemas": schemas}}
    header = f'{HEADER}\n"""Every wire type, as openapi.json describes it."""'
    config = GenerateConfig(
        input_file_type=InputFileType.OpenAPI,
        output=out,
        output_model_type=DataModelType.PydanticV2BaseModel,
        target_python_version=PythonVersion.PY_311,
        base_class="specserve.generated.base.ApiModel",
        custom_file_header=header,
        disable_timestamp=True,
        use_annotated=True,
        field_constraints=True,
        use_standard_collections=True,
        use_union_operator=True,
        enum_field_as_literal=LiteralType.All,
        formatters=[Formatter.BUILTIN],
        use_single_value_enum_as_const=True,
        use_type_alias=True,
        strict_nullable=True,
        use_default_kwarg=True,
        use_schema_description=True,
        field_extra_keys_without_x_prefix={"x-fail_fast"},
        use_double_quotes=True,
        allof_class_hierarchy=AllOfClassHierarchy.Always,
    )
    generate(json.dumps(source), config=config)
    text = out.read_text().replace('json_schema_extra={"fail_fast": True}', "fail_fast=True")
    check_names(text, set(schemas))
    out.write_text(text)


def check_names(text: str, schemas: set[str]) -> None:
    """Rule 4 again, on what came out: every class and alias is a component."""
    if "fail_fast" in text.replace("fail_fast=True", ""):
        raise ContractError("schemas.py: the generator writes fail_fast in another way than expected")
    for node in ast.parse(text).body:
        names = [node.name] if isinstance(node, ast.ClassDef) else []
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        for name in names:
            if name not in schemas:
                raise ContractError(f"schemas.py: {name} is not a component; name the schema it comes from")


# ---- operations and errors -----------------------------------------------------------------------
def describe(doc: Json, path: str, method: str, operation: Json) -> dict[str, Json]:
    """What the template needs to know of one operation."""
    here = operation["operationId"]
    body = operation.get("requestBody", {}).get("content", {})
    content = operation["responses"]["200"].get("content", {})
    whole = name_of(content.get("application/json", {}).get("schema"))
    event = doc["components"]["schemas"].get(name_of(content.get("text/event-stream", {}).get("itemSchema")), {})
    results = [f"schemas.{whole}"] if whole else []
    if operation.get("x-serialised"):
        results.append(f"Serialised[schemas.{whole}]")
    if "application/octet-stream" in content:
        results.append("bytes")
    # An error within a stream is raised by the iterator, so it is no part of what the iterator yields.
    named = [name for node in walk(event) if (name := name_of(node)) and not name.endswith("ErrorResponse")]
    if events := [f"schemas.{name}" for name in named]:
        results += [f"Serialised[{result}]" for result in results]
        forms = [*events, *(f"Serialised[{name}]" for name in events)]
        results.append(f"AsyncIterator[{' | '.join(forms)}]")
    params = [param["name"] for param in operation.get("parameters", []) if param["in"] == "path"]
    if set(params) != set(re.findall(r"{(\w+)}", path)):
        raise ContractError(f"{here}: the path and its parameters disagree")
    return {
        "id": here,
        "tag": operation["tags"][0],
        "method": method.upper(),
        "path": path,
        "summary": operation["summary"],
        "body": name_of(next(iter(body.values()))["schema"]) if body else None,
        "params": params,
        "query": query_name(operation) if query_name(operation) in query_schemas(doc) else None,
        "result": " | ".join(results) or "None",
        "statuses": sorted(int(s) for s in operation["responses"]),
        "refusals": sorted(operation.get("x-refusals", [])),
        "events": bool(events),
        "empty": not results,
        "named_events": "event" in event.get("properties", {}),
        "errors": operation.get("x-errors", ""),
        "end_mark": any(node.get("const") == "[DONE]" for node in walk(event)),
    }


def write_templates(doc: dict[str, Json], out: Path) -> None:
    operations = [describe(doc, *entry) for entry in operations_of(doc)]
    # A fixed path before one with a parameter, so that a router which tries them in this order finds both.
    operations.sort(key=lambda op: ("{" in op["path"], op["tag"], op["id"]))
    errors, envelopes = dict[str, Json](), dict[str, dict[str, str]]()
    for name, response in sorted(doc["components"]["responses"].items(), key=lambda r: r[1]["x-error"]["status"]):
        if original := response["x-error"].get("for"):
            envelopes.setdefault(name.removesuffix(original), {})[original] = response["x-error"]["type"]
            continue
        codes = {code: entry for code, entry in doc["x-error-codes"].items() if entry["response"] == name}
        errors[name] = {**response["x-error"], "description": response["description"], "codes": codes}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(SOURCE / "templates"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["literal"] = json.dumps
    values = {"header": HEADER, "operations": operations, "errors": errors, "envelopes": envelopes}
    values["tags"] = sorted({op["tag"] for op in operations})
    for name in ("__init__", "base", "errors", "operations"):
        (out / f"{name}.py").write_text(environment.get_template(f"{name}.py.jinja").render(values))


def write_all(out: Path) -> None:
    doc = bundle(SOURCE / "root.yaml")
    lint(doc)
    (out / "openapi.json").write_text(json.dumps(flatten(doc), indent=1, ensure_ascii=False) + "\n")
    write_schemas(doc, out / "schemas.py")
    write_templates(doc, out)
    tidy(out)


def tidy(out: Path) -> None:
    """Sort imports and lay out what was written, whatever folder this runs in and whatever is configured."""
    ruff = [sys.executable, "-m", "ruff"]
    ours = 'lint.isort.known-first-party=["specserve"]'
    check = ["check", "-q", "--isolated", "--fix", "--select", "I,F401", "--config", ours]
    # The generator wraps lines by settings near its output; its trailing commas must not keep that.
    wrap = ["--line-length", "110", "--config", "format.skip-magic-trailing-comma=true"]
    for arguments in (check, ["format", "-q", "--isolated", "--target-version", "py311", *wrap]):
        subprocess.run([*ruff, *arguments, str(out)], check=True)


def stale_files(output: Path) -> list[str]:
    """The files of `output` that are missing, left over, or not what would be written."""
    with tempfile.TemporaryDirectory() as scratch:
        write_all(Path(scratch))
        fresh = {name: (Path(scratch) / name).read_bytes() for name in FILES}
    present = {path.name: path.read_bytes() for path in output.glob("*") if path.is_file()}
    return sorted(name for name in fresh.keys() | present.keys() if fresh.get(name) != present.get(name))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write generated/ from openapi/.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is not fresh")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        if options.check:
            stale = stale_files(options.output)
            print("\n".join(f"stale: generated/{name}" for name in stale) or "generated/ is up to date")
            return int(bool(stale))
        options.output.mkdir(exist_ok=True)
        write_all(options.output)
    except ContractError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
