"""Bringing music into a data root: the paper's archive, folders of MIDI files, or a CSV that says who plays what.

- A zip or folder in the archive's layout (see root.py), also when it lies in a folder: clips, whole performances,
  splits, recordings.csv and checkpoints are copied as they are. Performances are cut where there are no clips.
- A zip or folder with one folder for each pianist, MIDI files at any depth below: cut into clips.
- A CSV with the columns `file` and `pianist` (optionally album, composition, setting, title, source): likewise.

A file that cannot be read is skipped, listed with the reason, and never ends an import. Importing the same source
again changes nothing. Everything arrives through a staging folder, so nothing is ever half-written.
"""

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from pianistid_core.datasets.archives import Skipped, open_source, read_file
from pianistid_core.datasets.layout import LayoutImport, find_layout
from pianistid_core.datasets.performances import PerformanceImport, in_folders, in_table, slug
from pianistid_core.datasets.recordings import RecordingsTable
from pianistid_core.datasets.root import DataRoot, is_there
from pianistid_core.datasets.staging import Staged, staging_in
from pianistid_core.errors import ImportSourceError
from pianistid_core.names import folder_name_problem

__all__ = ["ImportReport", "Skipped", "import_source"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ImportReport:
    """What an import brought; `unchanged` of the recordings were there before, `ignored` files are none of its own."""

    recordings: int
    clips: int
    pianists: tuple[str, ...]
    splits: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    unchanged: int = 0
    checkpoints: int = 0
    ignored: int = 0


def import_source(
    root: DataRoot,
    source: str | Path,
    *,
    name: str | None = None,
    metadata: str | Path | None = None,
    progress: Progress | None = None,
    workers: int = 1,
) -> ImportReport:
    """Imports a zip, a folder or a CSV; see the module's docstring.

    `name` is what the source is called in the data root (default: made from the file's name; in the archive's layout
    the sources have names, and `name` goes before them and before the splits'). `metadata` is a CSV whose rows are
    merged into references/recordings.csv by its column `track`. `progress(done, total)` counts files. Performances
    are cut in as many processes as `workers`.

    Raises: ImportSourceError when there is nothing to import, or when something else of the same name is there
    already; ArchiveError when a zip is broken or not safe; DataRootError when the root cannot be written.
    """
    try:
        path = Path(source).expanduser().absolute()
        is_there(path)
    except (OSError, ValueError, RuntimeError) as error:  # too long, refused, a zero byte; no such user's home
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ImportSourceError(f"{str(source)[:200]!r} cannot be looked at: {reason}; name another path") from error
    _refuse_own(root, path)
    if name is not None and (problem := folder_name_problem(name)):
        raise ImportSourceError(f"the name {name!r} cannot be given to a source: {problem}")
    table = RecordingsTable(root, Path(metadata) if metadata else None)
    with ExitStack() as stack:
        job = _planned(root, path, name, workers, stack)
        with staging_in(root) as staging:
            staged = job.stage(staging, progress or _no_progress)
            if not (staged.tracks or staged.splits or staged.n_checkpoints):
                raise _nothing(path, staged.skipped)
            units = staging.place()
            there = {track for track in staged.tracks if units & {f"data/clips/{track}", f"data/raw/{track}"}}
            unmatched = table.merge(staged.infos, there)
    return _report(root, staged, there, unmatched)


def _planned(
    root: DataRoot, path: Path, name: str | None, workers: int, stack: ExitStack
) -> LayoutImport | PerformanceImport:
    """Finds out what kind of source this is; what has to be closed afterwards goes on the stack."""
    if path.suffix.lower() == ".csv" and path.is_file():
        performances, skipped = in_table(path, name or slug(path.stem, 60))
        return PerformanceImport(
            performances, skipped, lambda file, max_bytes: read_file(path.parent / file, max_bytes), workers
        )
    files = stack.enter_context(closing(open_source(path, without=root.path)))
    if layout := find_layout(files):
        return LayoutImport(files, layout, name, workers)
    performances, skipped = in_folders(files, name or slug(path.name if path.is_dir() else path.stem, 60))
    ignored = files.n_hidden + len(files.names) - len(performances) - len(skipped)
    return PerformanceImport(performances, [*skipped, *files.skipped], files.read, workers, ignored)


def _report(root: DataRoot, staged: Staged, there: set[str], unmatched: list[Skipped]) -> ImportReport:
    infos = root.recordings()
    pianists = {infos[track].pianist for track in staged.tracks if track in infos}
    for name in staged.splits:
        pianists.update(root.split(name).class_names)
    return ImportReport(
        recordings=len(staged.tracks),
        clips=staged.n_clips,
        pianists=tuple(sorted(pianists - {""})),
        splits=staged.splits,
        skipped=(*staged.skipped, *unmatched),
        unchanged=len(there),
        checkpoints=staged.n_checkpoints,
        ignored=staged.n_ignored,
    )


def _refuse_own(root: DataRoot, path: Path) -> None:
    own, source = root.path.resolve(), path.resolve()
    if source == own or any(source.is_relative_to(own / part) for part in ("data", "references", "checkpoints")):
        raise ImportSourceError(
            f"{path} is the data root itself: its data are used in place, with --data-root {root.path}, and need no "
            "import"
        )


def _nothing(path: Path, skipped: list[Skipped]) -> ImportSourceError:
    why = f" ({len(skipped)} skipped, the first: {skipped[0].name!a}: {skipped[0].reason})" if skipped else ""
    return ImportSourceError(
        f"nothing in {path.name!a} can be imported{why}; give a zip or folder in the archive's layout "
        "(data/clips/<source>/<recording>/clip_000.mid), one with a folder of MIDI files for each pianist, or a CSV "
        "with the columns file and pianist"
    )


def _no_progress(done: int, total: int) -> None:
    """Nobody is watching."""
