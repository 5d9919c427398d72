"""Settings from the environment: what is misspelt or wrong is named, and never ignored."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from healthpredict.config import OTHER_VARIABLES, Settings, variables
from healthpredict.errors import ConfigurationError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("HEALTHPREDICT_ROLLOUT_TARGET", "HEALTHPREDICT_ROLLOUT__TARGET"),
        ("HEALTHPREDICT_N_BATCHS", "HEALTHPREDICT_N_BATCHES"),
        ("healthpredict_n_batchs", "HEALTHPREDICT_N_BATCHES"),
        ("HEALTHPREDICT_SEARCH__N_TRIAL", "HEALTHPREDICT_SEARCH__N_TRIALS"),
        ("HEALTHPREDICT_N_TRIALS", "HEALTHPREDICT_SEARCH__N_TRIALS"),
        ("HEALTHPREDICT_ROLLOUT__CANARY_SECONDS", "HEALTHPREDICT_ROLLOUT__CANARY__SECONDS"),
        ("HEALTH_PREDICT_N_BATCHES", "HEALTHPREDICT_N_BATCHES"),
        ("HEALTHPREDICTN_BATCHES", "HEALTHPREDICT_N_BATCHES"),
        ("HEALTPREDICT_N_BATCHES", "HEALTHPREDICT_N_BATCHES"),
        ("HEALTHPREDCIT_N_BATCHES", "HEALTHPREDICT_N_BATCHES"),
        ("health_predict_rollout__target", "HEALTHPREDICT_ROLLOUT__TARGET"),
    ],
)
@pytest.mark.parametrize("value", ["3", ""])
def test_a_misspelt_variable_is_an_error_that_names_the_nearest(
    monkeypatch: pytest.MonkeyPatch, wrong: str, nearest: str, value: str
) -> None:
    monkeypatch.setenv(wrong, value)
    with pytest.raises(ConfigurationError, match=rf"no setting {wrong}\. The nearest one is {nearest}:"):
        Settings()


def test_variables_of_other_programs_are_not_misspelt(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "HEALTHCHECK_URL",
        "HEALTH_N_BATCHES",
        "PREDICT_N_BATCHES",
        "N_BATCHES",
        "HEALTHCARE_PREDICT_N_BATCHES",
    ):
        monkeypatch.setenv(name, "3")
    Settings()


def test_a_misspelt_name_within_json_is_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEALTHPREDICT_SEARCH", '{"n_trial": 3}')
    with pytest.raises(ConfigurationError, match="nearest one is HEALTHPREDICT_SEARCH__N_TRIALS"):
        Settings()


def test_variables_of_other_parts_are_not_misspelt(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OTHER_VARIABLES:
        monkeypatch.setenv(name, "x")
    Settings()


def test_every_variable_that_the_repository_names_is_known() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    found: dict[str, str] = {}
    for file in files:
        path = ROOT / file
        if not path.is_file() or path == Path(__file__) or path.suffix in (".png", ".json", ".lock"):
            continue
        for name in re.findall(r"HEALTHPREDICT_[A-Z0-9_]*[A-Z0-9]", path.read_text(encoding="utf-8")):
            found[name] = file
    unknown = {name: file for name, file in found.items() if name not in {*variables(Settings), *OTHER_VARIABLES}}
    assert not unknown
    assert set(OTHER_VARIABLES) <= found.keys()


@pytest.mark.parametrize("text", ["lightgbm,xgboost", " lightgbm , xgboost ", '["lightgbm", "xgboost"]'])
def test_a_list_may_be_written_with_commas_or_as_json(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("HEALTHPREDICT_SEARCH__FAMILIES", text)
    assert Settings().search.families == ("lightgbm", "xgboost")


def test_a_list_may_have_one_member(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEALTHPREDICT_SEARCH__FAMILIES", "lightgbm")
    monkeypatch.setenv("HEALTHPREDICT_DRIFT__SAMPLE_SIZES", "200")
    settings = Settings()
    assert settings.search.families == ("lightgbm",)
    assert settings.drift.sample_sizes == (200,)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEALTHPREDICT_N_BATCHES", "SECRET"),
        ("HEALTHPREDICT_OUTCOME", "SECRET"),
        ("HEALTHPREDICT_SEARCH__FAMILIES", "SECRET"),
        ("HEALTHPREDICT_SEARCH__FAMILIES", "[SECRET"),
        ("HEALTHPREDICT_SEARCH__N_TRIALS", "0"),
        ("HEALTHPREDICT_SEARCH", "SECRET"),
        ("HEALTHPREDICT_DRIFT__SAMPLE_SIZES", "200,SECRET"),
        ("HEALTHPREDICT_ROLLOUT__CANARY__SECONDS", "SECRET"),
        ("HEALTHPREDICT_ROLLOUT__CANARY", '{"seconds": "SECRET"}'),
    ],
)
def test_a_wrong_value_names_the_variable_and_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name) as raised:
        Settings()
    assert "SECRET" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("name", ["HEALTHPREDICT_DATA_URI", "HEALTHPREDICT_TRACKING_URI", "HEALTHPREDICT_STATE_PATH"])
def test_a_blank_value_is_an_error_and_an_empty_one_means_the_default(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "  ")
    with pytest.raises(ConfigurationError, match=f"{name} is empty"):
        Settings()
    monkeypatch.setenv(name, "")
    given = Settings()
    monkeypatch.delenv(name)
    assert given == Settings()


def float_variables(model: type[BaseModel] = Settings, prefix: str = "HEALTHPREDICT_") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if field.annotation is float:
            yield f"{prefix}{name.upper()}"
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from float_variables(field.annotation, f"{prefix}{name.upper()}__")


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "Infinity"])
def test_a_number_must_be_finite(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """An infinite time to wait would leave every file pending for ever."""
    names = list(float_variables())
    assert {"HEALTHPREDICT_ARRIVAL_SECONDS", "HEALTHPREDICT_ROLLOUT__CANARY__SECONDS"} <= set(names)
    for name in names:
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(ConfigurationError, match=name):
                Settings()
