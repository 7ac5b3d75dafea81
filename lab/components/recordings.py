"""Several recordings to look at and listen to: pick one, see its roll, hear it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import streamlit as st

import cached
from components.piano_roll import Roll, clip_roll, performance_roll, show_roll
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import PianistIDError
from pianistid_core.rolls import CLIP_SECONDS
from wording import clock, count, one_line, plain, sentence

WHOLE = "Whole recording"


def show_recordings(
    root: DataRoot, tracks: Sequence[str], *, key: str, labels: Mapping[str, str] | None = None, height: int = 300
) -> None:
    """Draws a choice among recordings ("source/recording") and the player of the chosen one.

    `labels` say more of a recording in the list. What is not on disk any more is said in a sentence.
    """
    if not tracks:
        st.caption("No recording here.")
        return
    known = cached.contents(root).recordings

    def title(track: str) -> str:
        info = known.get(track)
        name = (info.composition if info else None) or track.rpartition("/")[2]
        more = (labels or {}).get(track)
        return one_line(f"{name}, {more}" if more else name, 110)

    one, two = st.columns([3, 2], vertical_alignment="bottom")
    track = one.selectbox(
        "Recording", list(tracks), key=f"{key}_track", format_func=title,
        help=f"One of {count(len(tracks), 'recording')} to look at and hear.",
    )  # fmt: skip
    if track not in tracks:
        track = tracks[0]
    try:
        path, begins_s = _choose_part(root, track, two, key)
        if path is None:
            st.warning(
                sentence(f"no music of {track} is on disk any more, though the run was measured on it"),
                icon=":material/music_off:",
            )
            return
        roll, missing = _roll(path, cached.stamp(path), title(track), begins_s is None)
    except PianistIDError as error:
        st.error(sentence(error), icon=":material/error:")
        return
    show_roll(roll, key=f"{key}_roll", height=height)
    album = known[track].album if track in known else None
    st.caption(plain(f"{track}{f', from {album}' if album else ''}", 300))
    if missing:
        st.caption(sentence(missing))


def _choose_part(
    root: DataRoot, track: str, place: "st.delta_generator.DeltaGenerator", key: str
) -> tuple[Path | None, float | None]:
    """The file to show, and where it begins in the recording; None for all of it."""
    clips = root.clip_paths(track)
    whole = root.raw_dir / track / "piano_midi.mid"
    choices: list[str] = [WHOLE] if whole.is_file() else []
    choices += [f"Clip {n + 1} of {len(clips)}, from {clock(n * CLIP_SECONDS)}" for n in range(len(clips))]
    if not choices:
        return None, None
    chosen = place.selectbox(
        "Part", choices, key=f"{key}_part", help="All of it, or one of the 30 s clips that the model hears."
    )
    if chosen == WHOLE and whole.is_file():
        return whole, None
    number = max(0, choices.index(chosen) - len(choices) + len(clips)) if chosen in choices else 0
    return clips[number], number * CLIP_SECONDS


@st.cache_data(max_entries=32, show_spinner="Drawing the music")
def _roll(path: Path, seen: tuple[float, ...], label: str, whole: bool) -> tuple[Roll, str | None]:
    notes = cached.notes_of(path)
    return (performance_roll(notes, label), None) if whole else clip_roll(notes, label)
