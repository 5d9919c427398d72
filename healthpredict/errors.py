"""The errors that a caller can act on.

Each class stands for one decision of the caller, and builds its message from facts: what went wrong, which value, what to do next.
Messages may contain column names, counts, versions and URIs, but never a patient's values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar


class HealthPredictError(Exception):
    """Base of all errors raised on purpose. The command line shows the message without a traceback.

    Attributes:
        exit_code: exit code of a process that ends with this error.
    """

    exit_code: ClassVar[int] = 1


class ConfigurationError(HealthPredictError):
    """A setting is missing or wrong: change it and start again."""

    exit_code = 2


class SourceError(HealthPredictError):
    """The data set cannot be reached, read or trusted: choose another source."""

    exit_code = 3


class SourceUnreachable(SourceError):
    """The server of the data set does not respond, or responds with an error."""


class BatchRefused(HealthPredictError):
    """A batch breaks the contract. Nothing of it was used, and the file is unchanged."""

    exit_code = 4

    def __init__(self, batch: str, problem: str) -> None:
        """Args: batch, name or URI; problem, what is wrong and what to do next, without a final period."""
        super().__init__(f"Batch {batch!r} refused: {problem}. The file is unchanged, and nothing of it was used.")
        self.batch = batch
        self.problem = problem


class EncounterRefused(HealthPredictError):
    """One encounter breaks the contract, or is not at risk of readmission: correct it."""

    exit_code = 4

    def __init__(self, problem: str, problems: Mapping[str, str]) -> None:
        """Args: problem, one sentence without any value; problems, the rest of a sentence about each field, by its name."""
        listed = "; ".join(f"{field} {rest}" for field, rest in problems.items())
        super().__init__(f"{problem} {listed}".strip())
        self.problems = dict(problems)


class NothingToPredict(BatchRefused):
    """A batch has no encounters to predict, although it matches the contract."""


class StillArriving(HealthPredictError):
    """A file may be incomplete: wait and try again."""

    exit_code = 4

    def __init__(self, file: str, why: str) -> None:
        """Args: file, its path below the data URI; why, without a final period."""
        super().__init__(f"{file} was not read yet: {why}.")


class Removed(StillArriving):
    """A file was removed after it had been listed. Nothing of it was used."""

    def __init__(self, file: str) -> None:
        """Args: file, its path below the data URI."""
        HealthPredictError.__init__(self, f"{file} was removed before it was read.")


class MissingColumns(BatchRefused):
    """Columns of the contract are missing in a batch."""

    def __init__(self, batch: str, missing: Sequence[str], unexpected: Sequence[str] = ()) -> None:
        """Args: batch, name or URI; missing and unexpected, column names."""
        problem = f"missing columns: {', '.join(missing) or 'none'}"
        if unexpected:
            problem += f"; unexpected columns: {', '.join(unexpected)}"
        super().__init__(batch, f"{problem}; rename them to the contract's names")
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)


class NotEnoughData(HealthPredictError):
    """There are too few rows, or only one class: wait for more matured outcomes."""

    exit_code = 5


class LeakSuspected(HealthPredictError):
    """A result is too good to be true, or contradicts another one: look for a bug."""

    exit_code = 6

    def __init__(self, problem: str, setting: str | None = None) -> None:
        """Args: problem, a sentence without a final period; setting, the environment variable of its limit, if it has one."""
        advice = "Look for a feature that contains the future, or a patient on both sides of the split."
        if setting is not None:
            advice += f" If there is none and your hospital's data explain it, set {setting} to a higher value."
        super().__init__(f"{problem}. {advice}")


class StorageError(HealthPredictError):
    """Reading or writing a URI failed. A failed write left no partial object."""

    exit_code = 7


class NotFound(StorageError):
    """There is nothing at this URI."""


class CannotDelete(StorageError):
    """An object was written, but cannot be deleted again."""


class AlreadyExists(StorageError):
    """A conditional write failed, because there is other content at this URI."""


class RegistryError(HealthPredictError):
    """MLflow cannot be reached, or does not contain the requested model."""

    exit_code = 8


class BundleError(HealthPredictError):
    """A bundle is incomplete, altered, or does not reproduce its golden rows."""

    exit_code = 9


class RolloutError(HealthPredictError):
    """A rollout failed. The previous version serves."""

    exit_code = 10


class RolloutUnknown(HealthPredictError):
    """It could not be determined which version serves, so the alias was not moved. The next run repairs the state."""

    exit_code = 13

    def __init__(self, problem: str) -> None:
        """Args: problem, sentences that say why."""
        super().__init__(
            f"It could not be determined which version serves, so the alias champion was not moved: {problem}\n"
            "The next run checks again and repairs the state; `healthpredict status` shows it."
        )


class AlreadyRunning(HealthPredictError):
    """Another process holds the lock: wait for it to finish."""

    exit_code = 11

    def __init__(self, what: str, holder: str) -> None:
        """Args: what is locked; holder, who holds it (host and process id)."""
        super().__init__(f"{what} is already running ({holder}). Wait for it to end, then start again.")


class LeaseLost(AlreadyRunning):
    """Another process took over the lease, because this one did not renew it: stop."""

    def __init__(self, what: str, holder: str) -> None:
        """Args: what is leased; holder, who has it now."""
        HealthPredictError.__init__(
            self,
            f"{what} was taken over by {holder}, because this process did not renew its lease in time. It stops here.",
        )


class LedgerAltered(HealthPredictError):
    """An event of the ledger was changed, removed or reordered: compare the ledger with a backup."""

    exit_code = 14


class ProblemsFound(HealthPredictError):
    """`healthpredict doctor` found problems: fix them, then run it again."""

    exit_code = 16

    def __init__(self, number: int) -> None:
        """Args: number, of problems, which have been printed."""
        found, them = ("problem was", "it") if number == 1 else ("problems were", "them")
        super().__init__(f"{number} {found} found. Fix {them}, then repeat the command.")


class ClusterError(HealthPredictError):
    """The Ray cluster cannot be reached, or failed. Nothing was written; an interrupted search continues."""

    exit_code = 17

    def __init__(self, address: str | None, problem: str) -> None:
        """Args: address, of the cluster, or None for the one on this machine; problem, a name or words of the error."""
        if address is None:
            super().__init__(f"Ray on this machine failed ({problem}). Nothing was written. Repeat the command.")
        else:
            super().__init__(
                f"The Ray cluster at {address} failed ({problem}). Nothing was written. Start it again, then repeat the command."
            )


class NoChampion(HealthPredictError):
    """The first model did not pass the gate, so there is no model to serve or to detect drift with."""

    exit_code = 12

    def __init__(self, version: int, reasons: Sequence[str]) -> None:
        """Args: version, which did not pass; reasons, sentences of the gate."""
        super().__init__(
            f"Version {version} did not pass the gate, and no other one is in service: {' '.join(reasons)} Train another with "
            f"more data, families or trials (`healthpredict train`) and promote it if it passes (`healthpredict promote VERSION`), "
            f"or promote this one anyway (`healthpredict promote {version} --force --because REASON`). Then start the loop again."
        )
