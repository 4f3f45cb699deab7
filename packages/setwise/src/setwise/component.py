"""The configuration of components: validated options, and the place in a configuration where a component is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, LiteralString, Self, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializationInfo,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from setwise.errors import PluginError, UnknownNameError, suggest
from setwise.plugin import ComponentSpec
from setwise.registry import Registry, default_registry

_NUMBERS = ("bool", "float", "int")
_OPAQUE = ("default", "metadata", "serialization")


def _strict_scalars(schema: Any) -> Any:
    """Return a copy of a core schema in which numbers and truth values are strict, and everything else is as it was."""
    if isinstance(schema, (list, tuple)):
        return type(schema)(_strict_scalars(item) for item in schema)
    if not isinstance(schema, dict):
        return schema
    copy = {key: value if key in _OPAQUE else _strict_scalars(value) for key, value in schema.items()}
    return {**copy, "strict": True} if copy.get("type") in _NUMBERS else copy


def problem_at(
    location: tuple[str | int, ...], kind: str, message: str, value: Any, context: Mapping[str, Any] | None = None
) -> InitErrorDetails:
    """Return an error of a validation whose message is shown as it is, for ``ValidationError.from_exception_data``."""
    # The message goes in as a value, not as the template, because it may contain braces.
    reason = PydanticCustomError(cast("LiteralString", kind), "{message}", {**(context or {}), "message": message})
    return InitErrorDetails(type=reason, loc=location, input=value)


class Options(BaseModel):
    """Base of every class of options: unknown keys are errors, numbers are numbers, and instances are frozen.

    Options say what they mean: ``true`` is no integer, ``"1"`` no number and ``1`` no truth value. Lists are taken for
    tuples and sets, and strings for paths, because YAML has nothing else.

    Example:
        >>> class SpanOptions(Options):
        ...     num_heads: int = 4
        >>> SpanOptions(num_heads=8).num_heads
        8
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _strict_scalars(handler(source))

    @model_validator(mode="wrap")
    @classmethod
    def _explain_keys(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Let the errors of unknown and missing keys say which keys there are, which only this class knows."""
        try:
            return handler(data)
        except ValidationError as error:
            explained = [cls._explained(each) for each in error.errors(include_url=False)]
            raise ValidationError.from_exception_data(error.title, explained) from None

    @classmethod
    def _explained(cls, error: Any) -> InitErrorDetails:
        kind, location, message = error["type"], error["loc"], error["msg"]
        if len(location) == 1 and kind == "extra_forbidden":
            kind, key = "unknown_key", str(location[0])
            message = f"unknown key{suggest(key, cls.model_fields) or _list_keys(cls)}"
        elif len(location) == 1 and kind == "missing":
            described = cls.model_fields.get(str(location[0]))
            message = f"missing; give {described.description}" if described and described.description else "missing"
        return problem_at(location, kind, message, error["input"], error.get("ctx"))


@dataclass(frozen=True)
class Component:
    """A registered component with its options, ready to be built.

    Attributes:
        kind: one of :data:`setwise.registry.KINDS`.
        name: qualified name, ``<plugin>/<name>``.
        options: an instance of the class of options that the component registered.
        spec: the record that registered it.
    """

    kind: str
    name: str
    options: BaseModel
    spec: ComponentSpec = field(repr=False, compare=False)

    def build(self, **keywords: Any) -> Any:
        """Import what builds the component and call it with the options and the keywords of its kind.

        Raises:
            PluginError: the code of the component cannot be imported.
        """
        return load_reference(self.name, self.spec, "build")(self.options, **keywords)


@dataclass(frozen=True)
class Slot:
    """A place in a configuration that a component of one kind fills: ``Annotated[Component, Slot("attentions")]``.

    It takes a bare name, or a mapping of a ``name`` and the options of what has that name, and looks the name up in
    ``context["registry"]`` of the validation, or else among the installed plugins.

    Args:
        kind: one of :data:`setwise.registry.KINDS`.
        default: name of the component when none is given; without it the name must be given.

    Example:
        >>> from typing import Annotated
        >>> class TinyOptions(Options):
        ...     attention: Annotated[Component, Slot("attentions", default="setwise/mha")]
        >>> TinyOptions.model_validate({"attention": {"num_heads": 2}}).attention.name
        'setwise/mha'
    """

    kind: str
    default: str | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = core_schema.with_info_plain_validator_function(
            self._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(_serialise, info_arg=True),
        )
        if self.default is None:
            return schema
        return core_schema.with_default_schema(schema, default=self.default, validate_default=True)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        name: JsonSchemaValue = {"type": "string"}
        section: JsonSchemaValue = {"type": "object", "properties": {"name": name}, "required": ["name"]}
        place: JsonSchemaValue = {
            "anyOf": [name, section],
            "description": f"one of the {self.kind}, by name or with its options",
            "x-setwise-kind": self.kind,
        }
        if self.default is None:
            return place
        del section["required"]
        return {**place, "default": self.default}

    def _validate(self, value: Any, info: ValidationInfo) -> Component:
        if isinstance(value, Component):
            if value.kind != self.kind:
                raise self._refusal((), "component_type", f"Input should be one of the {self.kind}", value.name)
            return value
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping):
            message = f"Input should be the name of one of the {self.kind}, or a mapping"
            raise self._refusal((), "component_type", message, value)
        options = dict(value)
        name = options.pop("name", self.default)
        if name is None:
            raise self._refusal(("name",), "missing", f"missing; name one of the {self.kind}", value)
        if not isinstance(name, str):
            raise self._refusal(("name",), "string_type", "Input should be a string", name)
        registry: Registry = (info.context or {}).get("registry") or default_registry()
        try:
            entry = registry.get(self.kind, name)
            config = load_reference(entry.qualified, entry.spec, "config")
        except (UnknownNameError, PluginError) as error:
            raise self._refusal(("name",), "unknown_name", str(error), name) from error
        return Component(self.kind, entry.qualified, config.model_validate(options, context=info.context), entry.spec)

    def _refusal(self, location: tuple[str, ...], kind: str, message: str, value: Any) -> ValidationError:
        return ValidationError.from_exception_data(self.kind, [problem_at(location, kind, message, value)])


def load_reference(name: str, spec: ComponentSpec, attribute: str) -> Any:
    """Import the ``build`` or the ``config`` of a component.

    Raises:
        PluginError: it cannot be imported, or the config is not what options have to be.
    """
    reference = getattr(spec, attribute)
    try:
        loaded = reference.load()
    except ImportError as error:
        raise PluginError(f"{name} cannot be used: importing {reference.target} failed: {error}") from error
    if attribute == "config" and not (isinstance(loaded, type) and issubclass(loaded, BaseModel)):
        raise PluginError(f"{name} cannot be used: {reference.target} is not a pydantic model")
    if attribute == "config" and "name" in loaded.model_fields:
        raise PluginError(f'{name} cannot be used: {reference.target} has a field "name", which names the component')
    return loaded


def _serialise(component: Component, info: SerializationInfo) -> dict[str, Any]:
    return {"name": component.name, **component.options.model_dump(mode=info.mode)}


def _list_keys(options: type[BaseModel]) -> str:
    return f"; the keys are {', '.join(options.model_fields)}" if options.model_fields else "; there are no keys to set"
