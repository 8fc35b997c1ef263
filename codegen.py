"""Write generated/ from openapi/.

python codegen.py           bundle, overlay, lint, and write the files
python codegen.py --check   write nothing; exit 1 when generated/ is not what would be written

What is written: openapi.json (one flat document, published as it is), schemas.py (the wire types), base.py
(what they start from), errors.py (one exception class per code) and operations.py (one Protocol per tag, one
table of operations). Knows nothing of handlers and engine.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2
import jsonschema  # type: ignore[import-untyped]
import yaml
from datamodel_code_generator import InputFileType, LiteralType, PythonVersion, generate
from datamodel_code_generator.config import GenerateConfig
from datamodel_code_generator.enums import AllOfClassHierarchy, DataModelType
from datamodel_code_generator.format import Formatter

ROOT = Path(__file__).resolve().parent
SOURCE = ROOT / "openapi"
OUTPUT = ROOT / "generated"
HEADER = "# Written by codegen.py; change openapi/ instead."
FILES = ("__init__.py", "base.py", "errors.py", "openapi.json", "operations.py", "schemas.py")
Json = Any


class ContractError(Exception):
    """The documents contradict themselves or a rule; the message has one line per finding."""


# ---- bundle --------------------------------------------------------------------------------------
def walk(node: Json) -> Iterator[dict[str, Json]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def load(path: Path) -> dict[str, Json]:
    """Read one document. References into other files lose the file part: all documents end up in one."""
    # Through JSON, because YAML aliases are shared objects: an overlay would change several places at once.
    doc: dict[str, Json] = json.loads(json.dumps(yaml.safe_load(path.read_text())))
    for node in walk(doc):
        if isinstance(ref := node.get("$ref"), str) and not ref.startswith("#"):
            file, _, pointer = ref.partition("#")
            if not (path.parent / file).exists():
                raise ContractError(f"{path.name}: no file for {ref}")
            node["$ref"] = "#" + pointer
    return doc


def add(into: dict[str, Json], part: dict[str, Json], source: str) -> None:
    """Put one document's paths, components and error codes into the bundle; a name has one home."""
    components = {f"components.{kind}": entries for kind, entries in part.get("components", {}).items()}
    sections = {"paths": part.get("paths", {}), "x-error-codes": part.get("x-error-codes", {}), **components}
    for section, entries in sections.items():
        home = into
        for key in section.split("."):
            home = home.setdefault(key, {})
        for name, value in entries.items():
            if name in home:
                raise ContractError(f"{source}: {name} is already defined")
            home[name] = value


STEP = re.compile(r"\.(\w+)|\[((?:'[^']+',?)+)\]|\[\?\(@ == '([^']*)'\)\]")


def select(node: Json, steps: list[tuple[str, str, str]]) -> Iterator[tuple[Json, Json]]:
    """Yield (container, key) for a JSONPath made of .name, ['a','b'] and [?(@ == 'value')] steps."""
    (name, names, value), rest = steps[0], steps[1:]
    keys: list[Json]
    if value:
        keys = [i for i, item in enumerate(node) if item == value]
    else:
        keys = [key for key in ([name] if name else re.findall(r"'([^']+)'", names)) if key in node]
    for key in keys:
        if rest:
            yield from select(node[key], rest)
        else:
            yield node, key


def merge(old: Json, new: Json) -> Json:
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: merge(old[key], value) if key in old else value for key, value in new.items()}
    if isinstance(old, list) and isinstance(new, list) and "null" not in new:
        return old + new
    return new  # a scalar, or the list of types of a field that now admits null


