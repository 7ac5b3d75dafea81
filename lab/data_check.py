"""The doctor's findings, by severity, each with the files behind it."""

from pianistid_core.datasets.root import DataRoot


def draw_check(root: DataRoot, split_name: str) -> None:
    """Checks a split when asked to, and shows what was found."""
