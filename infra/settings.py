"""The settings of a stack, with defaults and checks. It does not import Pulumi, because the estimate uses it too."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from zoneinfo import available_timezones

PROJECT = "health-predict"
DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
DAYS_OF_MONTH = 30.44
"""Mean days of a month (365.25 / 12, rounded)."""
HOURS_STARTED_BY_HAND = 8 * 22
"""Assumed hours in a month of a host that is started by hand: those of the default schedule."""
# The image is for x86_64. "g" after the generation means Graviton, which is ARM (Amazon EC2 instance type naming conventions).
_ARM = r"a1\.|[a-z]+[0-9]+[a-z]*g"


class ConfigError(Exception):
    """A setting is missing or wrong. The message says which one, why, and what to write."""


@dataclass(frozen=True)
class StackSettings:
    """The settings of one stack, see `Pulumi.example.yaml`."""

    stack: str
    region: str
    alert_mail: str
    source_repository: str
    source_commit: str
    source_archive: str
    source_sha256: str
    instance_type: str
    disk_gb: int
    spot: bool
    cpu_credits: str
    start_time: str | None
    stop_time: str
    start_days: tuple[str, ...]
    timezone: str
    max_hours: int
    budget_usd: float
    silent: bool
    keep_data: bool
    adopt_bucket: str | None
    host_generation: int
    ssh_cidr: str | None
    ssh_public_key: str | None

    @property
    def prefix(self) -> str:
        """Start of the names of all resources."""
        return f"{PROJECT}-{self.stack}"

    @property
    def parameters(self) -> str:
        """Path of the stack's parameters, without a trailing slash."""
        return f"/{PROJECT}/{self.stack}"

    @property
    def data_outlives_stack(self) -> bool:
        """Whether `pulumi destroy` leaves bucket and images. Adopted ones stay until `adoptBucket` is removed."""
        return self.keep_data or self.adopt_bucket is not None

    @property
    def hours_per_month(self) -> float:
        """Hours that the schedule lets the host run in a month."""
        if self.start_time is None:
            return HOURS_STARTED_BY_HAND
        hours = (_minutes(self.stop_time) - _minutes(self.start_time)) % (24 * 60) / 60
        return hours * ceil(len(self.start_days) * DAYS_OF_MONTH / 7)

    def tags(self, name: str) -> dict[str, str]:
        """The tags of a resource, by which `healthpredict cloud` finds it."""
        return {"Name": f"{self.prefix}-{name}", "Project": PROJECT, "Stack": self.stack, "ManagedBy": "pulumi"}


def read_settings(stack: str, region: str, values: Mapping[str, object]) -> StackSettings:
    """Check the settings of a stack.

    Args:
        stack: name of the stack.
        region: of AWS, such as `us-east-1`.
        values: from `Pulumi.<stack>.yaml`, without the name of the project in the keys.

    Raises:
        ConfigError: a value is missing or wrong.
    """
    unknown = sorted(set(values) - set(_DEFAULTS))
    if unknown:
        raise ConfigError(f"Unknown settings: {', '.join(unknown)}. The settings are {', '.join(_DEFAULTS)}.")
    text = {key: str(values.get(key, default)).strip() for key, default in _DEFAULTS.items()}
    # No hyphen, because resources are found by `<stack>-`, and that must not match another stack.
    _match("stack", stack, "[a-z][a-z0-9]{0,19}", "up to 20 lower-case letters and digits")
    if not region:
        raise ConfigError("aws:region is missing. Run: pulumi config set aws:region us-east-1")
    start = None if text["startTime"] == "none" else _time("startTime", text["startTime"])
    stop = _time("stopTime", text["stopTime"])
    if start == stop:
        raise ConfigError(
            f"startTime and stopTime are both {stop!r}. Choose different times, or set startTime to none."
        )
    return StackSettings(
        stack=stack,
        region=region,
        alert_mail=_mail(text["alertMail"]),
        **_source(text),
        instance_type=_instance_type(text["instanceType"]),
        disk_gb=_whole_number("diskGb", text["diskGb"], 20, 500),
        spot=_flag("spot", text["spot"]),
        cpu_credits=_match("cpuCredits", text["cpuCredits"], "standard|unlimited", "standard or unlimited"),
        start_time=start,
        stop_time=stop,
        start_days=_days(text["startDays"]),
        timezone=_timezone(text["timezone"]),
        max_hours=_whole_number("maxHours", text["maxHours"], 0, 168),
        budget_usd=_number("budgetUsd", text["budgetUsd"], 1, 10_000),
        silent=_flag("silent", text["silent"]),
        keep_data=_flag("keepData", text["keepData"]),
        adopt_bucket=_adopt_bucket(stack, text["adoptBucket"]),
        host_generation=_whole_number("hostGeneration", text["hostGeneration"], 1, 10_000),
        ssh_cidr=_ssh_cidr(text["sshCidr"], text["sshPublicKey"]),
        ssh_public_key=_ssh_public_key(text["sshPublicKey"], text["sshCidr"]),
    )


