"""The key for the pseudonyms of patients. The ledger records its fingerprint, so the key is never replaced silently."""

from __future__ import annotations

import logging
from pathlib import Path

from healthpredict.errors import ConfigurationError
from healthpredict.operations.installation import Installation
from healthpredict.prediction_log.patient_key import fingerprint, make_patient_key, read_patient_key
from healthpredict.prediction_log.rolled_file import PREDICTIONS
from healthpredict.storage.uris import list_uris

_logger = logging.getLogger(__name__)
_KIND = "patient_key"
_ADVICE = (
    "Restore the file from a backup. If the key is lost for good, `healthpredict keys patient --new --because REASON` starts "
    "with new pseudonyms: nobody will recognise earlier patients again."
)


def ensure_patient_key(installation: Installation, path: Path | None = None) -> bytes:
    """Return the key. Make one if none exists and no prediction was logged with an earlier key.

    Args:
        installation: where the ledger, the log and the key are.
        path: file of the key; by default, that of the settings.

    Raises:
        ConfigurationError: predictions were logged, and the key is missing or is not the one that the ledger names; or the file
            cannot be read or written.
        StorageError: the ledger cannot be read or written.
    """
    path = path or installation.settings.patient_key_path
    ledger = installation.ledger
    known = ledger.last(_KIND)
    if not path.exists() and has_logged_predictions(installation):
        which = f" The ledger names the key with fingerprint {known['fingerprint']}." if known else ""
        raise ConfigurationError(
            f"The patient key {path} is missing, and predictions were logged with it.{which} {_ADVICE}"
        )
    because = "the key file existed" if path.exists() else "made, because nothing was logged with another key"
    make_patient_key(path)
    key = read_patient_key(path)
    found = fingerprint(key)
    if known is not None and known["fingerprint"] == found:
        return key
    if known is not None and has_logged_predictions(installation):
        raise ConfigurationError(
            f"The patient key {path} has the fingerprint {found}, but predictions were logged with the key {known['fingerprint']}. "
            f"{_ADVICE}"
        )
    ledger.append(_KIND, key=f"{_KIND} {found}", fingerprint=found, because=because)
    return key


def start_new_patient_key(installation: Installation, because: str, path: Path | None = None) -> Path | None:
    """Replace the key, and record the reason in the ledger. New pseudonyms do not match those of earlier predictions.

    Returns:
        Path to which the earlier key was moved, or None if it was missing.

    Raises:
        ConfigurationError: no reason is given, or the file cannot be written.
        StorageError: the ledger cannot be written.
    """
    if not because.strip():
        raise ConfigurationError("Give a reason for the ledger: --because REASON.")
    path = path or installation.settings.patient_key_path
    kept = None
    if path.exists():
        kept = path.with_name(f"{path.name}.{fingerprint(read_patient_key(path))}")
        path.replace(kept)
    make_patient_key(path)
    found = fingerprint(read_patient_key(path))
    installation.ledger.append(_KIND, fingerprint=found, because=because.strip())
    _logger.warning("Running services use the earlier key until they are restarted or rolled out again")
    return kept


def has_logged_predictions(installation: Installation) -> bool:
    """Return whether predictions are in the log of this host or were shipped to the store."""
    folder = installation.settings.prediction_log_path
    waiting = folder.is_dir() and any(folder.glob(f"{PREDICTIONS}-*"))
    return waiting or bool(list_uris(installation.layout.logged_predictions, suffix=".parquet"))
