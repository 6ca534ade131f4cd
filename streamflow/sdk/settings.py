"""Settings: what a plugin lets its users choose, as a pydantic model that explains itself."""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretBytes,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)


class Settings(BaseModel):
    """A frozen model. The text below a field is its description; `Field` holds its range and an example.

    Fields that must never be shown are `SecretStr`. Unknown keys are refused. What is wrong with the settings as a whole
    is a `ValueError` in a `model_validator`, whose message names the keys that it is about.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_is_a_number(cls, value: object, info: ValidationInfo) -> object:
        # Strings do become numbers: that is how "${PORT}" fills one.
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and {annotation, *get_args(annotation)} & {int, float}:
            raise ValueError(f"should be a number, not {str(value).lower()}")
        return value


class AwsSettings(Settings):
    """How to reach AWS; what is left out comes from the environment and the shared files, as in every AWS SDK."""

    region: Annotated[str | None, Field(examples=["eu-west-1"])] = None
    """AWS region."""
    profile: Annotated[str | None, Field(examples=["production"])] = None
    """Profile of the shared configuration files."""
    endpoint_url: Annotated[str | None, Field(examples=["http://127.0.0.1:4566"], pattern=r"^https?://")] = None
    """Endpoint that replaces those of AWS, for local servers."""
    role_arn: Annotated[str | None, Field(examples=["arn:aws:iam::123456789012:role/orders"], pattern=r"^arn:")] = None
    """Execution role: assumed for polling, refreshed before it expires."""
    external_id: Annotated[str | None, Field(examples=["7f9c"])] = None
    """External id that the role asks for."""
    ca_bundle: Annotated[str | None, Field(examples=["/etc/ssl/private-ca.pem"])] = None
    """Certificates to trust instead of the default ones. TLS is always verified."""

    @model_validator(mode="after")
    def _external_id_needs_role(self) -> AwsSettings:
        if self.external_id is not None and self.role_arn is None:
            raise ValueError("external_id goes with role_arn")
        return self


def is_secret(model: type[BaseModel], name: str) -> bool:
    """Whether the field holds something, at any depth, that must not be shown."""
    field = model.model_fields.get(name)
    return field is not None and _holds_secret(field.annotation)


def _holds_secret(annotation: object) -> bool:
    return annotation in {SecretStr, SecretBytes} or any(map(_holds_secret, get_args(annotation)))
