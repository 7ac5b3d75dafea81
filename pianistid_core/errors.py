"""Every error that PianistID Lab raises on purpose.

    PianistIDError
    ├── MidiError            a file is not MIDI, is cut off, or holds no piano notes
    ├── InvalidNotesError    arrays of notes that contradict each other
    ├── ExtractionError      a clip has no notes, or no chords, to draw a concept from
    ├── ConfigError          a config with one or more faults, all of them listed
    ├── DataError            something about a data set
    │   ├── DataRootError    a data root that is missing or cannot be written
    │   ├── ArchiveError     an archive that is broken or not safe to unpack
    │   ├── ImportSourceError  a source that cannot be imported
    │   ├── SplitError       a split that is missing, contradictory or impossible
    │   ├── FetchError       a download that failed
    │   └── LoaderError      batches that can no longer be drawn
    ├── ModelError           an architecture, or an input to it, that cannot be
    ├── CheckpointError      a checkpoint that cannot be read or does not fit
    │   └── DamagedCheckpointError  one that is not as it was written
    ├── RunError             a run that is missing, busy or damaged
    │   └── DiskFullError    a disk without room for what a run has to keep
    ├── ClusterError         a Ray cluster that cannot be reached or used
    ├── FilterError          a filter of runs that cannot be read
    ├── AccessError          somebody may not come in or may not do this; or accounts that cannot be used
    ├── SoundError           the piano's sound cannot be made
    └── TrackingError        an experiment tracker that cannot be reached

A message is one sentence that says what came, what is allowed and what to do next. The command line prints it and
exits with status 1; the lab shows it in place.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class PianistIDError(Exception):
    """Root of the tree: catch this to catch everything the project raises on purpose."""


class MidiError(PianistIDError):
    """A MIDI file that cannot be read, or holds nothing to play."""


class InvalidNotesError(PianistIDError):
    """Note arrays of different lengths, out of range, or not finite."""


class ExtractionError(PianistIDError):
    """A clip that lacks what a concept is drawn from, such as notes or chords."""


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a config: the dotted key, and a sentence with the fix."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message


class ConfigError(PianistIDError):
    """A config that is refused; `faults` lists everything wrong with it, not only the first."""

    def __init__(self, faults: Sequence[Fault], *, source: str = "config") -> None:
        self.faults = tuple(faults)
        self.source = source
        count = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
        super().__init__(f"{source}: {count}: " + "; ".join(str(fault) for fault in self.faults))


class DataError(PianistIDError):
    """Something wrong with a data set."""


class DataRootError(DataError):
    """A data root that does not exist, is not one, or cannot be written."""


class ArchiveError(DataError):
    """An archive that is broken, or that would escape, explode or overwrite."""


class ImportSourceError(DataError):
    """A source in none of the layouts that can be imported."""


class SplitError(DataError):
    """A split that is missing, contradicts the clips, or cannot be made as asked."""


class FetchError(DataError):
    """A download that failed: offline, refused, incomplete or altered."""


class LoaderError(DataError):
    """Batches that can no longer be drawn: the processes that draw them die."""


class ModelError(PianistIDError):
    """A model that cannot be built, or an input of the wrong shape."""


class CheckpointError(PianistIDError):
    """A checkpoint that is missing, damaged, or of another architecture or class list."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint that is not as it was written: bits changed, or cut short."""


class RunError(PianistIDError):
    """A run that is missing, already running, or damaged."""


class DiskFullError(RunError):
    """A disk without room for what a run has to keep."""


class ClusterError(PianistIDError):
    """A Ray cluster that cannot be reached, does not answer, or cannot train a run."""


class AccessError(PianistIDError):
    """Something that a person may not do here, or accounts that cannot be read, made or kept."""


class SoundError(PianistIDError):
    """The piano's sound cannot be made here: its sound font or its renderer is missing or broken."""


class FilterError(PianistIDError):
    """A filter that cannot be read: what is wrong, where, and what is allowed; `position` counts characters from 0."""

    def __init__(self, message: str, position: int = 0) -> None:
        self.position = position
        super().__init__(f"at character {position + 1}: {message}")


class TrackingError(PianistIDError):
    """An experiment tracker that cannot be reached or refuses."""
