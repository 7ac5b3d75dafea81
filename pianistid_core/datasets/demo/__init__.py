"""Demo data: virtual pianists that the project composes itself, with the truth about what tells them apart.

tunes.py (chords and forms) -> pianists.py (habits, ground truth) -> playing.py (notes) -> making.py (files).
"""

from pianistid_core.datasets.demo.making import DemoReport, ground_truth, make_demo
from pianistid_core.datasets.demo.pianists import HABITS, PIANISTS, GroundTruth, PianistPair, VirtualPianist

__all__ = [
    "HABITS",
    "PIANISTS",
    "DemoReport",
    "GroundTruth",
    "PianistPair",
    "VirtualPianist",
    "ground_truth",
    "make_demo",
]
