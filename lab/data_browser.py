"""A split's clips to look at and hear: filter, search, step through, and link to any of them.

The chosen recording and clip stand in the address bar under `track` and `clip`, so that a link opens the same view.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

import cached
from charts import PART_NAMES
from components.empty import show_empty
from components.piano_roll import clip_roll, show_roll
from guard import whole
from pianistid_core.datasets.root import PARTS, DataRoot, RecordingInfo, Split
from pianistid_core.errors import PianistIDError
from pianistid_core.rolls import CLIP_SECONDS
from wording import clock, count, one_line, plain, sentence

ALL = "All pianists"
ANY_PART = "All parts"
_TRACK, _NUMBER = "track", "clip"
_MOST_SHOWN = 400


@dataclass(frozen=True)
class Item:
    """One recording of a split, with what it is searched and named by."""

    track: str
    pianist: str
    part: str
    piece: str
    album: str

    @property
    def title(self) -> str:
        """How the list names it."""
        return one_line(f"{self.piece} · {self.pianist} · {PART_NAMES.get(self.part, self.part).lower()}", 110)


def items_of(split: Split, recordings: dict[str, RecordingInfo]) -> list[Item]:
    """The recordings of a split by piece, then track."""
    found = []
    for part in (part for part in PARTS if part in split.parts):
        for entry in split.parts[part]:
            info = recordings.get(entry.track)
            piece = (info.composition if info else None) or entry.track.rpartition("/")[2]
            album = (info.album if info else None) or ""
            found.append(Item(entry.track, split.class_names[entry.pianist], part, piece, album))
    return sorted(found, key=lambda item: (item.piece.casefold(), item.track))


def matching(items: Sequence[Item], pianist: str, part: str, text: str) -> list[Item]:
    """The recordings by a pianist (or all), in a part (or all), in which every word of `text` occurs."""
    words = text.casefold().split()
    return [
        item
        for item in items
        if pianist in (ALL, item.pianist)
        and part in (ANY_PART, item.part)
        and all(word in f"{item.piece} {item.pianist} {item.album} {item.track}".casefold() for word in words)
    ]


def draw_browser(root: DataRoot, split: Split) -> None:
    """Draws the filters, the list and the player."""
    items = items_of(split, cached.contents(root).recordings)
    if not items:
        show_empty(
            ":material/music_off:",
            "No recording in this split",
            "Make a split of recordings that are here.",
            key="clips",
        )
        return
    found = _filtered(items, split)
    if not found:
        show_empty(
            ":material/search_off:",
            "Nothing matches",
            "Fewer words, another pianist or all parts find more.",
            key="clips",
        )
        return
    _take_up_link(items, found)
    shown = found[:_MOST_SHOWN]
    chosen = st.session_state.get("clip_track")
    if chosen not in {item.track for item in shown}:
        shown = [*[item for item in found if item.track == chosen], *shown]
    titles = {item.track: item.title for item in shown}
    one, two = st.columns([5, 2], vertical_alignment="bottom")
    track = one.selectbox(
        "Recording", list(titles), key="clip_track", format_func=lambda track: titles.get(track, one_line(track)),
        help="By piece. Type to find one; the filters above make the list shorter.",
    )  # fmt: skip
    track = track if track in titles else shown[0].track
    paths = root.clip_paths(track)
    if len(found) > _MOST_SHOWN:
        st.caption(f"{len(found):,} recordings match; the list has the first {_MOST_SHOWN}. Search to find the others.")
    if not paths:
        st.warning(sentence(f"no clips of {track} are on disk, though the split names it"), icon=":material/warning:")
        return
    number = two.selectbox(
        "Clip", range(len(paths)), key="clip_number", help="Its 30 s within the recording.",
        format_func=lambda n: f"{n + 1} of {len(paths)}, from {clock(n * CLIP_SECONDS)}",
    )  # fmt: skip
    number = min(number or 0, len(paths) - 1)
    st.query_params.update({_TRACK: track, _NUMBER: str(number + 1)})
    _steps([item.track for item in found], track, number, len(paths))
    item = next(item for item in shown if item.track == track)
    _player(root, item, number)


def _filtered(items: Sequence[Item], split: Split) -> list[Item]:
    one, two, three = st.columns([2, 3, 2], vertical_alignment="bottom")
    present = {item.pianist for item in items}
    pianist = one.selectbox(
        "Pianist", [ALL, *(name for name in split.class_names if name in present)], key="clip_pianist",
        format_func=one_line, help="Only recordings of this pianist.",
    )  # fmt: skip
    text = two.text_input(
        "Search", key="clip_search", placeholder="Piece, album or file", max_chars=100,
        help="Recordings in which all of these words occur, in the piece, the album, the pianist or the file's name.",
    )  # fmt: skip
    part = three.selectbox(
        "Part", [ANY_PART, *(part for part in PARTS if part in split.parts)], key="clip_part",
        format_func=lambda part: PART_NAMES.get(part, part), help="Only recordings that train, test or validate.",
    )  # fmt: skip
    return matching(items, pianist or ALL, part or ANY_PART, text or "")


def _take_up_link(items: Sequence[Item], found: Sequence[Item]) -> None:
    """Shows the recording and clip that the address names, when this session has not chosen any yet."""
    if "clip_track" in st.session_state:
        if st.session_state["clip_track"] not in {item.track for item in found}:
            st.session_state["clip_track"] = found[0].track
            st.session_state["clip_number"] = 0
        return
    asked = st.query_params.get(_TRACK)
    if asked is None:
        return
    if asked not in {item.track for item in items}:
        st.warning(
            sentence(f"there is no recording {asked} in this split; here is another"), icon=":material/link_off:"
        )
        return
    st.session_state["clip_track"] = asked
    number = st.query_params.get(_NUMBER, "1")
    st.session_state["clip_number"] = max(0, int(number) - 1) if number.isdecimal() and len(number) < 7 else 0


def _steps(tracks: Sequence[str], track: str, number: int, n_clips: int) -> None:
    """Previous and next, over the ends of recordings."""
    at = tracks.index(track) if track in tracks else 0
    with st.container(horizontal=True, gap="small"):
        st.button(
            "Previous clip", key="clip_previous", icon=":material/skip_previous:", on_click=step,
            args=(tracks, at, number, n_clips, -1), disabled=at == 0 and number == 0,
            help="The clip before; at the beginning, the recording before.",
        )  # fmt: skip
        st.button(
            "Next clip", key="clip_next", icon=":material/skip_next:", on_click=step,
            args=(tracks, at, number, n_clips, 1), disabled=at == len(tracks) - 1 and number == n_clips - 1,
            help="The clip after; at the end, the recording after.",
        )  # fmt: skip


@whole
def step(tracks: Sequence[str], at: int, number: int, n_clips: int, by: int) -> None:
    """Goes one clip on or back; beyond an end of the recording, to the first clip of its neighbour."""
    if 0 <= number + by < n_clips:
        st.session_state["clip_number"] = number + by
        return
    st.session_state["clip_track"] = tracks[max(0, min(len(tracks) - 1, at + by))]
    st.session_state["clip_number"] = 0


def _player(root: DataRoot, item: Item, number: int) -> None:
    paths = root.clip_paths(item.track)
    path = paths[min(number, len(paths) - 1)]
    try:
        notes = cached.notes_of(path)
    except PianistIDError as error:
        st.error(sentence(error), icon=":material/error:")
        return
    roll, missing = clip_roll(notes, one_line(f"{item.pianist}, {item.piece}, clip {number + 1}"))
    show_roll(roll, key="clip_roll", height=340)
    heard = notes.between(0.0, CLIP_SECONDS)
    album = f", from {item.album}" if item.album else ""
    st.caption(plain(f"{count(len(heard), 'note')} in these 30 s{album}. File: {path.relative_to(root.path)}", 400))
    if missing:
        st.caption(sentence(missing))
