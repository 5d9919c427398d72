"""The folders and objects below a `data_uri`."""

from __future__ import annotations

from dataclasses import dataclass

from healthpredict.storage.uris import join


@dataclass(frozen=True, slots=True)
class Layout:
    """The URIs below one local folder or `s3://bucket/prefix`.

    Attributes:
        root: the `data_uri`.
    """

    root: str

    def raw(self, file: str) -> str:
        """A data set as it was fetched."""
        return join(self.root, "raw", file)

    def batch(self, name: str) -> str:
        """The encounters of a batch that this system wrote: csv in raw form, without the outcome."""
        return join(self.batches_folder, f"{name}.csv")

    def outcomes(self, name: str) -> str:
        """The outcomes of a batch that this system wrote: csv of `encounter_id` and `readmitted`."""
        return join(self.outcomes_folder, f"{name}.csv")

    def processed(self, name: str) -> str:
        """The valid encounters of a batch's cohort: Parquet of an encounters frame."""
        return join(self.processed_folder, f"{name}.parquet")

    def accepted(self, name: str) -> str:
        """The result of accepting a batch: JSON, written after its other objects."""
        return join(self.processed_folder, f"{name}.json")

    def excluded(self, name: str) -> str:
        """The `encounter_id` of the valid encounters of a batch that are not at risk of readmission: Parquet."""
        return join(self.root, "excluded", f"{name}.parquet")

    def known_outcomes(self, name: str) -> str:
        """The valid outcomes of a batch: Parquet of an outcomes frame."""
        return join(self.root, "known", f"{name}.parquet")

    def outcomes_check(self, name: str) -> str:
        """The result of accepting the outcomes of a batch: JSON."""
        return join(self.root, "known", f"{name}.json")

    def interventions(self, name: str) -> str:
        """The interventions in a live batch, written by this system: csv of the columns of `INTERVENTION_COLUMNS`."""
        return join(self.root, "interventions", f"{name}.csv")

    def known_interventions(self, name: str) -> str:
        """The usable interventions in a batch: Parquet, see `CheckedInterventions.usable`."""
        return join(self.interventions_checks, f"{name}.parquet")

    def interventions_check(self, name: str) -> str:
        """The result of accepting the interventions in a batch: JSON."""
        return join(self.interventions_checks, f"{name}.json")

    @property
    def interventions_checks(self) -> str:
        """The folder of usable interventions and of the results of accepting them."""
        return join(self.root, "known", "interventions")

    def quarantine(self, name: str) -> str:
        """The bad rows of a batch: Parquet in raw form, with `reason`."""
        return join(self.root, "quarantine", f"{name}.parquet")

    def predictions(self, name: str) -> str:
        """The predicted risks of a batch: Parquet."""
        return join(self.root, "predictions", f"{name}.parquet")

    def out_of_fold(self, version: int) -> str:
        """What models that were not fitted on the patient predict for the training data of a version: Parquet."""
        return join(self.root, "out_of_fold", f"version-{version}.parquet")

    def live_predictions(self, name: str) -> str:
        """The risks that the API predicted for a batch made from its log: Parquet, only for such batches."""
        return join(self.root, "predictions", "live", f"{name}.parquet")

    def check(self, name: str) -> str:
        """Drift and decision of a batch: JSON, written after the reports and never changed."""
        return join(self.root, "predictions", f"{name}.json")

    def collected(self, name: str) -> str:
        """The objects of the prediction log that a batch was made from: JSON, only for such batches."""
        return join(self.batches_folder, f"{name}.json")

    @property
    def logged_predictions(self) -> str:
        """The folder of the API's shipped predictions: Parquet."""
        return join(self.root, "predictions", "log")

    @property
    def logged_outcomes(self) -> str:
        """The folder of reported outcomes: Parquet of `time`, `encounter_id` and `readmitted`."""
        return join(self.root, "outcomes", "log")

    @property
    def logged_feedback(self) -> str:
        """The folder of feedback on cards: Parquet of the fields of `prediction_log.lines.FeedbackLine`."""
        return join(self.root, "interventions", "log")

    @property
    def prepared(self) -> str:
        """The result of `prepare`: JSON, written after its other objects."""
        return join(self.processed_folder, "manifest.json")

    @property
    def batches_folder(self) -> str:
        """The folder of batches, delivered or written by this system."""
        return join(self.root, "batches")

    @property
    def outcomes_folder(self) -> str:
        """The folder of outcomes, delivered or written by this system."""
        return join(self.root, "outcomes")

    @property
    def processed_folder(self) -> str:
        """The folder of the valid encounters of all batches."""
        return join(self.root, "processed")

    @property
    def prepared_folders(self) -> tuple[str, ...]:
        """The folders that `prepare` writes, and those whose content depends on its batches."""
        of_batches = ("processed", "excluded", "known", "quarantine", "predictions")
        return tuple(join(self.root, name) for name in ("batches", "outcomes", *of_batches))

    @property
    def ledger(self) -> str:
        """The folder of the ledger."""
        return join(self.root, "ledger")

    def lease(self, name: str) -> str:
        """The object of a lease."""
        return join(self.leases, f"{name}.json")

    @property
    def leases(self) -> str:
        """The folder of the leases."""
        return join(self.root, "leases")
