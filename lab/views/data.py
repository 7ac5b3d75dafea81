"""Data: what is here, what is wrong with it, what it sounds like, and how more comes in."""

import pandas as pd
import streamlit as st

import actions
import cached
import charts
import jobs
import palette
import state
from components.chart import show_chart
from components.figures import show_figures
from components.piano_roll import clip_roll, show_roll
from data_check import draw_check
from data_import import draw_import
from pianistid_core.datasets.root import PARTS, DataRoot, Split
from pianistid_core.errors import PianistIDError
from pianistid_core.rolls import CLIP_SECONDS
from wording import clock, count, duration, one_line, plain, sentence


def statistics(root: DataRoot, split: Split) -> None:
    """Hours, recordings and clips by pianist and part."""
    names = split.class_names
    parts = [part for part in PARTS if part in split.parts]
    entries = [entry for part in parts for entry in split.parts[part]]
    tracks = tuple(dict.fromkeys(entry.track for entry in entries))
    clips = cached.clip_counts(root, tracks)
    hours = {
        part: {
            name: sum(e.duration_s for e in split.parts[part] if names[e.pianist] == name) / 3600
            for name in names
        }
        for part in parts
    }  # fmt: skip
    show_figures(
        [
            ("Pianists", str(len(names)), None),
            ("Recordings", f"{len(tracks):,}", None),
            ("Music", duration(sum(entry.duration_s for entry in entries)), None),
            ("Clips of 30 s", f"{sum(clips.values()):,}", "Each clip's file also holds the 30 s that follow."),
        ]
    )
    if split.validation_is_test:
        st.caption("This split has no validation part; the test part stands in for it.")
    st.subheader("Music by pianist")
    show_chart(charts.hours_by_pianist(hours, palette.current()), key="hours")
    rows = []
    for index, name in enumerate(names):
        row: dict[str, object] = {"Pianist": one_line(name)}
        for part in parts:
            mine = [entry for entry in split.parts[part] if entry.pianist == index]
            row[f"{charts.PART_NAMES[part]}: recordings"] = len(mine)
            row[f"{charts.PART_NAMES[part]}: clips"] = sum(clips[entry.track] for entry in mine)
        rows.append(row)
    with st.expander("As a table"):
        st.dataframe(pd.DataFrame(rows), hide_index=True, key="hours_table", alt="Recordings and clips by pianist.")


def browser(root: DataRoot, split: Split) -> None:
    """Choose a pianist, a recording and a clip; look at it and listen."""
    names = split.class_names
    recordings = cached.contents(root).recordings
    by_pianist: dict[str, list[str]] = {name: [] for name in names}
    part_of: dict[str, str] = {}
    for part in PARTS:
        for entry in split.parts.get(part, ()):
            by_pianist[names[entry.pianist]].append(entry.track)
            part_of[entry.track] = part
    one, two, three = st.columns([2, 3, 2])
    pianist = one.selectbox("Pianist", [name for name in names if by_pianist[name]], key="clip_pianist")
    if pianist is None:
        st.info("No pianist in this split has a recording.", icon=":material/info:")
        return

    def title(track: str) -> str:
        info = recordings.get(track)
        piece = (info.composition if info else None) or track.rpartition("/")[2]
        return one_line(f"{piece}, {charts.PART_NAMES[part_of[track]].lower()}", 90)

    track = two.selectbox("Recording", sorted(by_pianist[pianist], key=title), format_func=title, key="clip_track")
    paths = root.clip_paths(track) if track else []
    if not track or not paths:
        st.warning(sentence(f"no clips of {track} are on disk, though the split names it"), icon=":material/warning:")
        return
    number = three.selectbox(
        "Clip", range(len(paths)), key="clip_number",
        format_func=lambda n: f"{n + 1} of {len(paths)}, from {clock(n * CLIP_SECONDS)}",
    )  # fmt: skip
    path = paths[min(number or 0, len(paths) - 1)]
    try:
        notes = cached.notes_of(path)
    except PianistIDError as error:
        st.error(sentence(error), icon=":material/error:")
        return
    roll, missing = clip_roll(notes, one_line(f"{pianist}, {title(track)}, clip {(number or 0) + 1}"))
    show_roll(roll, key="clip_roll", height=340)
    heard = notes.between(0.0, CLIP_SECONDS)
    info = recordings.get(track)
    album = f", from {info.album}" if info and info.album else ""
    st.caption(plain(f"{count(len(heard), 'note')} in these 30 s{album}. File: {path.relative_to(root.path)}", 400))
    if missing:
        st.caption(sentence(missing))


def empty(root: DataRoot) -> None:
    """What a data root without a split shows."""
    tracks = cached.contents(root).tracks
    if tracks:
        st.info(
            plain(f"{count(len(tracks), 'recording')} are here, but no split says which of them to train and test on."),
            icon=":material/info:",
        )
    else:
        st.markdown("##### No music here yet")
        st.write("Let the lab compose its demo, or bring in MIDI files of your own.")


def page() -> None:
    root = state.data_root()
    st.title("Data")
    here = cached.contents(root)
    for name, reason in here.broken_splits.items():
        st.error(sentence(f"split {name} cannot be read: {reason}"), icon=":material/error:")
    if not here.splits:
        empty(root)
        draw_import(root)
        return
    chosen, _ = st.columns([2, 3])
    names = list(here.splits)
    name = chosen.selectbox(
        "Split", names, key="split", bind="query-params",
        help="Which recordings train, test and validate. A data root may hold several.",
    )  # fmt: skip
    split = here.splits[name if name in here.splits else names[0]]
    job = jobs.find(actions.DEMO_JOB)
    if job is not None and job.running:
        jobs.draw(actions.DEMO_JOB)
    tabs = ["Statistics", "Look and listen", "Check", "Bring in more"]
    overview, clips, check, more = st.tabs(tabs, key="data_tab", on_change="rerun", bind="query-params")
    if overview.open:
        with overview:
            statistics(root, split)
    if clips.open:
        with clips:
            browser(root, split)
    if check.open:
        with check:
            draw_check(root, split.name)
    if more.open:
        with more:
            draw_import(root)


page()
