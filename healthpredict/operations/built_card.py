"""The model card that becomes part of a bundle: what is known when the bundle is built."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlsplit

from healthpredict.bundle.build import MakeCard
from healthpredict.bundle.manifest import Manifest
from healthpredict.bundle.model import CARD, CARD_PAGE, Bundle, StoredCard
from healthpredict.data.contract import COLUMNS
from healthpredict.data.prepared import FHIR_SOURCE, PreparedData
from healthpredict.features.encoder import Encoder, columns_of
from healthpredict.monitoring.profile import ReferenceProfile
from healthpredict.operations.governance import read_governance
from healthpredict.operations.installation import Installation
from healthpredict.registry.models import Registry
from healthpredict.reporting.model_card.build import build_card
from healthpredict.reporting.model_card.card import History, ModelCard, Monitoring
from healthpredict.reporting.model_card.facts import CardFacts
from healthpredict.reporting.model_card.governance import Governance
from healthpredict.reporting.model_card.page import as_html
from healthpredict.storage.tables import read_json
from healthpredict.storage.uris import exists


def make_card(installation: Installation, encoder: Encoder, profile: ReferenceProfile | None) -> MakeCard:
    """Return what makes the card of a bundle.

    Args:
        installation: where the data set and the settings are.
        encoder: of the bundle.
        profile: the reference profile of the bundle, or None if it has none.

    Raises:
        ConfigurationError: see `read_governance`.
    """
    governance = read_governance(installation)

    def made(manifest: Manifest) -> StoredCard:
        card = card_of(installation, manifest, encoder, profile, governance)
        return StoredCard(card.model_dump_json().encode(), as_html(card).encode())

    return made


def card_of(
    installation: Installation,
    manifest: Manifest,
    encoder: Encoder,
    profile: ReferenceProfile | None,
    governance: Governance,
    *,
    bundle_digest: str | None = None,
    history: History | None = None,
    monitoring: Monitoring | None = None,
) -> ModelCard:
    """Build the card of a bundle; see `CardFacts` for the arguments."""
    settings = installation.settings
    used = {column for feature in encoder.feature_names for column in columns_of(feature)}
    return build_card(
        CardFacts(
            created_at=datetime.now(UTC),
            manifest=manifest,
            bundle_digest=bundle_digest,
            columns=tuple(column.field for column in COLUMNS if column.field in used),
            profile=profile,
            prepared=_prepared(installation),
            governance=governance,
            promised_alert_rate=settings.model.alert_rate,
            drift=settings.drift,
            promotion=settings.promotion,
            label_delay=settings.label_delay,
            history=history or History(),
            monitoring=monitoring,
        )
    )


def profile_of(bundle: Bundle) -> ReferenceProfile | None:
    """Return the reference profile of a bundle, or None if it has none."""
    stored = bundle.reference()
    return ReferenceProfile.model_validate(stored) if stored else None


def log_card(registry: Registry, run_id: str, bundle: Bundle) -> None:
    """Log the card of a bundle to its MLflow run, where people find it more easily than in the bundle."""
    if bundle.card is not None:
        registry.log_files(run_id, "model_card", {CARD: bundle.card.data, CARD_PAGE: bundle.card.page})


def _prepared(installation: Installation) -> PreparedData | None:
    uri = installation.layout.prepared
    return without_place(PreparedData.model_validate(read_json(uri))) if exists(uri) else None


def without_place(found: PreparedData) -> PreparedData:
    """Return what `prepare` recorded, without the place of the source: descriptions leave the hospital.

    Of a file, a folder or a bucket, only the last name stays, and of a web page the address without login and parameters.
    """
    kind = FHIR_SOURCE if found.source.startswith(FHIR_SOURCE) else ""
    place = found.source.removeprefix(kind)
    url = urlsplit(place)
    is_web = url.scheme in ("http", "https")
    shown = f"{url.scheme}://{url.hostname}{url.path}" if is_web else place.rstrip("/").rpartition("/")[2]
    return found.model_copy(update={"source": f"{kind}{shown}"})
