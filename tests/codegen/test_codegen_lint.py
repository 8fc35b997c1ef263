"""Every lint rule finds what it is for, and nothing in a sound document."""

import copy
from collections.abc import Callable

import pytest

import codegen
import codegen_bundle
import codegen_lint


def sound() -> dict:
    """A small document without findings."""
    envelope = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "info": {"title": "pets", "version": "1"},
        "paths": {
            "/pets": {
                "post": {
                    "operationId": "create_pet",
                    "tags": ["pets"],
                    "summary": "Add a pet.",
                    "x-refusals": ["no_such_owner"],
                    "requestBody": {
                        "content": {
                            "application/json": {
                                "schema": {"$ref": "#/components/schemas/Pet"},
                                "examples": {"full": {"value": {"name": "Rex", "age": 3, "toy": {"type": "ball"}}}},
                            }
                        }
                    },
                    "responses": {
                        "200": {"description": "Added."},
                        "404": {"$ref": "#/components/responses/NotFound"},
                    },
                }
            }
        },
        "x-error-codes": {
            "no_such_owner": {
                "response": "NotFound",
                "class": "NoSuchOwner",
                "param": "never",
                "retryable": False,
                "summary": "Nobody of that name has pets.",
            }
        },
        "components": {
            "responses": {
                "NotFound": {
                    "description": "Not here.",
                    "x-error": {"status": 404, "type": "invalid_request_error"},
                    "content": envelope,
                }
            },
            "schemas": {
                "Error": {"type": "object", "properties": {"message": {"type": "string"}}},
                "Ball": {"type": "object", "required": ["type"], "properties": {"type": {"const": "ball"}}},
                "Rope": {"type": "object", "required": ["type"], "properties": {"type": {"const": "rope"}}},
                "Toy": {
                    "oneOf": [{"$ref": "#/components/schemas/Ball"}, {"$ref": "#/components/schemas/Rope"}],
                    "discriminator": {
                        "propertyName": "type",
                        "mapping": {"ball": "#/components/schemas/Ball", "rope": "#/components/schemas/Rope"},
                    },
                },
                "Pet": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string"},
                        "age": {"type": ["integer", "null"], "minimum": 0, "maximum": 99},
                        "toy": {"anyOf": [{"$ref": "#/components/schemas/Toy"}, {"type": "null"}]},
                    },
                },
            },
        },
    }


def pet(doc: dict) -> dict:
    return doc["components"]["schemas"]["Pet"]["properties"]


def body(doc: dict) -> dict:
    return operation(doc)["requestBody"]["content"]


def operation(doc: dict) -> dict:
    return doc["paths"]["/pets"]["post"]


def findings(doc: dict) -> str:
    try:
        codegen_lint.lint(doc)
    except codegen_bundle.ContractError as error:
        return str(error)
    return ""


def test_a_sound_document_has_no_findings():
    assert findings(sound()) == ""