def overlay(doc: dict[str, Json], layer: dict[str, Json], source: str) -> None:
    """Apply an OpenAPI Overlay 1.0 document. Stricter than that standard: a target that matches nothing is an
    error, and so is a name in a ['a','b'] step that is not there. The document moved under the extension."""
    for action in layer["actions"]:
        target = action["target"]
        steps = STEP.findall(target)
        if "$" + "".join(match.group() for match in STEP.finditer(target)) != target:
            raise ContractError(f"{source}: {target} is not a path this program knows")
        hits = list(select(doc, steps))
        wanted = 1
        for _, names, _ in steps:
            wanted *= max(1, len(re.findall(r"'([^']+)'", names)))
        if len(hits) < wanted:
            raise ContractError(f"{source}: nothing matches {target}" + (" in part" if hits else ""))
        for container, key in reversed(hits):
            if action.get("remove"):
                del container[key]
            else:
                container[key] = merge(container[key], copy.deepcopy(action["update"]))


def bundle(entry: Path, *, standard_only: bool = False) -> dict[str, Json]:
    """One document from the entry document and its sources; `standard_only` leaves the extensions out."""
    doc = load(entry)
    sources = doc.pop("x-sources")
    for name in sources["base"] + ([] if standard_only else sources["extensions"]):
        add(doc, load(entry.parent / name), name)
    for name in [] if standard_only else sources["overlays"]:
        overlay(doc, load(entry.parent / name), name)
    add_common_answers(doc)
    for node in walk(doc):
        if isinstance(ref := node.get("$ref"), str) and ref.startswith("#/components/"):
            _, _, kind, name = ref.split("/")
            if name not in doc["components"].get(kind, {}):
                raise ContractError(f"unresolved {ref}")
    return doc


def common_answers(doc: Json, operation: Json) -> set[str]:
    """The responses of codes that no operation lists, because all of its kind can answer with them."""
    kinds = {"any"} | ({"body"} if "requestBody" in operation else set())
    kinds |= {"key"} if operation.get("security", doc.get("security")) else set()
    return {entry["response"] for entry in doc.get("x-error-codes", {}).values() if entry.get("where") in kinds}


def add_common_answers(doc: dict[str, Json]) -> None:
    for _, _, operation in operations_of(doc):
        for name in common_answers(doc, operation):
            status = str(doc["components"]["responses"][name]["x-error"]["status"])
            operation["responses"].setdefault(status, {"$ref": f"#/components/responses/{name}"})
        operation["responses"] = dict(sorted(operation["responses"].items()))


def flatten(doc: dict[str, Json]) -> dict[str, Json]:
    """For readers and fuzzers: an object that mixes in others lists their properties itself, an error code says its
    status and type, and the envelope says which codes there are."""
    doc = copy.deepcopy(doc)
    catalogue = doc.get("x-error-codes", {})
    for entry in catalogue.values():
        entry.update(doc["components"]["responses"][entry["response"]]["x-error"])
        del entry["class"]
    if body := doc["components"]["schemas"].get("ErrorBody"):
        body["properties"]["code"].update(type="string", enum=list(catalogue))
        body["properties"]["type"].update(enum=sorted({entry["type"] for entry in catalogue.values()}))
    schemas = doc["components"]["schemas"]

    def flat(schema: Json) -> None:
        for part in schema.pop("allOf", []):
            other = schemas[name_of(part)]
            flat(other)
            schema["properties"] = schema.get("properties", {}) | copy.deepcopy(other["properties"])
            if required := schema.get("required", []) + other.get("required", []):
                schema["required"] = required

    for schema in schemas.values():
        schema.pop("x-codegen", None)
        flat(schema)
    return doc


def name_of(node: Json) -> str:
    """The component a reference names, or ''."""
    return str((node or {}).get("$ref", "")).rsplit("/", 1)[-1]


# ---- lint ----------------------------------------------------------------------------------------
# Each rule yields one line per finding. What they protect: a model that takes exactly what the document says.
def subschemas(schema: Json, where: str) -> Iterator[tuple[str, Json]]:
    """A schema and every schema written inside it (not those it refers to), each with its place."""
    if not isinstance(schema, dict):
        return
    yield where, schema
    for key, prop in schema.get("properties", {}).items():
        yield from subschemas(prop, f"{where}.{key}")
    for key in ("items", "additionalProperties", "propertyNames", "contentSchema"):
        yield from subschemas(schema.get(key), f"{where}.{key}")
    for key in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(key, []):
            yield from subschemas(part, where)


