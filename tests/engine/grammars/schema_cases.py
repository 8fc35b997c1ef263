"""JSON schemas of every kind that the server enforces, from one keyword to whole documents."""

from __future__ import annotations

from typing import Any

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"value": {"type": "boolean"}, "next": {"$ref": "#/$defs/node"}},
            "required": ["value"],
            "additionalProperties": False,
        }
    },
}
SHAPE = {
    "oneOf": [
        {
            "type": "object",
            "properties": {"kind": {"const": "circle"}, "radius": {"type": "number", "exclusiveMinimum": 0}},
            "required": ["kind", "radius"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {
                "kind": {"const": "box"},
                "sides": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
            },
            "required": ["kind", "sides"],
            "additionalProperties": False,
        },
    ]
}
ORDER = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "placed": {"type": "string", "format": "date-time"},
        "customer": PERSON,
        "lines": {
            "type": "array",
            "minItems": 1,
            "maxItems": 2,
            "items": {
                "type": "object",
                "properties": {
                    "sku": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"},
                    "count": {"type": "integer", "minimum": 1, "maximum": 99},
                    "price": {"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 1000},
                },
                "required": ["sku", "count", "price"],
                "additionalProperties": False,
            },
        },
        "state": {"enum": ["new", "paid", "sent"]},
        "note": {"type": ["string", "null"], "maxLength": 5},
    },
    "required": ["id", "placed", "customer", "lines", "state", "note"],
    "additionalProperties": False,
}
BIG = {
    "type": "object",
    "properties": {
        f"field_{number:02}": {"type": "integer", "minimum": number, "maximum": number + 9} for number in range(16)
    },
    "required": [f"field_{number:02}" for number in range(16)],
    "additionalProperties": False,
}

SCHEMAS: dict[str, Any] = {
    "boolean": {"type": "boolean"},
    "null": {"type": "null"},
    "integer": {"type": "integer"},
    "bounded integer": {"type": "integer", "minimum": -17, "maximum": 231},
    "integer between exclusive bounds": {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5},
    "integer of 32 bits": {"type": "integer", "format": "int32"},
    "multiple of seven": {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 1000},
    "number": {"type": "number"},
    "bounded number": {"type": "number", "minimum": -1.5, "maximum": 2.75},
    "number between exclusive bounds": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "multiple of a tenth": {"type": "number", "multipleOf": 0.1},
    "short string": {"type": "string", "minLength": 2, "maxLength": 5},
    "pattern": {"type": "string", "pattern": "^[a-c]{2,4}$"},
    "pattern inside": {"type": "string", "pattern": "a+b", "maxLength": 9},
    "pattern of digits": {"type": "string", "pattern": r"^\d{2}\s\w$"},
    "pattern and length": {"type": "string", "pattern": "^a", "maxLength": 4},
    "date": {"type": "string", "format": "date"},
    "time": {"type": "string", "format": "time"},
    "date-time": {"type": "string", "format": "date-time"},
    "duration": {"type": "string", "format": "duration"},
    "email": {"type": "string", "format": "email", "maxLength": 30},
    "hostname": {"type": "string", "format": "hostname"},
    "ipv4": {"type": "string", "format": "ipv4"},
    "ipv6": {"type": "string", "format": "ipv6"},
    "uuid": {"type": "string", "format": "uuid"},
    "json-pointer": {"type": "string", "format": "json-pointer", "maxLength": 12},
    "base64": {"type": "string", "format": "byte", "maxLength": 12},
    "enum of many types": {"enum": ["a", 'é"\\\n', 1, 2.5, None, True, {"x": [1]}, []]},
    "constant object": {"const": {"a": [1, "x"], "b": None}},
    "nullable string": {"type": ["string", "null"], "maxLength": 3},
    "array with bounds": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    "array of arrays": {
        "type": "array",
        "maxItems": 2,
        "items": {"type": "array", "maxItems": 2, "items": {"type": "null"}},
    },
    "tuple": {
        "type": "array",
        "prefixItems": [{"type": "integer"}, {"type": "boolean"}],
        "items": False,
        "minItems": 2,
    },
    "tuple of draft 7": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "array",
        "items": [{"type": "boolean"}],
        "additionalItems": False,
    },
    "single item, unique": {"type": "array", "items": {"type": "boolean"}, "maxItems": 1, "uniqueItems": True},
    "object": PERSON,
    "object with optional properties": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}, "c": {"type": "null"}},
        "required": ["b"],
        "additionalProperties": False,
    },
    "open object": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    "map of booleans": {"type": "object", "additionalProperties": {"type": "boolean"}},
    "required but not described": {"type": "object", "required": ["z"], "additionalProperties": {"type": "boolean"}},
    "names by pattern": {
        "type": "object",
        "patternProperties": {"^x[0-9]$": {"type": "integer"}},
        "additionalProperties": False,
    },
    "names from a list": {
        "type": "object",
        "propertyNames": {"enum": ["a", "b.c"]},
        "additionalProperties": {"type": "boolean"},
    },
    "at least one property": {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 2,
        "additionalProperties": {"type": "boolean"},
    },
    "closed by unevaluatedProperties": {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "unevaluatedProperties": False,
    },
    "anyOf": {"anyOf": [{"type": "integer"}, {"type": "boolean"}]},
    "anyOf beside properties": {
        "type": "object",
        "properties": {"a": {"type": "boolean"}, "b": {"type": "boolean"}},
        "additionalProperties": False,
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    },
    "oneOf of different types": {"oneOf": [{"type": "integer"}, {"type": "string", "maxLength": 2}]},
    "oneOf told apart by a constant": SHAPE,
    "allOf": {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 9}]},
    "allOf of objects": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]},
            {"properties": {"b": {"type": "boolean"}}, "required": ["b"]},
        ],
        "maxProperties": 2,
    },
    "reference": {
        "type": "object",
        "properties": {"a": {"$ref": "#/properties/b"}, "b": {"type": "boolean"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
    "reference with neighbours": {"$ref": "#/$defs/a", "maximum": 5, "$defs": {"a": {"type": "integer", "minimum": 2}}},
    "definitions of draft 7": {"$ref": "#/definitions/x", "definitions": {"x": {"type": "boolean"}}},
    "recursive": TREE,
    "unicode": {
        "type": "object",
        "properties": {"größe": {"enum": ["klein", "groß", "🙂"]}},
        "required": ["größe"],
        "additionalProperties": False,
    },
    "unknown keywords": {"type": "boolean", "x-note": 1, "title": "t", "default": True, "examples": [True]},
    "anything": {},
    "true": True,
    "order": ORDER,
    "sixteen properties": BIG,
}
