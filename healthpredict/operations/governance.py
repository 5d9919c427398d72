"""What the hospital states on the model card."""

from __future__ import annotations

from healthpredict.errors import ConfigurationError, NotFound
from healthpredict.operations.installation import Installation
from healthpredict.reporting.model_card.governance import Governance, parse_governance
from healthpredict.storage.uris import read_bytes


def read_governance(installation: Installation) -> Governance:
    """Return what the hospital states. Without a file in the settings, every text is empty.

    Raises:
        ConfigurationError: the file cannot be read, is not YAML, or contains unknown names or values that are not text.
    """
    path = installation.settings.governance_path
    if path is None:
        return Governance()
    try:
        text = read_bytes(str(path)).decode()
    except NotFound as error:
        raise ConfigurationError(
            f"There is no file {path}, which HEALTHPREDICT_GOVERNANCE_PATH names. `healthpredict card --template` "
            "prints an empty one."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text.") from error
    return parse_governance(text, str(path))
