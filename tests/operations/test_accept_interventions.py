"""Interventions that are reported: used if they can be, counted if not, and a bad file takes nothing away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from accepting import accept
from logged import feedback, prediction, write_log

from healthpredict.config import Settings
from healthpredict.operations.accept_interventions import (
    AcceptedInterventions,
    Flagged,
    accept_interventions,
    known_interventions,
    pending_interventions,
)
from healthpredict.operations.accept_outcomes import accept_outcomes
from healthpredict.operations.collect_interventions import record_interventions, unmatched_cards
from healthpredict.operations.collect_live import collect_live
from healthpredict.operations.installation import Installation
from healthpredict.operations.predict_batch import predict_batch
from healthpredict.operations.prepare import prepare
from healthpredict.operations.record_file import is_recorded
from healthpredict.operations.ship_log import ship_log
from healthpredict.operations.status import _interventions
from healthpredict.storage.layout import Layout
from healthpredict.storage.tables import read_frame, write_frame
from healthpredict.storage.uris import list_uris

NAME = "batch-01"
DISCHARGE = 1_700_000_000_000_000
"""Microseconds since 1970: 14 November 2023. Feedback of that time does not wait for its prediction."""
HEADER = "encounter_id,kind,response,reason,acted_at"


@pytest.fixture
def encounters(settings: Settings, source: str) -> list[int]:
    """The encounters at risk of a predicted batch. The first ten were flagged."""
    prepare(Installation(settings), source)
    accept(settings, NAME)
    layout = Layout(settings.data_uri)
    predicted = read_frame(layout.processed(NAME), ["encounter_id"]).assign(readmission_risk=0.1, model_version=1)
    write_frame(layout.predictions(NAME), predicted.assign(high_risk=predicted.index < 10))
    return [int(number) for number in predicted["encounter_id"]]


def deliver(settings: Settings, rows: list[str], header: str = HEADER) -> None:
    path = Path(settings.data_uri, "interventions", f"{NAME}.csv")
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")
    Path(f"{path}.done").touch()


def accepted_call(number: int) -> str:
    return f"{number},call,accepted,,2026-02-03"


def newest(settings: Settings) -> AcceptedInterventions:
    (accepted,) = accept_interventions(Installation(settings)).accepted
    return accepted


def test_a_file_is_accepted_once_and_its_flags_are_counted(settings: Settings, encounters: list[int]) -> None:
    rows = [accepted_call(number) for number in encounters[:4]]
    rows.append(f"{encounters[4]},call,overridden,busy,2026-02-03")
    rows.append(f"{encounters[5]},call,offered,,2026-02-03")
    deliver(settings, [*rows, f"{encounters[50]},,none,,"])
    accepted = newest(settings)
    assert accepted.problems == ()
    assert (accepted.rows, accepted.known, accepted.accepted, accepted.kinds) == (7, 7, 4, {"call": 4})
    assert accepted.flagged == Flagged(encounters=10, known=5, accepted=4)
    assert accept_interventions(Installation(settings)) == ([], [])
    (event,) = Installation(settings).ledger.events("interventions_file")
    assert (event["batch"], event["known"], event["file"]) == (NAME, 7, f"interventions/{NAME}.csv")
    assert _interventions(Installation(settings)) == (
        "accepted in 4 (80%) of the 5 flagged encounters of which it is known; not known of 5 others in batches with reports."
    )


def test_without_reports_it_is_not_known_what_was_done(settings: Settings, encounters: list[int]) -> None:
    assert _interventions(Installation(settings)) == "not known: nothing was reported."


def test_a_file_waits_for_the_predictions_of_its_batch(settings: Settings, source: str) -> None:
    prepare(Installation(settings), source)
    accept(settings, NAME)
    deliver(settings, [accepted_call(1)])
    assert accept_interventions(Installation(settings)) == ([], [])
    assert pending_interventions(Installation(settings)) == [
        f"interventions/{NAME}.csv is pending: there is no predicted batch '{NAME}'."
    ]


@pytest.mark.parametrize(
    ("rows", "header", "problem"),
    [
        ([], HEADER, None),
        (["1,call"], "encounter_id,kind", "It is not used: missing columns: response, acted_at"),
        (["999999999,call,accepted,,2026-02-03"], HEADER, "1 interventions match no encounter of the batch"),
        (["FIRST,call,accepted,,2999-01-01"], HEADER, "1 of 1 rows are not used: acted_at is in the future"),
    ],
)
def test_a_bad_file_is_named_and_takes_nothing_away(
    settings: Settings, encounters: list[int], rows: list[str], header: str, problem: str | None
) -> None:
    deliver(settings, [accepted_call(number) for number in encounters[:4]])
    newest(settings)
    before = read_frame(Layout(settings.data_uri).known_interventions(NAME))
    deliver(settings, [row.replace("FIRST", str(encounters[0])) for row in rows], header)
    accepted = newest(settings)
    assert problem is None or any(problem in sentence for sentence in accepted.sentences), accepted.sentences
    assert accepted.problems[-1] == "The interventions in 4 encounters that were accepted before stay in use."
    assert (accepted.known, accepted.accepted) == (4, 4)
    pd.testing.assert_frame_equal(read_frame(Layout(settings.data_uri).known_interventions(NAME)), before)
    assert Installation(settings).ledger.events("interventions_file")[-1]["problems"] == list(accepted.problems)


def test_a_bad_first_file_is_named(settings: Settings, encounters: list[int]) -> None:
    deliver(settings, ["nonsense"], "nothing")
    accepted = newest(settings)
    assert (accepted.known, accepted.flagged) == (0, None)
    deliver(settings, [accepted_call(encounters[0])])
    assert newest(settings).known == 1


def test_what_is_unusual_is_said(settings: Settings, encounters: list[int]) -> None:
    accept_outcomes(Installation(settings))
    deliver(settings, [accepted_call(number) for number in encounters[:3]])
    assert newest(settings).problems == (
        "Interventions in 3 encounters were reported after the outcomes of the batch, so whoever reported them may have known the "
        "outcome.",
        "Every answer is accepted, so the effect cannot be known from this batch.",
    )
    # As many as before, of which one is new.
    deliver(settings, [accepted_call(number) for number in encounters[1:4]])
    assert newest(settings).problems[0].startswith("Interventions in 1 encounters were reported after the outcomes")


def test_feedback_and_recorded_files_reach_the_live_batch(settings: Settings, source: str, tmp_path: Path) -> None:
    """Also from a card that nobody was shown, and dated before the discharge."""
    prepare(Installation(settings.model_copy(update={"n_batches": 0})), source)
    settings = settings.model_copy(update={"n_batches": 0, "live": settings.live.model_copy(update={"min_rows": 20})})
    log: list[Any] = [prediction(7000 + k, request_id=f"{k:032x}", high_risk=k < 5, time=DISCHARGE) for k in range(20)]
    said = [
        feedback(f"{0:032x}", DISCHARGE, outcome="accepted", accepted=["call", "visit"]),
        feedback(f"{1:032x}", DISCHARGE, outcome="overridden", reason="no-capacity"),
        feedback("f" * 32, DISCHARGE, outcome="overridden"),
    ]
    write_log(tmp_path / "log", log, said)
    installation = Installation(settings)
    ship_log(installation, tmp_path / "log")
    file = tmp_path / "acted.csv"
    file.write_text(
        f"{HEADER}\n7002,call,accepted,,2023-11-16\n7003,call,accepted,,1999-01-01\n7004,call,accepted,,soon\n"
    )
    recorded = record_interventions(installation, str(file))
    assert (recorded.rows, recorded.recorded) == (3, 2)
    assert collect_live(installation).batches == ["live-000001"]
    accept(settings, "live-000001")
    predict_batch(installation, "live-000001")
    accepted = newest(settings)
    assert accepted.kinds == {"call": 2, "visit": 1}
    assert accepted.flagged == Flagged(encounters=5, known=3, accepted=2)
    assert accepted.problems == (
        "1 interventions are dated more than a day before the first prediction and are not used.",
    )
    assert unmatched_cards(Installation(settings)) == 1
    assert "1 answers to cards match no logged prediction." in _interventions(Installation(settings))
    # The last report of an encounter and a kind counts.
    file.write_text(f"{HEADER}\n7002,call,overridden,,2023-11-17\n")
    record_interventions(installation, str(file))
    collect_live(installation)
    assert newest(settings).kinds == {"call": 1, "visit": 1}
    # Also from none to a kind and back.
    for report, kinds in (
        ("7000,,none,,", {"call": 0}),
        ("7000,visit,accepted,,2023-11-18", {"visit": 1}),
    ):
        file.write_text(f"{HEADER}\n{report}\n")
        record_interventions(installation, str(file))
        collect_live(installation)
        assert newest(settings).kinds == {kind: number for kind, number in kinds.items() if number}
    # Nothing new: nothing is written or accepted again.
    assert record_interventions(installation, str(file)).problems[-1].startswith("This file was recorded before.")
    collect_live(installation)
    assert accept_interventions(Installation(settings)) == ([], [])
    found = known_interventions(installation.layout, "live-000001")
    assert found is not None and found.known == 3
    # Earlier versions of this system stored the time of a recorded file as text.
    for uri in filter(is_recorded, list_uris(installation.layout.logged_feedback, suffix=".parquet")):
        old = read_frame(uri)
        write_frame(uri, old.assign(time=old["time"].map(pd.Timestamp.isoformat)))
    collect_live(installation)
    assert accept_interventions(Installation(settings)) == ([], [])


def test_in_silence_nobody_is_flagged(settings: Settings, source: str) -> None:
    """Also if the file of interventions says that something was done."""
    prepare(Installation(settings), source)
    accept(settings, NAME)
    layout = Layout(settings.data_uri)
    predicted = read_frame(layout.processed(NAME), ["encounter_id"]).assign(readmission_risk=0.9, model_version=1)
    write_frame(layout.predictions(NAME), predicted.assign(high_risk=None))
    deliver(settings, [accepted_call(int(predicted["encounter_id"].iloc[0]))])
    accepted = newest(settings)
    assert (accepted.accepted, accepted.flagged) == (1, Flagged(encounters=0, known=0, accepted=0))
