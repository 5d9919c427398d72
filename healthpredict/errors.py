"""The errors a caller can act on.

Each class is one decision for the caller and builds its own message from facts: what, which value, what to do next.
Values of patients never enter a message; column names, counts, versions and URIs do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class HealthPredictError(Exception):
    """Base of all errors raised on purpose. The command line shows the message without a traceback.

    Attributes:
        exit_code: of a process that ends with the error.
    """

    exit_code: ClassVar[int] = 1


class ConfigurationError(HealthPredictError):
    """A setting is missing or wrong: change the setting and start again."""

    exit_code = 2


class SourceError(HealthPredictError):
    """The data set cannot be reached, read or trusted: choose another source."""

    exit_code = 3


class BatchRefused(HealthPredictError):
    """A whole batch breaks the contract. Nothing of it was used and it was left where it was."""

    exit_code = 4

    def __init__(self, batch: str, problem: str) -> None:
        """Args: batch, the name or URI; problem, what is wrong and what to do next, without a final stop."""
        super().__init__(f"Batch {batch!r} refused: {problem}. It was left where it was.")
        self.batch = batch
        self.problem = problem


class NothingToPredict(BatchRefused):
    """A batch keeps the contract, but has no encounter to predict."""


class StillArriving(HealthPredictError):
    """A file is perhaps not complete: wait, and look again."""

    exit_code = 4

    def __init__(self, file: str, why: str) -> None:
        """Args: file, its path below the data URI; why, without a final stop."""
        super().__init__(f"{file} is not read yet: {why}.")


class Removed(StillArriving):
    """A file was removed after it had been listed. Nothing of it was used."""

    def __init__(self, file: str) -> None:
        """Args: file, its path below the data URI."""
        HealthPredictError.__init__(self, f"{file} was removed before it was read.")


class MissingColumns(BatchRefused):
    """The columns of a batch are not those of the contract."""

    def __init__(self, batch: str, missing: Sequence[str], unexpected: Sequence[str] = ()) -> None:
        """Args: batch, the name or URI; missing and unexpected, column names."""
        problem = f"missing columns: {', '.join(missing) or 'none'}"
        if unexpected:
            problem += f"; unexpected columns: {', '.join(unexpected)}"
        super().__init__(batch, f"{problem}; rename them to the contract's names")
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)


class NotEnoughData(HealthPredictError):
    """Too few rows, or one class only: wait for more matured outcomes."""

    exit_code = 5


class LeakSuspected(HealthPredictError):
    """A metric is better than this problem allows: a bug until proved otherwise."""

    exit_code = 6

    def __init__(self, what: str, auroc: float, limit: float) -> None:
        """Args: what was measured; its AUROC; the limit above which a leak is assumed."""
        super().__init__(
            f"{what}: AUROC {auroc:.3f} is above {limit:.2f}, which this problem does not allow. "
            "Look for a feature that knows the future, or a patient on both sides of the split."
        )


class StorageError(HealthPredictError):
    """Reading or writing a URI failed. A failed write left no partial object."""

    exit_code = 7


class NotFound(StorageError):
    """There is nothing at this URI."""


class AlreadyExists(StorageError):
    """A conditional write found other content at this URI."""


class RegistryError(HealthPredictError):
    """MLflow cannot be reached, or does not contain the requested model."""

    exit_code = 8


class BundleError(HealthPredictError):
    """A bundle is incomplete, altered, or does not reproduce its golden rows."""

    exit_code = 9


class RolloutError(HealthPredictError):
    """The version is not in service, or not good. What the ledger names serves."""

    exit_code = 10


class RolloutUnknown(HealthPredictError):
    """It could not be determined what serves: check it, or let the next run determine it. The alias was not moved."""

    exit_code = 13

    def __init__(self, problem: str) -> None:
        """Args: problem, sentences that say why."""
        super().__init__(
            f"It could not be determined what serves, so the champion stays as it is: {problem}\n"
            "The next run looks again and repairs what is wrong; `healthpredict status` shows the state."
        )


class AlreadyRunning(HealthPredictError):
    """Another process holds the lock: let it finish."""

    exit_code = 11

    def __init__(self, what: str, holder: str) -> None:
        """Args: what is locked; holder, who holds it (host and process id)."""
        super().__init__(f"{what} is already running ({holder}). Wait for it to end, then start again.")


class LeaseLost(AlreadyRunning):
    """This process was silent for too long, and another one took over its lease: stop."""

    def __init__(self, what: str, holder: str) -> None:
        """Args: what is leased; holder, who has it now."""
        HealthPredictError.__init__(
            self,
            f"{what} was taken over by {holder}, because this process did not renew its lease in time. It stops here.",
        )


class LedgerAltered(HealthPredictError):
    """An event of the ledger was changed, dropped or reordered: compare the ledger with a backup."""

    exit_code = 14


class NoChampion(HealthPredictError):
    """The first model did not pass the gate: there is nothing to serve, and nothing to look for drift with."""

    exit_code = 12

    def __init__(self, version: int, reasons: Sequence[str]) -> None:
        """Args: version, the one that did not pass; reasons, sentences of the gate."""
        super().__init__(
            f"Version {version} did not pass the gate, and no other is in service: {' '.join(reasons)} Train another with more "
            f"data, families or trials (`healthpredict train`), and put what passes into service (`healthpredict promote "
            f"VERSION`), or this one anyway (`healthpredict promote {version} --force --because REASON`). Then start the "
            "loop again."
        )
