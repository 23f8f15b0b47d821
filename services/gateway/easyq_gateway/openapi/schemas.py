"""Messages → schemas: what REST shows of them, and what it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from easyq_gateway.codec import flavours
from easyq_gateway.codec.rules import choices
from easyq_gateway.openapi import forms
from easyq_gateway.openapi.comments import Comments
from easyq_gateway.openapi.rules import Schema, is_required, keywords, rules_of, second_bounds

_INTEGERS: dict[int, Schema] = {
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    FieldDescriptor.TYPE_INT64: {"type": "integer", "format": "int64", "minimum": -(2**63), "maximum": 2**63 - 1},
    FieldDescriptor.TYPE_UINT64: {"type": "integer", "minimum": 0, "maximum": 2**64 - 1},
}
_SCALARS: dict[int, Schema] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number"},
    **_INTEGERS,
}
_BOUND_WORDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


class Schemas:
    """Schemas by reference; those that were referred to are in `components`."""

    def __init__(self, comments: Comments) -> None:
        self._comments = comments
        self.components: dict[str, Schema] = {}

    # ------------------------------------------------------------------------------------------------- what is shown
    def shown(self, descriptor: Descriptor) -> Schema:
        """Returns a reference to what answers have of a message: every field, null where it is unset."""
        known = forms.SHOWN.get(descriptor.full_name)
        if known is not None:
            return dict(known)
        return self._component(component_name(descriptor), lambda: self._shown_message(descriptor))

    def _shown_message(self, descriptor: Descriptor) -> Schema:
        fields = {field.json_name: self._described(field, self._shown_field(field)) for field in descriptor.fields}
        return self._object(descriptor, {"properties": fields, "required": list(fields)})

    def _shown_field(self, field: FieldDescriptor) -> Schema:
        if _is_map(field):
            return {"type": "object", "additionalProperties": self._shown_value(_entry(field))}
        value = self._shown_value(field)
        if field.is_repeated:
            return {"type": "array", "items": value}
        # An enum's zero says that nothing was set.
        return nullable(value) if field.has_presence or field.enum_type is not None else value

    def _shown_value(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None:
            return self.shown(field.message_type)
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        kind = _SCALARS[field.type]
        return {name: value for name, value in kind.items() if name not in _BOUND_WORDS}

    # ------------------------------------------------------------------------------------------------- what is taken
    def taken(self, descriptor: Descriptor) -> Schema:
        """Returns a reference to what requests may have of a message. Null is the same as leaving a field out."""
        name = component_name(descriptor)
        name = name if name.endswith("Request") else f"{name}Input"
        return self._component(name, lambda: self._taken_message(descriptor))

    def _taken_message(self, descriptor: Descriptor) -> Schema:
        required = [field.json_name for field in descriptor.fields if is_required(field)]
        fields = {
            field.json_name: self._described(
                field, self.taken_field(field) if is_required(field) else nullable(self.taken_field(field))
            )
            for field in descriptor.fields
        }
        made = self._object(descriptor, {"properties": fields, "additionalProperties": False})
        return {**made, "required": required} if required else made

    def taken_field(self, field: FieldDescriptor) -> Schema:
        """Returns what a field takes that is not null."""
        rules = rules_of(field)
        reader = flavours.VALUES.get(field.full_name)
        if _is_map(field):
            return self._taken_map(field)
        if field.is_repeated:
            items = {**self._taken_value(field), **keywords(rules.repeated.items)}
            made: Schema = {"type": "array", "items": items, **keywords(rules)}
        elif field.message_type is not None and field.message_type.full_name == forms.DURATION:
            made = forms.duration_taken(second_bounds(rules))
        else:
            made = {**self._taken_value(field), **keywords(rules)}
        return made if reader is None else forms.taken_by(reader, made)

    def _taken_map(self, field: FieldDescriptor) -> Schema:
        rules = rules_of(field)
        value = {**self._taken_value(_entry(field)), **keywords(rules.map.values)}
        reader = flavours.MAP_VALUES.get(field.full_name)
        # Where no reader of its own judges null, an entry that is null is left out.
        value = nullable(value) if reader is None else forms.taken_by(reader, value)
        names = keywords(rules.map.keys)
        made: Schema = {"type": "object", "additionalProperties": value, **keywords(rules)}
        return {**made, "propertyNames": names} if names else made

    def _taken_value(self, field: FieldDescriptor) -> Schema:
        if field.enum_type is not None:
            names, some = choices(field), len(field.enum_type.values) - 1
            return self._enum(field.enum_type) | ({"enum": list(names)} if len(names) < some else {})
        if field.message_type is None:
            return dict(_SCALARS[field.type])
        if field.message_type.full_name == forms.TIMESTAMP:
            return dict(forms.TIMESTAMP_TAKEN)
        if field.message_type.full_name == forms.STRUCT:
            return dict(forms.STRUCT_TAKEN)
        return self.taken(field.message_type)

    # --------------------------------------------------------------------------------------------------------- parts
    def _enum(self, descriptor: EnumDescriptor) -> Schema:
        return self._component(component_name(descriptor), lambda: self._enum_schema(descriptor))

    def _enum_schema(self, descriptor: EnumDescriptor) -> Schema:
        names = [value.name for value in descriptor.values if value.number]
        holder = descriptor.containing_type.full_name if descriptor.containing_type is not None else ""
        lines = [self._comments.get(descriptor.full_name) or self._comments.get(holder) or ""]
        for name in names:
            words = self._comments.get(f"{descriptor.full_name}.{name}")
            lines.append(f"- `{name}`: {words}" if words else f"- `{name}`")
        return {"type": "string", "enum": names, "description": "\n".join(lines).strip()}

    def _object(self, descriptor: Descriptor, members: Schema) -> Schema:
        words = self._comments.get(descriptor.full_name)
        return {"type": "object", **({"description": words} if words else {}), **members}

    def _described(self, field: FieldDescriptor, schema: Schema) -> Schema:
        words = self._comments.get(field.full_name)
        return {**schema, "description": words} if words else schema

    def _component(self, name: str, make: Callable[[], Schema]) -> Schema:
        if name not in self.components:
            self.components[name] = {}  # messages may hold themselves
            self.components[name] = make()
        return {"$ref": f"#/components/schemas/{name}"}


def component_name(descriptor: Descriptor | EnumDescriptor) -> str:
    """Returns `JobState` for `easyq.v1.Job.State`."""
    return "".join(descriptor.full_name.removeprefix(f"{descriptor.file.package}.").split("."))


def nullable(schema: Schema) -> Schema:
    """Returns the schema with null beside what it takes."""
    if isinstance(schema.get("type"), str) and "enum" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    return {"anyOf": [schema, {"type": "null"}]}


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _entry(field: Any) -> FieldDescriptor:
    value: FieldDescriptor = field.message_type.fields_by_name["value"]
    return value
