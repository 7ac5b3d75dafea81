"""How much music a split holds, of whom, and in which part."""

import streamlit as st

import cached
import palette
from components.chart import show_chart
from components.figures import show_figures
from data_charts import MEASURES, holdings_chart, holdings_of, holdings_table
from pianistid_core.datasets.root import DataRoot, Split
from wording import duration

_ABOUT = {
    "Hours": "Hours of music in each part of the split, as long as the recordings are.",
    "Recordings": "Recordings in each part of the split.",
    "Clips": "Clips of 30 s that are on disk, in each part of the split.",
}


def draw_statistics(root: DataRoot, split: Split) -> None:
    """Draws the figures of a split and the music by pianist."""
    entries = [entry for part in split.parts.values() for entry in part]
    clips = cached.clip_counts(root, tuple(dict.fromkeys(entry.track for entry in entries)))
    music_s = sum(entry.duration_s for entry in entries)
    missing = sum(not n for n in clips.values())
    show_figures(
        [
            ("Pianists", str(len(split.class_names)), "The classes of a model.", "to tell apart"),
            ("Recordings", f"{len(clips):,}", "Whole performances.", f"{missing:,} without clips here"),
            ("Music", duration(music_s), "As long as the recordings are, summed up.", "in all parts"),
            ("Clips", f"{sum(clips.values()):,}", "Each file also holds the 30 s that follow.", "of 30 s, on disk"),
        ],
        key="split",
    )  # fmt: skip
    if split.validation_is_test:
        st.caption("This split has no validation part; the test part stands in for it.")
    st.header("Music by pianist", anchor=False)
    measure = st.segmented_control(
        "What to count", MEASURES, default=MEASURES[0], key="data_measure", bind="query-params", required=True,
        help="What the bars below stand for.",
    )  # fmt: skip
    measure = measure if measure in MEASURES else MEASURES[0]
    holdings = holdings_of(split, clips)
    show_chart(
        holdings_chart(holdings, measure, palette.current()),
        key="hours", title=f"{measure} by pianist", about=_ABOUT[measure], data=lambda: holdings_table(holdings),
    )  # fmt: skip
