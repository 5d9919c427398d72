"""What the endpoints share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from time import time_ns
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from healthpredict.bundle.model import Bundle
from healthpredict.features.encoder import Value
from healthpredict.prediction_log.lines import LogEntry
from healthpredict.prediction_log.writer import PredictionLog
from healthpredict.serving.hold_out import HoldOut
from healthpredict.serving.limits import Limits
from healthpredict.serving.metrics import Metrics


@dataclass
class Service:
    """What the endpoints share.

    Attributes:
        bundle: the bundle that is served now. A reload replaces it.
        limits: limits of requests.
        metrics: counters of requests, predictions and problems.
        log: log of predictions and outcomes, or None.
        silent: whether predictions are logged, but issue no flag and no card.
        hold_out: which flags are held back at random; None if none is.
    """

    bundle: Bundle
    limits: Limits
    metrics: Metrics
    log: PredictionLog | None
    silent: bool = False
    hold_out: HoldOut | None = None

    def issue(self, bundle: Bundle, prediction: dict[str, Any], encounter_id: Value) -> dict[str, Any]:
        """Return the fields of a prediction with the flag as it is issued: null in silence, and false if it is held back.

        Args:
            bundle: that predicted.
            prediction: fields of a `Prediction`.
            encounter_id: None if the request has none.
        """
        if self.silent:
            return prediction | {"high_risk": None}
        if self.hold_out is None:
            return prediction
        held = self.hold_out.holds_back(prediction["readmission_risk"], bundle.manifest.threshold, encounter_id)
        return prediction | {"high_risk": False} if held else prediction

    def log_prediction(
        self, endpoint: str, dry_run: bool, answered: Mapping[str, Any], encounter: Iterable[Value]
    ) -> None:
        """Log a prediction, if there is a log.

        Args:
            endpoint: path of the request.
            dry_run: whether the caller said that the encounter is not a real one.
            answered: fields of an `Identified` prediction, as issued.
            encounter: values of `RECORD_COLUMNS`, in this order.
        """
        if self.log is None:
            return
        probability = None
        if self.hold_out is not None and not self.silent:
            probability = self.hold_out.probability(
                answered["readmission_risk"], answered["threshold"], next(iter(encounter))
            )
        self.log.add(LogEntry(time_ns(), endpoint, dry_run, answered, encounter, probability))


class RawBodyRoute(APIRoute):
    """A route whose endpoint takes the request, reads its body and returns the response.

    FastAPI documents it and handles its exceptions, but does not read or validate the body.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the endpoint itself."""
        return self.endpoint
