"""String formats of JSON Schema as patterns, where the grammar library has none or is less strict than the RFC."""

from __future__ import annotations

from types import MappingProxyType

_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DATE = (
    "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_POINTER = "(?:/(?:[^~/]|~[01])*)*"

PATTERNS = MappingProxyType(
    {
        # RFC 3339, without leap seconds: whether there is one on a given day no grammar can know.
        "date": f"^{_DATE}$",
        "time": f"^{_TIME}$",
        "date-time": f"^{_DATE}T{_TIME}$",
        # RFC 6901 and the relative form built on it.
        "json-pointer": f"^{_POINTER}$",
        "relative-json-pointer": f"^(?:0|[1-9][0-9]*)(?:#|{_POINTER})$",
        # RFC 4648, as OpenAPI names it.
        "byte": "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
    }
)
BUILT_IN = frozenset("duration email hostname ipv4 ipv6 uuid uri".split())
"""Formats of the library itself."""
NARROWER = MappingProxyType(
    {
        "idn-email": "email",
        "idn-hostname": "hostname",
        "uri-reference": "uri",
        "uri-template": "uri",
        "iri": "uri",
        "iri-reference": "uri",
    }
)
"""Formats that are written as a narrower one: every text of the second is one of the first."""
ANYTHING = frozenset("password binary float double decimal".split())
"""Names that say nothing a grammar could add to the type."""
INTEGERS = MappingProxyType({"int32": (-(2**31), 2**31 - 1), "int64": (-(2**53), 2**53)})
"""Ranges of OpenAPI's formats of integers; int64 as far as bounds are exact."""