def operations_of(doc: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in doc["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def response_of(doc: Json, node: Json) -> Json:
    return doc["components"]["responses"][name_of(node)] if "$ref" in node else node


def request_schemas(doc: Json) -> dict[str, bool]:
    """Every component a request body can contain; true for those of forms."""
    schemas, seen = doc["components"]["schemas"], dict[str, bool]()

    def visit(name: str, form: bool) -> None:
        if name not in seen:
            seen[name] = form
            for _, part in subschemas(schemas[name], name):
                if "$ref" in part:
                    visit(name_of(part), form)

    for _, _, operation in operations_of(doc):
        for media, content in operation.get("requestBody", {}).get("content", {}).items():
            visit(name_of(content["schema"]), media != "application/json")
    return seen


def admits_null(doc: Json, schema: Json) -> bool:
    if "$ref" in schema:
        return admits_null(doc, doc["components"]["schemas"][name_of(schema)])
    kinds, parts = schema.get("type", []), schema.get("anyOf", []) + schema.get("oneOf", [])
    return (
        "null" in kinds
        or any(admits_null(doc, part) for part in parts)
        or not (kinds or parts or schema.keys() & {"enum", "const", "allOf"})
    )


def rule_optional_fields(doc: Json) -> Iterator[str]:
    """1: pydantic takes null for a field without default; so the document has to say it."""
    for name, form in request_schemas(doc).items():
        schema = doc["components"]["schemas"][name]
        for key, prop in schema.get("properties", {}).items():
            optional = key not in schema.get("required", []) and "default" not in prop
            if optional and not form and not admits_null(doc, prop):
                yield f"{name}.{key}: an optional request field needs a default or has to admit null"


def rule_forms(doc: Json) -> Iterator[str]:
    """2: a form has no null."""
    for name, form in request_schemas(doc).items():
        for key, prop in doc["components"]["schemas"][name].get("properties", {}).items():
            if form and admits_null(doc, prop):
                yield f"{name}.{key}: a form field cannot be null; leave it out instead"


def rule_mixins(doc: Json) -> Iterator[str]:
    """3, beside what add, overlay and bundle refuse: allOf mixes in named objects and does nothing else."""
    for name, schema in doc["components"]["schemas"].items():
        for where, part in subschemas(schema, name):
            mixins = part.get("allOf", [])
            if any("$ref" not in mixin for mixin in mixins) or (mixins and where != name):
                yield f"{where}: allOf is for references to field groups, at the top of a component"


BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
BOUNDS |= {"minLength", "maxLength", "pattern", "minItems", "maxItems"}


def rule_named_parts(doc: Json) -> Iterator[str]:
    """4: what becomes a class or an alias has a name; else the generator invents Prompt1 and Content3."""
    for name, schema in doc["components"]["schemas"].items():
        if schema.get("x-codegen") is False:
            continue
        for where, part in subschemas(schema, name):
            if where != name and part.get("properties"):
                yield f"{where}: an object with properties has to be a named component"
            inner = [branch for key in ("anyOf", "oneOf") for branch in part.get(key, [])]
            inner += [part[key] for key in ("items", "additionalProperties") if key in part]
            for branch in inner:
                if isinstance(branch, dict) and branch.keys() & BOUNDS:
                    yield f"{where}: a constrained part of a union, list or map has to be a named component"


def rule_integers(doc: Json) -> Iterator[str]:
    """5: JSON integers have no end; ours do."""
    for name in request_schemas(doc):
        for where, part in subschemas(doc["components"]["schemas"][name], name):
            bounded = {"minimum", "maximum"} <= part.keys() or {"enum", "const"} & part.keys()
            if "integer" in part.get("type", []) and not bounded:
                yield f"{where}: an integer in a request needs minimum and maximum"


def rule_formats(doc: Json) -> Iterator[str]:
    """6: as a URL type the text would come back changed, and large data URLs would be refused."""
    for name, schema in doc["components"]["schemas"].items():
        for where, part in subschemas(schema, name):
            if part.get("format") in ("uri", "uri-reference", "iri", "url"):
                yield f"{where}: no format {part['format']}; it would rewrite what the client sent"


DROPPED = {"dependentRequired", "dependentSchemas", "contains", "prefixItems", "not", "if", "uniqueItems"}
DROPPED |= {"minProperties", "unevaluatedItems"}


def rule_keywords(doc: Json) -> Iterator[str]:
    """7: the generated models would not check these."""
    for name in request_schemas(doc):
        for where, part in subschemas(doc["components"]["schemas"][name], name):
            for keyword in sorted(DROPPED & part.keys()):
                yield f"{where}: {keyword} is not checked by the generated models"
            if "oneOf" in part and "discriminator" not in part:
                yield f"{where}: oneOf needs a discriminator; without one say anyOf"
            elif "oneOf" in part:
                yield from mapping_gaps(doc, where, part)


def mapping_gaps(doc: Json, where: str, union: Json) -> Iterator[str]:
    key, mapping = union["discriminator"]["propertyName"], union["discriminator"].get("mapping", {})
    tags = dict[str, str]()
    for branch in union["oneOf"]:
        tag = doc["components"]["schemas"][name_of(branch)].get("properties", {}).get(key, {})
        tags |= {str(value): name_of(branch) for value in tag.get("enum", [tag.get("const")])}
    for value in sorted(tags.keys() | mapping.keys()):
        if tags.get(value) != name_of({"$ref": mapping.get(value, "")}):
            yield f"{where}: the discriminator does not map {value} to the branch that has it"


def rule_examples(doc: Json) -> Iterator[str]:
    """8: examples come first in the contract tests and in the documentation; each field has one.

    Operations that take the same body may share the work: a field is shown by one of them.
    """
    flat = flatten(doc)
    first = dict[str, str]()
    shown = dict[str, set[str]]()
    for _, _, operation in operations_of(flat):
        here, body = operation["operationId"], operation.get("requestBody", {})
        for media, content in body.get("content", {}).items():
            examples = content.get("examples", {})
            if not examples:
                yield f"{here}: the {media} body needs named examples"
                continue
            taken = name_of(content["schema"])
            first.setdefault(taken, here)
            shown.setdefault(taken, set()).update(*(example["value"] for example in examples.values()))
        for content in walk([body, operation["responses"]]):
            for name, example in content.get("examples", {}).items() if "schema" in content else ():
                schema = {**content["schema"], "components": flat["components"]}
                for error in jsonschema.Draft202012Validator(schema).iter_errors(example["value"]):
                    yield f"{here}: example {name}: {error.json_path}: {error.message[:200]}"
    for taken, here in first.items():
        fields = flat["components"]["schemas"].get(taken, {}).get("properties", {})
        # No example names a model: the document does not know what will be served.
        for key in sorted(fields.keys() - shown[taken] - {"model"}):
            yield f"{here}: no example shows {key}"


WHERE = ("any", "body", "key", "route", None)
PARAM_RULES = ("always", "never", "sometimes")


def rule_errors(doc: Json) -> Iterator[str]:
    """An operation refuses with catalogued codes whose answers it documents; the catalogue has no others."""
    catalogue, responses = doc.get("x-error-codes", {}), doc["components"].get("responses", {})
    used = {code for _, _, operation in operations_of(doc) for code in operation.get("x-refusals", [])}
    yield from catalogue_gaps(catalogue, responses)
    for name, response in responses.items():
        if {"status", "type"} - response.get("x-error", {}).keys():
            yield f"components.responses.{name}: x-error needs status and type"
        elif name not in {entry["response"] for entry in catalogue.values()}:
            yield f"components.responses.{name}: no code of x-error-codes is answered with it"
    for _, _, operation in operations_of(doc):
        here, documented = operation["operationId"], operation["responses"]
        names = {name_of(node) for node in documented.values()}
        for status, node in documented.items():
            named = response_of(doc, node).get("x-error", {}).get("status")
            if named and str(named) != status:
                yield f"{here}: {name_of(node)} is the answer for {named}, not {status}"
        wanted = common_answers(doc, operation)
        for code in operation.get("x-refusals", []):
            if code not in catalogue:
                yield f"{here}: refusal {code} is not in x-error-codes"
                continue
            wanted.add(catalogue[code]["response"])
            if catalogue[code]["response"] not in names:
                yield f"{here}: refusal {code} needs the response {catalogue[code]['response']}"
            if (where := catalogue[code].get("where")) not in (None, "body"):
                yield f"{here}: refusal {code} is for {where}; it is not listed by operations"
        for name in sorted((names & responses.keys()) - wanted):
            yield f"{here}: nothing is answered with {name}; list the refusal or remove the response"
    for code, entry in catalogue.items():
        if code not in used and "where" not in entry:
            yield f"x-error-codes.{code}: no operation refuses with it; remove it or say where it comes from"


def catalogue_gaps(catalogue: Json, responses: Json) -> Iterator[str]:
    """What an entry of the catalogue lacks or says wrongly."""
    classes = set(responses)
    for code, entry in catalogue.items():
        here = f"x-error-codes.{code}"
        if entry["response"] not in responses:
            yield f"{here}: there is no response {entry['response']}"
        if entry["class"] in classes:
            yield f"{here}: the class name {entry['class']} is taken"
        classes.add(entry["class"])
        if not re.fullmatch(r"[a-z][a-z0-9_]*", code):
            yield f"{here}: a code is written in lower case with underscores"
        if entry.get("param") not in PARAM_RULES:
            yield f"{here}: param has to be {', '.join(PARAM_RULES[:-1])} or {PARAM_RULES[-1]}"
        if entry.get("where") not in WHERE:
            yield f"{here}: where has to be left out or one of {', '.join(str(place) for place in WHERE[:-1])}"
        if not isinstance(entry.get("retryable"), bool) or not entry.get("summary"):
            yield f"{here}: retryable (true or false) and summary (one sentence) are needed"


RULES: tuple[Callable[[Json], Iterator[str]], ...] = (
    rule_optional_fields,
    rule_forms,
    rule_mixins,
    rule_named_parts,
    rule_integers,
    rule_formats,
    rule_keywords,
    rule_errors,
    rule_examples,
)


def lint(doc: dict[str, Json]) -> None:
    findings: list[str] = []
    for rule in RULES:
        if rule is not rule_examples or not findings:  # examples are judged by schemas that are sound themselves
            findings += rule(doc)
    if findings:
        raise ContractError("\n".join(findings))


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


def write_schemas(doc: dict[str, Json], out: Path) -> None:
    every = copy.deepcopy(doc["components"]["schemas"])
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
    # An error within a stream is raised by the iterator, so it is no part of what the iterator yields.
    if events := [f"schemas.{name}" for n in walk(event) if (name := name_of(n)) not in ("", "ErrorResponse")]:
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
        "result": " | ".join(results) or "None",
        "statuses": sorted(int(s) for s in operation["responses"]),
        "refusals": sorted(operation.get("x-refusals", [])),
        "events": bool(events),
        "empty": not results,
        "end_mark": any(node.get("const") == "[DONE]" for node in walk(event)),
    }


def write_templates(doc: dict[str, Json], out: Path) -> None:
    operations = [describe(doc, *entry) for entry in operations_of(doc)]
    # A fixed path before one with a parameter, so that a router which tries them in this order finds both.
    operations.sort(key=lambda op: ("{" in op["path"], op["tag"], op["id"]))
    errors = {}
    for name, response in sorted(doc["components"]["responses"].items(), key=lambda r: r[1]["x-error"]["status"]):
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
    values = {"header": HEADER, "operations": operations, "errors": errors}
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
