"""The card as a FHIR R4 DocumentReference.

EHRs already store and show documents, and a DocumentReference holds any rendering. The model itself is a contained Device, the
resource of R4 for software. Library is for knowledge artifacts that are executed, and a Device alone cannot hold a document.
"""

from __future__ import annotations

import base64
from typing import Any

from healthpredict.reporting.model_card.card import ModelCard
from healthpredict.reporting.model_card.chai import as_chai_xml
from healthpredict.reporting.model_card.page import as_html


def as_fhir(card: ModelCard) -> dict[str, Any]:
    """Render the card as a DocumentReference of FHIR R4 (http://hl7.org/fhir/R4/documentreference.html), as plain JSON data.

    Its attachments are the HTML page, the card as JSON, and CHAI's XML.
    """
    title = f"Model card: {card.name}, version {card.version}"
    created = card.created_at.isoformat(timespec="seconds")
    attachments = (
        ("text/html", as_html(card).encode(), "page"),
        ("application/json", card.model_dump_json().encode(), "data"),
        ("application/xml", as_chai_xml(card), "CHAI Applied Model Card 0.2"),
    )
    developer = card.governance.developer
    device = {
        "resourceType": "Device",
        "id": "model",
        "status": "active",
        "deviceName": [{"name": card.name, "type": "model-name"}],
        "type": {"text": "Predictive model (software)"},
        "version": [{"value": str(card.version)}],
        "note": [{"text": card.summary}],
    }
    organization = {"resourceType": "Organization", "id": "developer", "name": developer.name}
    document: dict[str, Any] = {
        "resourceType": "DocumentReference",
        "contained": [device, organization] if developer.name else [device],
        "status": "current",
        "docStatus": "preliminary" if card.missing else "final",
        "type": {"text": "Model card"},
        "subject": {"reference": "#model"},
        "date": created,
        "description": title,
        "content": [
            {
                "attachment": {
                    "contentType": kind,
                    "language": "en",
                    "data": base64.b64encode(content).decode(),
                    "title": f"{title} ({what})",
                    "creation": created,
                }
            }
            for kind, content, what in attachments
        ],
    }
    if developer.name:
        document["author"] = [{"reference": "#developer"}]
    return document
