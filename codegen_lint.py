"""Rules for the documents of openapi/. Each yields one line per finding.

What they protect: a model that takes exactly what the document says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import jsonschema  # type: ignore[import-untyped]

from codegen_bundle import (
    ContractError,
    Json,
    admits_null,
    answered_with,
    common_answers,
    flatten,
    name_of,
    operations_of,
    request_schemas,
    response_of,
    subschemas,
    walk,
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
        about = response.get("x-error", {})
        if {"status", "type"} - about.keys():
            yield f"components.responses.{name}: x-error needs status and type"
        elif "for" in about:
            same = responses.get(about["for"], {}).get("x-error", {})
            if same.get("status") != about["status"] or not name.endswith(about["for"]):
                yield f"components.responses.{name}: stands for a response of its status, and is called after it"
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
            wanted.add(answer := answered_with(operation, catalogue[code]["response"]))
            if answer not in names:
                yield f"{here}: refusal {code} needs the response {answer}"
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