CASES: dict[str, tuple[Callable[[dict], object], str]] = {
    "1 optional without default or null": (
        lambda doc: pet(doc)["age"].update(type="integer"),
        "Pet.age: an optional request field needs a default or has to admit null",
    ),
    "1 within a union": (
        lambda doc: doc["components"]["schemas"]["Ball"]["properties"].update(size={"type": "string"}),
        "Ball.size: an optional request field needs a default",
    ),
    "2 null in a form": (
        lambda doc: operation(doc)["requestBody"].update(
            content={"multipart/form-data": body(doc)["application/json"]}
        ),
        "Pet.age: a form field cannot be null",
    ),
    "3 anonymous mixin": (
        lambda doc: doc["components"]["schemas"]["Pet"].update(allOf=[{"type": "object", "properties": {}}]),
        "Pet: allOf is for references to field groups",
    ),
    "3 allOf within a property": (
        lambda doc: pet(doc)["toy"].update(anyOf=[{"allOf": [{"$ref": "#/components/schemas/Toy"}]}]),
        "Pet.toy: allOf is for references to field groups",
    ),
    "4 anonymous object": (
        lambda doc: pet(doc).update(home={"type": ["object", "null"], "properties": {"city": {"type": "null"}}}),
        "Pet.home: an object with properties has to be a named component",
    ),
    "4 constrained items": (
        lambda doc: pet(doc).update(names={"type": ["array", "null"], "items": {"type": "string", "minLength": 1}}),
        "Pet.names: a constrained part of a union, list or map has to be a named component",
    ),
    "5 unbounded integer": (
        lambda doc: pet(doc)["age"].pop("maximum"),
        "Pet.age: an integer in a request needs minimum and maximum",
    ),
    "6 URL format": (
        lambda doc: pet(doc)["name"].update(format="uri"),
        "Pet.name: no format uri",
    ),
    "7 dropped keyword": (
        lambda doc: doc["components"]["schemas"]["Pet"].update(dependentRequired={"age": ["toy"]}),
        "Pet: dependentRequired is not checked by the generated models",
    ),
    "7 union without discriminator": (
        lambda doc: doc["components"]["schemas"]["Toy"].pop("discriminator"),
        "Toy: oneOf needs a discriminator",
    ),
    "7 branch that is not mapped": (
        lambda doc: doc["components"]["schemas"]["Toy"]["discriminator"]["mapping"].pop("rope"),
        "Toy: the discriminator does not map rope",
    ),
    "7 mapping to another branch": (
        lambda doc: doc["components"]["schemas"]["Toy"]["discriminator"]["mapping"].update(
            rope="#/components/schemas/Ball"
        ),
        "Toy: the discriminator does not map rope",
    ),
    "8 no examples": (
        lambda doc: body(doc)["application/json"].pop("examples"),
        "create_pet: the application/json body needs named examples",
    ),
    "8 example of a wrong shape": (
        lambda doc: body(doc)["application/json"]["examples"]["full"]["value"].update(age=100),
        r"create_pet: example full: $.age: 100 is greater than the maximum",
    ),
    "8 field that no example shows": (
        lambda doc: body(doc)["application/json"]["examples"]["full"]["value"].pop("toy"),
        "create_pet: no example shows toy",
    ),
    "errors: unknown code": (
        lambda doc: operation(doc).update({"x-refusals": ["no_such_owner", "too_wild"]}),
        "create_pet: refusal too_wild is not in x-error-codes",
    ),
    "errors: undocumented answer": (
        lambda doc: operation(doc)["responses"].pop("404"),
        "create_pet: refusal no_such_owner needs the response NotFound",
    ),
    "errors: answer under another status": (
        lambda doc: operation(doc)["responses"].update({"410": operation(doc)["responses"]["404"]}),
        "create_pet: NotFound is the answer for 404, not 410",
    ),
    "errors: another envelope without its answer": (
        lambda doc: operation(doc).update({"x-errors": "Pet"}),
        "create_pet: refusal no_such_owner needs the response PetNotFound",
    ),
    "errors: another envelope with another status": (
        lambda doc: doc["components"]["responses"].update(
            PetNotFound={"x-error": {"status": 410, "type": "gone", "for": "NotFound"}}
        ),
        "components.responses.PetNotFound: stands for a response of its status, and is called after it",
    ),
    "errors: unused code": (
        lambda doc: operation(doc).pop("x-refusals"),
        "x-error-codes.no_such_owner: no operation refuses with it",
    ),
    "errors: code of no response": (
        lambda doc: doc["x-error-codes"]["no_such_owner"].update(response="Gone"),
        "x-error-codes.no_such_owner: there is no response Gone",
    ),
    "errors: class name taken": (
        lambda doc: doc["x-error-codes"]["no_such_owner"].update({"class": "NotFound"}),
        "x-error-codes.no_such_owner: the class name NotFound is taken",
    ),
    "errors: answer without a code": (
        lambda doc: (
            doc["components"]["responses"].update(Gone=doc["components"]["responses"]["NotFound"]),
            operation(doc)["responses"].update({"410": {"$ref": "#/components/responses/Gone"}}),
        ),
        "components.responses.Gone: no code of x-error-codes is answered with it",
    ),
    "errors: answer that no refusal needs": (
        lambda doc: doc["paths"].update(
            {"/toys": {"get": {**operation(doc), "operationId": "list_toys", "requestBody": {}, "x-refusals": []}}}
        ),
        "list_toys: nothing is answered with NotFound; list the refusal or remove the response",
    ),
    "errors: unknown param rule": (
        lambda doc: doc["x-error-codes"]["no_such_owner"].update(param="now and then"),
        "x-error-codes.no_such_owner: param has to be always, never or sometimes",
    ),
    "errors: unknown place": (
        lambda doc: doc["x-error-codes"]["no_such_owner"].update(where="everywhere"),
        "x-error-codes.no_such_owner: where has to be left out or one of any, body, key, route",
    ),
    "errors: no summary": (
        lambda doc: doc["x-error-codes"]["no_such_owner"].pop("summary"),
        "x-error-codes.no_such_owner: retryable (true or false) and summary (one sentence) are needed",
    ),
    "errors: code in capitals": (
        lambda doc: doc["x-error-codes"].update(NoOwner=doc["x-error-codes"]["no_such_owner"] | {"class": "NoOwner"}),
        "x-error-codes.NoOwner: a code is written in lower case with underscores",
    ),
    "errors: response without status": (
        lambda doc: doc["components"]["responses"]["NotFound"].pop("x-error"),
        "components.responses.NotFound: x-error needs status and type",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_rule_finds_what_it_is_for(case):
    spoil, message = CASES[case]
    doc = sound()
    spoil(doc)
    assert message in findings(doc)


def test_codes_for_every_path_need_no_operation():
    doc = sound()
    operation(doc).pop("x-refusals")
    doc["x-error-codes"]["no_such_owner"]["where"] = "any"
    assert findings(doc) == ""
    operation(doc)["x-refusals"] = ["no_such_owner"]
    assert "refusal no_such_owner is for any; it is not listed by operations" in findings(doc)


def test_answers_of_all_operations_of_a_kind_are_added_to_them():
    doc = sound()
    for name, status, where in (("Broken", 500, "any"), ("Slow", 408, "body"), ("Locked", 401, "key")):
        answer = {"x-error": {"status": status, "type": "error"}}
        doc["components"]["responses"][name] = doc["components"]["responses"]["NotFound"] | answer
        entry = {"response": name, "class": f"Is{name}", "where": where}
        doc["x-error-codes"][name.lower()] = doc["x-error-codes"]["no_such_owner"] | entry
    doc["paths"]["/pets"]["get"] = {"operationId": "list", "security": [], "responses": {"200": {}}}
    doc["security"] = [{"bearer": []}]
    codegen_bundle.add_common_answers(doc)
    assert list(operation(doc)["responses"]) == ["200", "401", "404", "408", "500"]
    assert list(doc["paths"]["/pets"]["get"]["responses"]) == ["200", "500"]
    assert findings(doc) == ""


def test_the_generator_may_invent_no_names(tmp_path):
    """Behind rule 4: what comes out is looked at too, so a new way of inventing names cannot slip through."""
    doc = copy.deepcopy(sound())
    pet(doc)["names"] = {"anyOf": [{"type": "array", "minItems": 1, "items": {"type": "string"}}, {"type": "null"}]}
    with pytest.raises(codegen_bundle.ContractError, match=r"schemas\.py: \w+ is not a component"):
        codegen.write_schemas(doc, tmp_path / "schemas.py")


def test_a_path_and_its_parameters_must_agree():
    with pytest.raises(codegen_bundle.ContractError, match="create_pet: the path and its parameters disagree"):
        codegen.describe(sound(), "/pets/{name}", "post", operation(sound()))
