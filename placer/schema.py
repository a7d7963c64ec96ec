"""The JSON Schemas of the file formats, generated from the classes that read them.

What names must agree with each other is beyond a schema; everything else that makes a file bad
is in it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DROPPED = ("title", "discriminator")
LIMITS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
"""What pydantic calls a limit that it cannot spell itself, and what JSON Schema calls it."""


def schema_of(which: str) -> dict[str, Any]:
    """Return the JSON Schema of `which`, "instance" or "placement"."""
    from placer.placement import Placement
    from placer.problem import Instance

    roots: dict[str, type[BaseModel]] = {"instance": Instance, "placement": Placement}
    schema: dict[str, Any] = _tidied(roots[which].model_json_schema(mode="validation"))
    schema["required"] = ["format", "version", *schema.get("required", [])]
    if which == "instance":
        _require_kind(schema["properties"]["interference"])
    return {"$schema": DIALECT, "title": f"placer/{which} version 1", **schema}


def schema_text(which: str) -> str:
    """Return the schema of `which` as the text of the file docs/<which>.schema.json."""
    return json.dumps(schema_of(which), indent=2, ensure_ascii=False) + "\n"


def _tidied(schema: Any) -> Any:
    """Return `schema` with its limits in JSON Schema's words and without pydantic's titles."""
    if isinstance(schema, list):
        return [_tidied(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    tidied: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            tidied[key] = {name: _tidied(part) for name, part in value.items()}
        elif key == "description":
            tidied[key] = " ".join(value.split())
        elif key not in DROPPED:
            tidied[LIMITS.get(key) or key] = _tidied(value)
    return tidied


def _require_kind(interference: dict[str, Any]) -> None:
    """Make the branches of the union exclusive: only `none` goes without its kind."""
    for branch in interference["oneOf"]:
        if not branch["$ref"].endswith("/NoInterference"):
            branch["required"] = ["kind"]