_DEFAULTS: Mapping[str, str] = {
    "alertMail": "",
    "sourceRepository": "",
    "sourceCommit": "",
    "sourceArchive": "",
    "sourceSha256": "",
    "instanceType": "t3.large",
    "diskGb": "40",
    "spot": "false",
    "cpuCredits": "standard",
    "startTime": "09:00",
    "stopTime": "17:00",
    "startDays": "MON-FRI",
    "timezone": "UTC",
    "maxHours": "12",
    "budgetUsd": "30",
    "silent": "false",
    "keepData": "false",
    "adoptBucket": "",
    "hostGeneration": "1",
    "sshCidr": "",
    "sshPublicKey": "",
}


def _match(key: str, value: str, pattern: str, expected: str, *, shown: bool = True) -> str:
    """Return the value if it matches. Args: shown, whether the message may contain a wrong value."""
    if not re.fullmatch(pattern, value):
        raise ConfigError(f"{key} is {repr(value) if shown else 'wrong'}. Expected: {expected}.")
    return value


def _mail(value: str) -> str:
    if not value:
        raise ConfigError(
            "alertMail is missing, so nobody would get the mails of the budget. Run: pulumi config set alertMail you@example.org"
        )
    return _match("alertMail", value, r"[^@\s,]+@[^@\s,]+\.[^@\s,]+", "one mail address")


def _number(key: str, value: str, low: float, high: float) -> float:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        raise ConfigError(f"{key} is {value!r}. Expected: a number from {low:g} to {high:g}.")
    return number


def _whole_number(key: str, value: str, low: int, high: int) -> int:
    if not value.isdecimal() or not low <= int(value) <= high:
        raise ConfigError(f"{key} is {value!r}. Expected: a whole number from {low} to {high}.")
    return int(value)


def _instance_type(value: str) -> str:
    _match("instanceType", value, r"[a-z0-9-]+\.[a-z0-9]+", "such as t3.large")
    if re.match(_ARM, value):
        raise ConfigError(
            f"instanceType is {value!r}, which has an ARM processor. Choose one with x86_64, such as t3.large."
        )
    return value


def _flag(key: str, value: str) -> bool:
    return _match(key, value.lower(), "true|false", "true or false") == "true"


def _time(key: str, value: str) -> str:
    return _match(key, value, "([01][0-9]|2[0-3]):[0-5][0-9]", "a time such as 09:00, in quotation marks")


def _minutes(time: str) -> int:
    hours, minutes = time.split(":")
    return int(hours) * 60 + int(minutes)


def _days(value: str) -> tuple[str, ...]:
    first, _, last = value.upper().partition("-")
    if first not in DAYS or (last or first) not in DAYS or DAYS.index(last or first) < DAYS.index(first):
        raise ConfigError(f"startDays is {value!r}. Expected: a day or a range within MON-SUN, such as MON-FRI.")
    return DAYS[DAYS.index(first) : DAYS.index(last or first) + 1]


def _timezone(value: str) -> str:
    if value not in available_timezones():
        raise ConfigError(f"timezone is {value!r}. Expected: a name such as UTC or Europe/Berlin.")
    return value


def _adopt_bucket(stack: str, value: str) -> str | None:
    start = f"{PROJECT}-{stack}-data-"
    return (
        _match("adoptBucket", value, rf"{start}[a-z0-9]+", f"a kept bucket of this stack, {start}...")
        if value
        else None
    )


def _source(text: Mapping[str, str]) -> dict[str, str]:
    """Check the source: a repository with a commit, or an archive with its digest. A branch is refused, because it moves."""
    names = ("sourceRepository", "sourceCommit", "sourceArchive", "sourceSha256")
    repository, commit, archive, digest = (text[name] for name in names)
    if bool(repository or commit) == bool(archive or digest):
        raise ConfigError(
            "Set sourceRepository and sourceCommit, or sourceArchive and sourceSha256: the code that the host runs."
        )
    if archive or digest:
        _match("sourceArchive", archive, r"https://[\w./@+~%-]+\.tar\.gz", "an https address of a .tar.gz")
        _match("sourceSha256", digest, "[0-9a-f]{64}", "64 hexadecimal digits")
    else:
        _match(
            "sourceRepository", repository, r"https://[\w./~-]+", "an https address without user or token", shown=False
        )
        _match("sourceCommit", commit, "[0-9a-f]{40}", "all 40 hexadecimal digits of a commit")
    return {
        "source_repository": repository,
        "source_commit": commit,
        "source_archive": archive,
        "source_sha256": digest,
    }


def _ssh_cidr(cidr: str, key: str) -> str | None:
    if not cidr and not key:
        return None
    try:
        network = ipaddress.IPv4Network(cidr)
    except ValueError as error:
        raise ConfigError(f"sshCidr is {cidr!r}. Expected: your own address, such as 203.0.113.7/32.") from error
    if network.prefixlen != 32:
        raise ConfigError(
            f"sshCidr is {cidr!r}, which admits {network.num_addresses:,} addresses. Expected: one address with /32."
        )
    return str(network)


def _ssh_public_key(key: str, cidr: str) -> str | None:
    if not cidr and not key:
        return None
    kinds = "ssh-ed25519|ssh-rsa|ecdsa-sha2-[a-z0-9-]+"
    return _match("sshPublicKey", key, rf"({kinds}) [A-Za-z0-9+/=]+( \S+)?", "the line of a .pub file", shown=False)
