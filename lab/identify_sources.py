"""Where the music that is identified comes from: dropped files, recordings that are here, or one's own hands."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import streamlit as st

import cached
import state
from components.keyboard import Take, show_keyboard
from pianistid_core.datasets.root import PARTS, DataRoot, RecordingInfo
from pianistid_core.errors import PianistIDError
from pianistid_core.midi import DEFAULT_LIMITS, write_midi
from wording import count, listed, one_line, plain, sentence

MAX_FILES = 50
MAX_MB = int(DEFAULT_LIMITS.max_bytes / 1e6)  # what is larger the reader of MIDI files refuses
FILES, HERE, PLAY = "Drop files", "From your recordings", "Play"
_TABS = (FILES, HERE, PLAY)
_ENOUGH_S = 5.0
_ENOUGH_NOTES = 12


@dataclass(frozen=True)
class Given:
    """One piece to identify: its name, its bytes, its track, and who plays when that is known."""

    name: str
    data: bytes
    truth: str | None = None
    track: str | None = None


def draw_sources(root: DataRoot, split: str = "") -> list[Given]:
    """Three ways to bring music, and the pieces that the chosen one gives; `split` is that of the model."""
    asked = st.query_params.get("example")
    if asked and state_unset("source"):
        st.session_state["source"] = HERE
    files, here, play = st.tabs(_TABS, key="source", on_change="rerun", bind="query-params")
    given: list[Given] = []
    with files:
        dropped = uploads()
    with here:
        example = recording(root, split) if here.open else None
    with play:
        played = by_hand() if play.open else None
    if here.open:
        given = [example] if example else []
    elif play.open:
        given = [played] if played else []
    else:
        given = dropped
    return given


def state_unset(key: str) -> bool:
    """Whether neither this session nor the address bar has chosen anything for a widget."""
    return key not in st.session_state and key not in st.query_params


def uploads() -> list[Given]:
    """The files that were dropped here, else those dropped on Home; those over the limits are said in words."""
    files = drop_zone("midi_files")
    if files:
        state.bring([])
    elif state.brought():
        pieces = told_apart([Given(name, data) for name, data in state.brought()])
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key="brought"):
            st.markdown(f":material/draft: {plain(listed([piece.name for piece in pieces], 3))}, from Home")
            if st.button("Put away", key="put_away", type="tertiary", help="Forgets what was dropped on Home."):
                state.bring([])
                st.rerun()
        return pieces
    return pieces_of(files)


def drop_zone(key: str) -> list[Any]:
    """Where MIDI files are dropped, and those that were."""
    return st.file_uploader(
        "MIDI files", type=["mid", "midi"], accept_multiple_files=True, max_upload_size=MAX_MB, key=key,
        help=f"Piano performances as MIDI: one or many, up to {MAX_FILES} at once and {MAX_MB} MB each. "
        "They stay on this machine.",
    )  # fmt: skip


def pieces_of(files: Sequence[Any]) -> list[Given]:
    """The pieces in files that were dropped, no more than are taken at once."""
    if len(files) > MAX_FILES:
        left = [one_line(file.name) for file in files[MAX_FILES:]]
        st.warning(
            sentence(f"the first {MAX_FILES} files are taken and {listed(left, 3)} left out; drop those afterwards"),
            icon=":material/warning:",
        )
    return told_apart([Given(one_line(file.name, 120), file.getvalue()) for file in files[:MAX_FILES]])


def told_apart(pieces: Sequence[Given]) -> list[Given]:
    """The same pieces, where several of one name have their number: "a.mid", "a.mid (2)"."""
    names = numbered([piece.name for piece in pieces])
    return [replace(piece, name=name) for piece, name in zip(pieces, names, strict=True)]


def recording(root: DataRoot, preferred: str = "") -> Given | None:
    """A whole recording or a clip of a data set, for which the truth is known; of the `preferred` split at first."""
    splits = cached.contents(root).splits
    if not splits:
        st.caption("No recordings are here yet.")
        st.page_link("views/data.py", label="Bring some in", icon=":material/library_music:")
        return None
    asked = st.query_params.get("example")
    names = list(splits)
    first = next((name for name in (asked, preferred) if name in names), names[0])
    with st.container(horizontal=True, gap="small"):
        name = st.selectbox(
            "Split", names, index=names.index(first), key="example_split", width=170,
            help="Its test and validation parts, which a model that was trained on this split does not learn from.",
        )  # fmt: skip
        split = splits[name if name in splits else names[0]]
        entries = [entry for part in PARTS[1:] for entry in split.parts.get(part, ())]
        pianists = sorted({split.class_names[entry.pianist] for entry in entries})
        pianist = st.selectbox(
            "Pianist", pianists, key="example_pianist", format_func=one_line, width=190,
            help="Who plays, as the data set has it.",
        )  # fmt: skip
        titles = titles_of(root, [entry.track for entry in entries if split.class_names[entry.pianist] == pianist])
        track = st.selectbox(
            "Recording", list(titles), key="example_track", format_func=lambda one: titles.get(one, one), width=260,
            help="A recording of the test or validation part.",
        )  # fmt: skip
        files = recording_files(root, track) if track else {}
        part = st.selectbox(
            "What of it", list(files), key=f"example_part_{track}", width=140,
            help="All of it, or one clip of 30 seconds.",
        )  # fmt: skip
    if not track or not pianist:
        st.caption("This split holds no recordings to test with.")
        return None
    if not files:
        st.warning(sentence(f"no file of {track} is on disk"), icon=":material/warning:")
        return None
    if not st.toggle("Identify this", value=bool(asked), key="example_on", help="Asks the model who plays it."):
        return None
    chosen = part or next(iter(files))
    return Given(f"{titles[track]}, {chosen.lower()}", files[chosen].read_bytes(), truth=pianist, track=track)


def titles_of(root: DataRoot, tracks: Sequence[str]) -> dict[str, str]:
    """A title for each recording; those of one title get their album too, and a number where that is not enough.

    A list in which two lines read alike would open the same one for both.
    """
    known = cached.contents(root).recordings
    plainly = {track: _title(known.get(track), track) for track in tracks}
    often = Counter(plainly.values())
    albums = {track: info.album for track in tracks if (info := known.get(track)) is not None and info.album}
    titles = [
        f"{title}, {albums[track]}" if often[title] > 1 and track in albums else title
        for track, title in plainly.items()
    ]
    return dict(zip(plainly, numbered(titles), strict=True))


def _title(info: RecordingInfo | None, track: str) -> str:
    return one_line((info.composition if info else None) or track.rpartition("/")[2], 80)


def numbered(names: Sequence[str]) -> list[str]:
    """The same names, where each that has come before gets its number: "a", "a (2)"."""
    taken: set[str] = set()
    done = []
    for name in names:
        new, number = name, 1
        while new in taken:
            number += 1
            new = f"{name} ({number})"
        taken.add(new)
        done.append(new)
    return done


def recording_files(root: DataRoot, track: str) -> dict[str, Path]:
    """What there is of a recording: the whole of it where the data root holds that, and its clips."""
    whole = root.raw_dir / track / "piano_midi.mid"
    clips = {f"Clip {number}": path for number, path in enumerate(root.clip_paths(track), start=1)}
    return ({"The whole": whole} if whole.is_file() else {}) | clips


def by_hand() -> Given | None:
    """What was played on the keyboard of the page, of the computer, or one that is connected."""
    take = show_keyboard(key="keyboard")
    if take is None:
        return None
    problem = too_little(take)
    if problem:
        st.warning(sentence(problem), icon=":material/timer:")
        return None
    try:
        return Given(f"Your take {take.number}", write_midi(take.notes))
    except PianistIDError as error:
        st.error(sentence(error), icon=":material/error:")
        return None


def too_little(take: Take) -> str:
    """Why a take cannot be identified, or nothing."""
    n, seconds = len(take.notes), take.notes.duration_s
    if n >= _ENOUGH_NOTES and seconds >= _ENOUGH_S:
        return ""
    return (
        f"that was {count(n, 'note')} in {seconds:.0f} s; play at least {_ENOUGH_NOTES} notes over {_ENOUGH_S:.0f} s, "
        "better half a minute, then stop"
    )
