"""The log of one run: by level, searched, followed, downloaded."""

import io

import streamlit as st

import run_actions
from guard import guard
from pianistid_core.runs import Run
from wording import count, one_line, plain

LEVELS = {"All": None, "Info": "INFO", "Warnings": "WARNING", "Errors": "ERROR"}
LAST = 500


def draw(run: Run, *, tick_s: float | None) -> None:
    """Draws the controls, which stand still, and below them the lines."""
    bar = st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="log_toolbar")
    level = bar.segmented_control(
        "Level", list(LEVELS), default="All", key="log_level", required=True,
        help="Lines of this level and those more serious.",
    )  # fmt: skip
    contains = bar.text_input(
        "Search",
        key="log_search",
        max_chars=200,
        width=300,
        icon=":material/search:",
        help="Lines that hold this text.",
    )
    follow = True
    if tick_s is not None:
        follow = bar.toggle(
            "Follow", True, key="log_follow", help="Shows new lines as they come; off holds them still."
        )
    bar.download_button(
        "Whole log", lambda: whole(run), file_name=f"{run.path.name}.log.txt", mime="text/plain", key="log_download",
        icon=":material/download:", help="All of it, as it was written.",
        on_click=run_actions.say_if_gone, args=(run.log_path, f"the log of {run.id}"),
    )  # fmt: skip
    every = tick_s if follow else None
    st.fragment(lines_of, run_every=every, key="live_log")(run, LEVELS.get(level or "All"), contains or "", follow)


@guard
def lines_of(run: Run, level: str | None, contains: str, follow: bool) -> None:
    """The last lines that were asked for."""
    found, n = run.log_page(level=level, contains=contains, last=LAST)
    if not found:
        if level or contains:
            st.info("No line of the log fits.", icon=":material/search_off:")
        else:
            st.caption("The log is empty so far.")
        return
    with st.container(height=440, border=False, autoscroll=follow, key="log_box"):
        st.code("\n".join(one_line(line.text, 2000) for line in found), language=None, wrap_lines=True)
    if n > len(found):
        st.caption(plain(f"The last {len(found)} of {count(n, 'line')}; the download holds all."))


def whole(run: Run) -> io.BufferedReader:
    """The log as a file, read when it is asked for; one that vanished is no file, not an empty one."""
    return run.log_path.open("rb")
