"""The hospital's file of parameters for CDS Hooks, in TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import ErrorDetails

from healthpredict.errors import ConfigurationError

CDS_SERVICES = "/cds-services"
"""Path of the list of services. The paths of the services begin with it."""
_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _with_valid_port(url: str) -> str:
    _ = urlsplit(url).port  # raises ValueError
    return url


Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#]+[^\s?#]*$"), AfterValidator(_with_valid_port)]
"""An absolute URL without query."""
Origin = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#]+$")]
Phrase = Annotated[str, StringConstraints(min_length=1, max_length=60)]


class TrustedClient(BaseModel):
    """An EHR whose tokens are accepted.

    Attributes:
        issuer: `iss` of its tokens.
        jwks_url: URL of its public keys. It is the only accepted `jku` of its tokens.
        jwks_file: file of its public keys, if there is no URL; relative to the file of parameters.
    """

    model_config = _FROZEN

    issuer: str = Field(min_length=1)
    jwks_url: Url | None = None
    jwks_file: Path | None = None

    @model_validator(mode="after")
    def _has_keys(self) -> Self:
        if (self.jwks_url is None) == (self.jwks_file is None):
            raise ValueError("a client needs either jwks_url or jwks_file")
        return self


class Suggestion(BaseModel):
    """An order that a card suggests, as a draft ServiceRequest.

    Attributes:
        label: text of the button.
        code: code of the order.
        system: URI of the code system.
        display: name of the code.
    """

    model_config = _FROZEN

    label: Phrase
    code: str = Field(min_length=1)
    system: str = Field(min_length=1)
    display: str = Field(min_length=1)


class OverrideReason(BaseModel):
    """A reason that a clinician can give for dismissing a card."""

    model_config = _FROZEN

    code: str = Field(min_length=1)
    display: str = Field(min_length=1)


class CdsHooksParams(BaseModel):
    """How this service appears to EHRs, which of them it trusts, and what its cards contain.

    Attributes:
        base_url: URL of this service as EHRs call it, without `/cds-services`. Tokens must name it, and cards link to it.
        population: name of the patients that the model was tested on. A card gives the share of them who were readmitted.
        patient_view: whether the service also answers the hook `patient-view`.
        only_high_risk: whether a card is shown only for flagged encounters.
        critical_risk: risk (0-1) from which the indicator of a card is `critical`; by default it never is.
        suggestions: orders that a card with a high risk suggests.
        override_reasons: reasons for dismissing a card.
        origins: web origins whose pages may call the service in a browser (CORS).
        clients: EHRs whose tokens are accepted, besides API keys.
        fhir_servers: base URLs of FHIR servers that may be read with the token of a request.
        fhir_seconds: time limit for reading from a FHIR server.
    """

    model_config = _FROZEN

    base_url: Url | None = None
    population: Phrase = "inpatients with diabetes"
    patient_view: bool = False
    only_high_risk: bool = False
    critical_risk: float | None = Field(None, gt=0, lt=1)
    suggestions: tuple[Suggestion, ...] = (
        Suggestion(
            label="Order a follow-up call",
            code="185317003",
            system="http://snomed.info/sct",
            display="Telephone encounter",
        ),
    )
    override_reasons: tuple[OverrideReason, ...] = (
        OverrideReason(code="already-arranged", display="Follow-up is already arranged"),
        OverrideReason(code="patient-declined", display="The patient declined"),
        OverrideReason(code="not-appropriate", display="Not appropriate for this patient"),
        OverrideReason(code="risk-implausible", display="The risk is not plausible"),
        OverrideReason(code="no-capacity", display="No capacity for follow-up"),
    )
    origins: tuple[Origin, ...] = ()
    clients: tuple[TrustedClient, ...] = ()
    fhir_servers: tuple[Url, ...] = ()
    fhir_seconds: float = Field(2.0, gt=0)

    @model_validator(mode="after")
    def _tokens_name_this_service(self) -> Self:
        if self.clients and self.base_url is None:
            raise ValueError("clients need base_url, because a token names the URL that it was made for")
        return self


def read_params(path: Path) -> CdsHooksParams:
    """Read the file.

    Raises:
        ConfigurationError: it cannot be read, is not TOML, or a parameter is wrong. The message names it.
    """
    try:
        params = CdsHooksParams.model_validate(tomllib.loads(path.read_text()))
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error.strerror}). Name the file of parameters for CDS Hooks."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML ({error}). Correct it.") from error
    except ValidationError as error:
        problems = "; ".join(map(_problem, error.errors(include_input=False)))
        raise ConfigurationError(f"{path} has wrong parameters. {problems}.") from error
    clients = (
        client if client.jwks_file is None else client.model_copy(update={"jwks_file": path.parent / client.jwks_file})
        for client in params.clients
    )
    return params.model_copy(update={"clients": tuple(clients)})


def _problem(error: ErrorDetails) -> str:
    place, message = ".".join(map(str, error["loc"])), error["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
