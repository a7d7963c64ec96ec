"""Turns a failed validation into one line: the path, what was found, what was expected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from placer.errors import InputError, near_name

_EXPECTED = {
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of at most 1000000000",
    "string_type": "a text",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "list_type": "a list",
    "string_too_short": "a text that is not empty",
    "none_required": "null",
}


def show(value: object) -> str:
    """Return `value` as a user would recognise it from the file, cut to 60 characters."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return f"an object of {len(value)}" if value else "an empty object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    text = repr(value) if isinstance(value, str | float) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def path_text(parts: Sequence[str | int]) -> str:
    """Return `("models", 3, "demand", "a b")` as `models[3].demand["a b"]`."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier():
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def input_error(error: ValidationError, root: type[BaseModel]) -> InputError:
    """Return the first and most telling of the validation's complaints as an InputError."""
    complaints = error.errors(include_url=False)
    unknown = [c for c in complaints if c["type"] == "extra_forbidden"]
    complaint = (unknown or complaints)[0]
    location = complaint["loc"]
    path = _without_branches(location)
    if complaint["type"] in ("union_tag_invalid", "union_tag_not_found"):
        path = [*path, "kind"] if isinstance(complaint["input"], dict) else path
    return InputError(_message(complaint, _fields_at(root, location)), path=path_text(path))


_BRANCHES = {
    "solo_latency_ms": {"number", "map"},
    "slo": {"word", "object"},
    "unplaced": {"word", "object"},
    "interference": {"none", "pairwise", "groups", "predictor"},
}
_FEATURE_BRANCHES = {"number", "text", "null"}
_UNPLACED_BRANCHES = {"str", "UnplacedModel"}


def _without_branches(location: Sequence[str | int]) -> list[str | int]:
    """Drop the names that the validator puts in a path for the branch of a union it took."""
    parts: list[str | int] = []
    for index, part in enumerate(location):
        before = location[index - 1] if index else None
        if part == "[key]" or (isinstance(before, str) and part in _BRANCHES.get(before, ())):
            continue
        if index >= 2 and location[index - 2] == "features" and part in _FEATURE_BRANCHES:
            continue
        if index == 2 and location[0] == "unplaced" and part in _UNPLACED_BRANCHES:
            continue
        parts.append(part)
    return parts


def _message(complaint: Any, siblings: Sequence[str]) -> str:
    kind, context, found = complaint["type"], complaint.get("ctx", {}), complaint["input"]
    if kind == "extra_forbidden":
        name = str(complaint["loc"][-1])
        return f"unknown field{near_name(name, siblings)}; expected one of {', '.join(siblings)}"
    if kind == "missing":
        return "missing; this field is required"
    if kind == "union_tag_invalid":
        tags = context["expected_tags"].replace("'", "")
        tag = found.get("kind") if isinstance(found, dict) else context["tag"]
        return f"found {show(tag)}, expected one of {tags}" + near_name(
            str(context["tag"]), tags.split(", ")
        )
    if kind == "union_tag_not_found" and isinstance(found, dict):
        return f"found {show(found.get('kind'))}, expected the kind of interference"
    if kind == "union_tag_not_found":
        return f"found {show(found)}, expected an object with a field 'kind'"
    if complaint["loc"][-1] == "number":
        either = "null, a text or " if "features" in complaint["loc"] else ""
        either = "an object or " if complaint["loc"][-2] == "solo_latency_ms" else either
        return f"found {show(found)}, expected {either}{_expected(kind, context, '')}"
    if complaint["loc"][-1] == "str" and complaint["loc"][0] == "unplaced":
        return f"found {show(found)}, expected a model's name or an object with a field 'name'"
    if complaint["loc"][-1] in ("word", "object"):
        return f"found {show(found)}, expected 'forbid' or an object with a field 'penalty'"
    return f"found {show(found)}, expected {_expected(kind, context, complaint['msg'])}"


def _expected(kind: str, context: dict[str, Any], fallback: str) -> str:
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if kind == "greater_than_equal":
        return f"a number that is not below {context['ge']:g}"
    if kind == "greater_than":
        return f"a number above {context['gt']:g}"
    if kind == "less_than_equal":
        return f"a number of at most {context['le']:g}"
    if kind == "less_than":
        return f"a number below {context['lt']:g}"
    if kind in ("literal_error", "enum"):
        return str(context["expected"])
    if kind == "too_short":
        return f"at least {context['min_length']} entry"
    return fallback[0].lower() + fallback[1:]


def _fields_at(root: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Return the field names that the model at the parent of `location` knows."""
    candidates: list[type[BaseModel]] = [root]
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        deeper = [
            model
            for candidate in candidates
            for name, field in candidate.model_fields.items()
            if name == part
            for model in _models_in(field.annotation)
        ]
        if deeper:
            candidates = deeper
        else:
            kinds = [c for c in candidates if _kind_of(c) == part]
            candidates = kinds or candidates
    return sorted({name for candidate in candidates for name in candidate.model_fields})


def _kind_of(model: type[BaseModel]) -> object:
    field = model.model_fields.get("kind")
    return field.default if field is not None else None


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    if get_origin(annotation) is not None:
        for argument in get_args(annotation):
            yield from _models_in(argument)
