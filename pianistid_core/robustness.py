"""The same music otherwise: whether an answer stands when a recording is transposed, hurried, jittered or cut short.

Each variation is of the notes of one 30 s clip, or of the MIDI file that they come in; a recording is put together of
its clips again, one after the other, and asked about as somebody's file would be.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pianistid_core.errors import DataError, ExtractionError
from pianistid_core.measuring import counted
from pianistid_core.midi import CLIP_LENGTH_S, DRUM_CHANNEL, Notes, read_midi, write_midi

if TYPE_CHECKING:
    from pianistid_core.datasets.cache import NoteCache
    from pianistid_core.datasets.root import Split
    from pianistid_core.identify import Identifier

OnProgress = Callable[[int, int], None]
Change = Callable[[Notes, np.random.Generator], Notes]

_SEED = 20260101
_SPLIT_AT = 60  # middle C: what is below goes to the left hand
_EIGHTH_S = 0.125
_PEDAL_S = 2.0
_SHORTEST_S = 0.03


@dataclass(frozen=True)
class Variation:
    """One way to have the same music otherwise; with `first` clips, only so many of a recording are heard."""

    name: str
    change: Change
    first: int | None = None


def variations() -> list[Variation]:
    """What every model is tried with, the music as it is first."""
    return [
        Variation("as it is", lambda notes, rng: notes),
        Variation("velocities drawn at random", _random_velocities),
        Variation("transposed by -5 to +6 semitones", _transposed),
        Variation("tempo x 0.8", lambda notes, rng: stretched(notes, 1 / 0.8)),
        Variation("tempo x 1.2", lambda notes, rng: stretched(notes, 1 / 1.2)),
        Variation("onsets jittered by 10 ms", lambda notes, rng: jittered(notes, 0.010, rng)),
        Variation("onsets jittered by 20 ms", lambda notes, rng: jittered(notes, 0.020, rng)),
        Variation("put on a grid of 125 ms", lambda notes, rng: on_grid(notes, _EIGHTH_S)),
        Variation("begun 50 ms later", lambda notes, rng: notes.shifted(0.05)),
        Variation("hands in two tracks, two instruments", lambda notes, rng: read_midi(two_hands(notes))),
        Variation("with a drum track", lambda notes, rng: read_midi(with_drums(notes))),
        Variation("held by the pedal, up to 2 s", lambda notes, rng: pedalled(notes)),
        Variation("a tenth of the notes missing", lambda notes, rng: thinned(notes, 0.1, rng)),
        Variation("the first 30 s only", lambda notes, rng: notes, first=1),
    ]


def measure_robustness(
    identifier: "Identifier",
    recordings: Sequence[tuple[str, Sequence[Notes]]],
    chosen: Sequence[Variation] | None = None,
    progress: OnProgress | None = None,
) -> list[dict[str, Any]]:
    """For each variation how many recordings (who plays, and the clips) are named rightly, and how many as before.

    `progress(done, total)` counts recordings over all variations.
    """
    tried = variations() if chosen is None else list(chosen)
    rows: list[dict[str, Any]] = []
    before: list[str | None] = []
    for number, variation in enumerate(tried):
        heard = []
        for position, (_, clips) in enumerate(recordings):
            heard.append(_heard(identifier, _varied(clips, variation, position)))
            if progress is not None:
                progress(number * len(recordings) + position + 1, len(tried) * len(recordings))
        before = before or heard
        right = sum(who == truth for who, (truth, _) in zip(heard, recordings, strict=True))
        same = sum(who == first for who, first in zip(heard, before, strict=True))
        rows.append({"variation": variation.name, **counted(right, len(recordings)), "same": same})
    return rows


def measure_expressive(identifier: "Identifier", folder: Path, split: "Split") -> dict[str, Any]:
    """Clips with full timing and velocities, named <source>_<recording>_clip_<number>.mid: which are named rightly.

    Told apart are clips of recordings in the split's training part, and of all others. A recording's name begins with
    its pianist's, as in the paper's archive; so whose it is is known where the split has none of that name.

    Raises
    ------
    DataError
        When the folder holds no clip by a pianist of the split.
    """
    entries = [(part, entry) for part, all_of_it in split.parts.items() for entry in all_of_it]
    who = {_player(entry.track): split.class_names[entry.pianist] for _, entry in entries}
    learned = {entry.track for part, entry in entries if part == "train"}
    hits: dict[str, list[bool]] = {"train": [], "held out": []}
    for path in sorted(folder.glob("*.mid")):
        source, _, rest = path.stem.partition("_")
        track = f"{source}/{rest.rpartition('_clip_')[0]}"
        if _player(track) in who:
            right = _heard(identifier, read_midi(path)) == who[_player(track)]
            hits["train" if track in learned else "held out"].append(right)
    if not any(hits.values()):
        raise DataError(
            f"{folder} holds no clip by a pianist of split {split.name!r}, such as source_recording_clip_000.mid"
        )
    return {name: counted(sum(right), len(right)) for name, right in hits.items()}


def _player(track: str) -> str:
    """Who plays, as the paper's archive begins a recording's name: "jtd/barronk-..." as "barronk"."""
    return track.partition("/")[2].partition("-")[0]


def recordings_of(cache: "NoteCache") -> list[tuple[str, list[Notes]]]:
    """Every recording of a part: who plays, and its clips in order."""
    clips: dict[int, list[int]] = {}
    for clip, recording in enumerate(cache.recording_ids.tolist()):
        clips.setdefault(recording, []).append(clip)
    return [
        (cache.class_names[int(cache.labels[mine[0]])], [cache.notes(clip) for clip in mine]) for mine in clips.values()
    ]


def _heard(identifier: "Identifier", notes: Notes) -> str | None:
    try:
        return identifier.identify(notes, concepts=False).pianist
    except ExtractionError:
        return None


def _varied(clips: Sequence[Notes], variation: Variation, recording: int) -> Notes:
    changed = [
        variation.change(clip.between(0.0, CLIP_LENGTH_S), np.random.default_rng([_SEED, recording]))
        for clip in clips[: variation.first]
    ]
    return joined(changed)


def joined(clips: Sequence[Notes]) -> Notes:
    """Clips one after the other as one piece; a last note is held to its end, so that the last clip is a whole one."""
    pieces = [clip.between(0.0, CLIP_LENGTH_S).shifted(CLIP_LENGTH_S * number) for number, clip in enumerate(clips)]
    onsets, offsets, pitches, velocities = (
        np.concatenate([getattr(piece, field) for piece in pieces])
        for field in ("onsets_s", "offsets_s", "pitches", "velocities")
    )
    if len(offsets):
        last = int(offsets.argmax())
        offsets[last] = max(offsets[last], CLIP_LENGTH_S * len(clips))
    return Notes.from_arrays(onsets, offsets, pitches, velocities)


# --- of notes --------------------------------------------------------------------------------------------------------


def _random_velocities(notes: Notes, rng: np.random.Generator) -> Notes:
    drawn = rng.integers(20, 111, len(notes))
    return Notes.from_arrays(notes.onsets_s, notes.offsets_s, notes.pitches, drawn)


def _transposed(notes: Notes, rng: np.random.Generator) -> Notes:
    """All clips of a recording by the same interval, since the generator is begun anew for each."""
    return transposed(notes, int(rng.choice([*range(-5, 0), *range(1, 7)])))


def transposed(notes: Notes, semitones: int) -> Notes:
    """Some semitones higher; what would leave the numbers of MIDI is left out."""
    pitches = notes.pitches.astype(np.int64) + semitones
    kept = (pitches >= 0) & (pitches <= 127)
    return Notes.from_arrays(notes.onsets_s[kept], notes.offsets_s[kept], pitches[kept], notes.velocities[kept])


def stretched(notes: Notes, factor: float) -> Notes:
    """All times multiplied."""
    return Notes(notes.onsets_s * factor, notes.offsets_s * factor, notes.pitches, notes.velocities)


def jittered(notes: Notes, spread_s: float, rng: np.random.Generator) -> Notes:
    """Each note moved by a normal deviate, its length kept."""
    onsets = np.maximum(notes.onsets_s + rng.normal(0, spread_s, len(notes)), 0.0)
    lengths = notes.offsets_s - notes.onsets_s
    return Notes.from_arrays(onsets, onsets + lengths, notes.pitches, notes.velocities)


def on_grid(notes: Notes, step_s: float) -> Notes:
    """Beginnings and ends rounded to a grid, each note at least one step long."""
    onsets = np.round(notes.onsets_s / step_s) * step_s
    offsets = np.maximum(np.round(notes.offsets_s / step_s) * step_s, onsets + step_s)
    return Notes.from_arrays(onsets, offsets, notes.pitches, notes.velocities)


def pedalled(notes: Notes) -> Notes:
    """Each note held until the pedal is changed, every two seconds, or its key is struck again."""
    lifted = (np.floor(notes.onsets_s / _PEDAL_S) + 1) * _PEDAL_S
    again = np.full(len(notes), np.inf)
    for pitch in np.unique(notes.pitches):
        mine = np.flatnonzero(notes.pitches == pitch)
        again[mine[:-1]] = notes.onsets_s[mine[1:]]
    offsets = np.maximum(notes.offsets_s, np.minimum(lifted, again))
    return Notes.from_arrays(notes.onsets_s, np.maximum(offsets, notes.onsets_s), notes.pitches, notes.velocities)


def thinned(notes: Notes, share: float, rng: np.random.Generator) -> Notes:
    """A share of the notes left out by chance."""
    kept = rng.random(len(notes)) >= share
    return Notes(notes.onsets_s[kept], notes.offsets_s[kept], notes.pitches[kept], notes.velocities[kept])


# --- of files --------------------------------------------------------------------------------------------------------


def two_hands(notes: Notes) -> bytes:
    """A file with a track for each hand, the right one a piano and the left an electric one."""
    low = notes.pitches < _SPLIT_AT
    hands = [
        (0, 0, _some(notes, ~low)),
        (1, 4, _some(notes, low)),
    ]
    return _file((channel, program, hand) for channel, program, hand in hands if len(hand))


def with_drums(notes: Notes) -> bytes:
    """A file with a second track, of drums on every beat."""
    beats = np.arange(0.0, max(notes.duration_s, 1.0), 0.5)
    kinds = np.where(np.arange(len(beats)) % 2, 38, 36)
    drums = Notes.from_arrays(beats, beats + 0.1, kinds, np.full(len(beats), 100))
    return _file([(0, 0, notes), (DRUM_CHANNEL, 0, drums)])


def _some(notes: Notes, kept: "np.ndarray[Any, np.dtype[np.bool_]]") -> Notes:
    return Notes(notes.onsets_s[kept], notes.offsets_s[kept], notes.pitches[kept], notes.velocities[kept])


def _file(parts: "Iterator[tuple[int, int, Notes]] | Sequence[tuple[int, int, Notes]]") -> bytes:
    """A file of several tracks, each of a channel and an instrument."""
    import mido

    whole = mido.MidiFile(type=1, ticks_per_beat=480)
    for channel, program, notes in parts:
        [track] = mido.MidiFile(file=BytesIO(write_midi(notes))).tracks
        for message in track:
            if not message.is_meta:
                message.channel = channel
        track.insert(0, mido.Message("program_change", channel=channel, program=program))
        whole.tracks.append(track)
    out = BytesIO()
    whole.save(file=out)
    return out.getvalue()
