"""SNOMED CT codes of diagnoses, and the ICD-10-CM codes that stand for them.

The table covers the disorders and the histories of procedures in Synthea's export of persons with diabetes. The pairs follow the
map "SNOMED CT to ICD-10-CM" that NLM publishes (US Edition, ICD-10-CM extended map refset 6011000124106), without its conditions on
age or sex. A code that is not here is unknown: findings about a person's life (employment, education) are no diagnoses in
ICD-9-CM's sense, and the others need the hospital's own map, see `parse_map`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from typing import Final

from healthpredict.data.diagnosis import Coding, read_diagnosis
from healthpredict.errors import ConfigurationError

SNOMED: Final = "http://snomed.info/sct"

ICD10_OF: Final[Mapping[str, str]] = {
    # Diabetes and metabolism.
    "44054006": "E11.9",
    "127013003": "E11.29",
    "90781000119102": "E11.29",
    "157141000119108": "E11.29",
    "368581000119106": "E11.40",
    "422034002": "E11.319",
    "1551000119108": "E11.329",
    "1501000119109": "E11.359",
    "97331000119101": "E11.311",
    "15777000": "R73.03",
    "80394007": "R73.9",
    "237602007": "E88.81",
    "302870006": "E78.1",
    "55822004": "E78.5",
    "162864005": "E66.9",
    "408512008": "E66.01",
    "83664006": "E03.4",
    "90560007": "M10.9",
    # Circulation.
    "59621000": "I10",
    "414545008": "I25.9",
    "88805009": "I50.9",
    "84114007": "I50.9",
    "401314000": "I21.4",
    "401303003": "I21.3",
    "22298006": "I21.9",
    "399211009": "I25.2",
    "4557003": "I20.0",
    "399261000": "Z95.1",
    "1231000119100": "Z95.2",
    "274531002": "R93.1",
    "60573004": "I35.0",
    "60234000": "I35.1",
    "48724000": "I34.0",
    "79619009": "I34.2",
    "111287006": "I36.1",
    "56786000": "I37.0",
    "49436004": "I48.91",
    "132281000119108": "I82.409",
    "706870000": "I26.99",
    "230690007": "I63.9",
    "86175003": "S26.90XA",
    "27942005": "R57.9",
    # Kidney and urinary tract.
    "431855005": "N18.1",
    "431856006": "N18.2",
    "433144002": "N18.30",
    "431857002": "N18.4",
    "46177005": "N18.6",
    "698306007": "Z76.82",
    "161665007": "Z94.0",
    "213150003": "T86.12",
    "40095003": "S37.009A",
    "197927001": "N39.0",
    "307426000": "N30.00",
    # Blood and neoplasms.
    "271737000": "D64.9",
    "234466008": "D68.4",
    "424132000": "C34.90",
    "254637007": "C34.90",
    "254632001": "C34.90",
    "67811000119102": "C34.90",
    "109838007": "C18.8",
    "363406005": "C18.9",
    "93761005": "C18.9",
    "254837009": "C50.919",
    "126906006": "D49.59",
    "92691004": "D07.5",
    "93143009": "C95.90",
    "109989006": "C90.00",
    "698303004": "Z76.82",
    "108631000119101": "Z94.81",
    "153351000119102": "Z94.84",
    "152621000119105": "Z94.81",
    "68496003": "K63.5",
    "713197008": "K62.1",
    # Infections.
    "840539006": "U07.1",
    "840544004": "Z20.822",
    "91302008": "A41.9",
    "770349000": "A41.89",
    "76571007": "R65.21",
    "87628006": "A49.9",
    # Lungs and breathing.
    "233604007": "J18.9",
    "65710008": "J96.00",
    "67782005": "J80",
    "271825005": "R06.03",
    "389087006": "R09.02",
    "185086009": "J44.9",
    "87433001": "J43.9",
    "10509002": "J20.9",
    "195662009": "J02.9",
    "43878008": "J02.0",
    "444814009": "J32.9",
    "40055000": "J32.9",
    "36971009": "J32.9",
    "75498004": "J01.90",
    "312157006": "J98.51",
    "78275009": "G47.33",
    "73430006": "G47.30",
    "39898005": "G47.9",
    # Nerves and mind.
    "26929004": "G30.9",
    "230265002": "G30.0",
    "128613002": "R56.9",
    "84757009": "G40.909",
    "124171000119105": "G43.719",
    "427419006": "G43.709",
    "128188000": "G80.9",
    "15802004": "G24.9",
    "6525002": "F19.20",
    "5602001": "F11.10",
    "7200002": "F10.20",
    "55680006": "T50.901A",
    # Digestion.
    "74400008": "K37",
    "47693006": "K35.32",
    "235595009": "K21.9",
    "6072007": "K62.5",
    "66383009": "K05.10",
    "109570002": "K02.9",
    "427898007": "K04.7",
    "196416002": "K01.1",
    # Muscles, bones and injuries.
    "239873007": "M17.9",
    "239872002": "M16.9",
    "201834006": "M19.049",
    "69896004": "M06.9",
    "64859006": "M81.0",
    "443165006": "M80.00XA",
    "203082005": "M79.7",
    "95417003": "M79.7",
    "30832001": "S76.119A",
    "444470001": "S83.519A",
    "444448004": "S83.419A",
    "239720000": "S83.209A",
    "307731004": "S46.019A",
    "359817006": "S72.009A",
    "65966004": "S52.90XA",
    "58150001": "S42.009A",
    "33737001": "S22.39XA",
    "16114001": "S82.899A",
    "62106007": "S06.0X0A",
    "110030002": "S06.0X0A",
    "39848009": "S13.4XXA",
    "44465007": "S93.409A",
    "70704007": "S63.509A",
    # Others, and status after operations.
    "161622006": "Z89.619",
    "429280009": "Z89.439",
    "161621004": "Z89.209",
    "428251008": "Z90.49",
    "267020005": "Z98.51",
    "183996000": "Z30.2",
    "72892002": "Z33.1",
    "19169002": "O03.9",
    "156073000": "O03.9",
    "65363002": "H66.90",
    "24079001": "L20.9",
    "278860009": "M54.50",
    "82423001": "G89.29",
    "267036007": "R06.00",
    "386661006": "R50.9",
}
"""SNOMED CT -> ICD-10-CM."""


def parse_map(lines: Iterable[str], name: str) -> dict[str, str]:
    """Read a hospital's own map: csv with a SNOMED CT code and an ICD-10-CM code per row. A header is skipped.

    Args:
        lines: of the file.
        name: of the file, for messages.

    Raises:
        ConfigurationError: a row has fewer than two columns, or a code is none of its system.
    """
    found: dict[str, str] = {}
    for number, row in enumerate(csv.reader(lines), 1):
        if not any(cell.strip() for cell in row):
            continue
        cells = [cell.strip() for cell in row]
        if number == 1 and not cells[0].isdigit():
            continue
        icd10 = read_diagnosis(cells[1], Coding.ICD10)[0] if len(cells) > 1 and cells[1] else None
        if not cells[0].isdigit() or icd10 is None:
            raise ConfigurationError(
                f"{name}, line {number} is not a pair of a SNOMED CT code and an ICD-10-CM code, such as 44054006,E11.9. "
                f"Correct it."
            )
        found[cells[0]] = icd10
    if not found:
        raise ConfigurationError(f"{name} contains no pair of codes. Give one pair per line, such as 44054006,E11.9.")
    return found
