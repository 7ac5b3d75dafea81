"""What a calibrated model says of music that is no jazz piano, and of music that is.

    python tests/benchmarks/honesty.py [--model RUN] [--data-root ROOT] [--music FOLDER] [--most 200]

The strangers are made from code (tests/strangers.py): scales, exercises, a chorale, a hymn, random notes, drums, near
silence. Without --model it asks the model in the box. --music is a folder of MIDI files by pianists, such as clips of
recordings that the model never learned from: of these it counts how often something is remarked upon, or the verdict
is that it may be nobody. How sure the answers are, and pianists left out, `pianistid calibrate` measures.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pianistid_core.calibration import VERDICTS
from pianistid_core.errors import PianistIDError
from pianistid_core.identify import Identification, Identifier
from strangers import STRANGERS


def said(found: Identification) -> str:
    unknown = found.unknown.verdict if found.unknown else "not calibrated"
    familiar = f"{found.unknown.familiarity:.3f}" if found.unknown else "-"
    return f"{unknown:25} {familiar:>6}  {found.pianist} {found.confidence:.2f}, {len(found.candidates)} candidates"


def of_strangers(identifier: Identifier) -> None:
    verdicts: Counter[str] = Counter()
    for name, music in STRANGERS.items():
        try:
            found = identifier.identify(music(), concepts=False)
        except PianistIDError as error:
            verdicts["refused"] += 1
            print(f"{name:13} refused: {error}")
            continue
        verdicts[found.unknown.verdict if found.unknown else "not calibrated"] += 1
        print(f"{name:13} {said(found)}")
        for remark in found.remarks:
            print(f"{'':15}{remark}")
    print(f"of {len(STRANGERS)}: " + ", ".join(f"{n} {verdict}" for verdict, n in verdicts.most_common()))


def of_pianists(identifier: Identifier, folder: Path, most: int) -> None:
    files = sorted(folder.rglob("*.mid"))
    step = max(1, len(files) // most)
    verdicts: Counter[str] = Counter()
    remarked, heard = 0, 0
    began = time.process_time()
    for path in files[::step]:
        try:
            found = identifier.identify(path, concepts=False)
        except PianistIDError:
            continue
        heard += 1
        remarked += bool(found.remarks)
        verdicts[found.unknown.verdict if found.unknown else "not calibrated"] += 1
    seconds = (time.process_time() - began) / max(heard, 1)
    print(f"{heard} files in {folder}, {1000 * seconds:.0f} ms of CPU each: {remarked} with a remark")
    print(", ".join(f"{verdicts[verdict] / max(heard, 1):.3f} {verdict}" for verdict in VERDICTS))


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--data-root")
    parser.add_argument("--music", type=Path)
    parser.add_argument("--most", type=int, default=200)
    options = parser.parse_args(arguments)
    identifier = (
        Identifier.from_checkpoint(options.model, root=options.data_root)
        if options.model
        else Identifier.default(options.data_root)
    )
    print(identifier.name)
    of_strangers(identifier)
    if options.music:
        of_pianists(identifier, options.music, options.most)


if __name__ == "__main__":
    main(sys.argv[1:])
