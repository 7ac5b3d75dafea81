"""Hostile YAML and JSON: how many are refused in one sentence or give the intended value, and what they cost.

    python tests/reliability/yamls.py

Each is read in a process of its own with 500 MB to go, by the reader of configs and by that of what was written, and
as a config. Exit status 1 when one gave no clear sentence, another value than is meant, ran code, or took more than
0.5 s of CPU or 500 MB.
"""

import argparse
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from trial import Outcome, report, tried

from hostile_yaml import HOSTILE_CONFIGS, HOSTILE_JSON, INTENDED, REFUSED
from pianistid_core.config import parse_config
from pianistid_core.strict_json import parse_json
from pianistid_core.strict_yaml import read_written_yaml, read_yaml

_MOST_S, _MOST_MB = 0.5, 500


def read(reader: Callable[[Any], object], text: str | bytes) -> None:
    reader(text.encode("utf-8", "surrogatepass") if isinstance(text, str) and reader is read_written_yaml else text)


def meant(text: str, value: Any) -> str | None:
    came = read_yaml(f"a: {text}\n")["a"]
    same = came == value or (isinstance(value, float) and math.isnan(value) and math.isnan(came))
    if not same or type(came) is not type(value):
        raise AssertionError(f"{text} became {came!r}, not {value!r}")
    return None


def as_config(text: str) -> None:
    parse_config(read_yaml(text), source="config")


def as_json(text: str | bytes) -> str | None:
    try:
        parse_json(text)
    except ValueError as error:
        return f"a file is not JSON that can be read: {str(error)[:200]}"
    return None


def all_tried() -> dict[str, list[Outcome]]:
    def trial(name: str, work: Callable[[], str | None]) -> Outcome:
        return tried(name, work, limit_s=30, limit_mb=_MOST_MB)

    return {
        "hostile YAML": [trial(name, partial(read, read_yaml, text)) for name, (text, _) in REFUSED.items()],
        "hostile YAML, to the quicker reader": [
            trial(name, partial(read, read_written_yaml, text)) for name, (text, _) in REFUSED.items()
        ],
        "values that others read otherwise": [trial(text, partial(meant, text, value)) for text, value in INTENDED],
        "hostile configs": [trial(text[:40], partial(as_config, text)) for text in HOSTILE_CONFIGS],
        "hostile JSON": [trial(name, partial(as_json, text)) for name, text in HOSTILE_JSON.items()],
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    kept = True
    for what, outcomes in all_tried().items():
        kept &= report(what, outcomes, most_s=_MOST_S, most_mb=_MOST_MB)
        if what.startswith("hostile") and "quicker" not in what:
            taken = [one.name for one in outcomes if one.end == "read"]
            print(f"  taken all the same: {len(taken)} {taken if taken else ''}")
            kept &= not taken
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
