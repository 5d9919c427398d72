"""Where things are below a `data_uri`."""

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
        """A source as it was fetched."""
        return join(self.root, "raw", file)

    def batch(self, name: str) -> str:
        """The encounters of a batch as this system writes them: csv in raw form, without the outcome."""
        return join(self.batches_folder, f"{name}.csv")

    def outcomes(self, name: str) -> str:
        """The outcomes of a batch as this system writes them: csv of `encounter_id` and `readmitted`."""
        return join(self.outcomes_folder, f"{name}.csv")

    def processed(self, name: str) -> str:
        """The valid encounters of a batch's cohort: Parquet of an encounters frame."""
        return join(self.processed_folder, f"{name}.parquet")

    def accepted(self, name: str) -> str:
        """What became of the rows of a batch: JSON, written when all of it is there."""
        return join(self.processed_folder, f"{name}.json")

    def excluded(self, name: str) -> str:
        """The `encounter_id` of the valid encounters of a batch that are not at risk of readmission: Parquet."""
        return join(self.root, "excluded", f"{name}.parquet")

    def known_outcomes(self, name: str) -> str:
        """The outcomes of a batch that are used: Parquet of an outcomes frame."""
        return join(self.root, "known", f"{name}.parquet")

    def outcomes_check(self, name: str) -> str:
        """What became of the outcomes that were delivered for a batch: JSON."""
        return join(self.root, "known", f"{name}.json")

    def quarantine(self, name: str) -> str:
        """The bad rows of a batch: Parquet in raw form, with `reason`."""
        return join(self.root, "quarantine", f"{name}.parquet")

    def predictions(self, name: str) -> str:
        """The risks that were predicted for a batch: Parquet."""
        return join(self.root, "predictions", f"{name}.parquet")

    def check(self, name: str) -> str:
        """What a batch showed and what was decided: JSON, written when predictions and reports are there."""
        return join(self.root, "predictions", f"{name}.json")

    def collected(self, name: str) -> str:
        """Which objects of the prediction log a batch is made of: JSON, only for batches made from it."""
        return join(self.batches_folder, f"{name}.json")

    @property
    def logged_predictions(self) -> str:
        """The folder of shipped predictions of the API: Parquet."""
        return join(self.root, "predictions", "log")

    @property
    def logged_outcomes(self) -> str:
        """The folder of reported outcomes: Parquet of `time`, `encounter_id` and `readmitted`."""
        return join(self.root, "outcomes", "log")

    @property
    def manifest(self) -> str:
        """What was prepared: JSON, written when all of it is there."""
        return join(self.processed_folder, "manifest.json")

    @property
    def batches_folder(self) -> str:
        """The folder of the batches as they arrived."""
        return join(self.root, "batches")

    @property
    def outcomes_folder(self) -> str:
        """The folder of the outcomes as they arrived."""
        return join(self.root, "outcomes")

    @property
    def processed_folder(self) -> str:
        """The folder of the valid encounters of all batches."""
        return join(self.root, "processed")

    @property
    def prepared_folders(self) -> tuple[str, ...]:
        """Every folder that depends on how a source was cut."""
        names = ("batches", "outcomes", "processed", "excluded", "known", "quarantine", "predictions")
        return tuple(join(self.root, name) for name in names)

    @property
    def ledger(self) -> str:
        """The folder of the ledger."""
        return join(self.root, "ledger")

    def lease(self, name: str) -> str:
        """The object of a lease: who works on this data now."""
        return join(self.leases, f"{name}.json")

    @property
    def leases(self) -> str:
        """The folder of the leases."""
        return join(self.root, "leases")
