"""The audit log as a table: who did what, when, and how it ended."""

from collections.abc import Sequence

import streamlit as st

import acts
import who
from components.empty import show_empty
from components.tables import download
from pianistid_core.accounts import Role
from pianistid_core.audit import Entry, entries
from pianistid_core.datasets.root import DataRoot
from wording import count, one_line, plain

SHOWN = 500
_MOST_CSV = 100_000
_ROWS_SHOWN = 14
_ANY = "Anybody"
_ANYTHING = "Anything"


def draw(root: DataRoot) -> None:
    """Draws the filters, the last entries that fit, and the file to take away."""
    if not who.may(Role.ADMINISTER):
        show_empty(
            ":material/lock:", "For who administers", "What everybody did is read by those with the role administer.",
            key="audit",
        )  # fmt: skip
        return
    latest = entries(root, SHOWN)
    if not latest:
        show_empty(
            ":material/history:", "Nothing was done yet",
            "What is started, stopped, deleted, brought in or set here, by whom and when, will stand in this list.",
            key="audit",
        )  # fmt: skip
        return
    person, action, about = _filters(latest)
    found = entries(root, SHOWN, who=person, what=action, about=about) if (person or action or about) else latest
    with st.container(horizontal=True, vertical_alignment="center"):
        words = ("The last " if len(found) == SHOWN else "") + count(len(found), "entry", "entries")
        st.markdown(plain(f"{words}, the latest first."), width="content")
        rows = acts.handing_out(
            Role.ADMINISTER, "audit download",
            lambda: [_row(entry) for entry in entries(root, _MOST_CSV, who=person, what=action, about=about)],
        )  # fmt: skip
        download(rows, key="audit_csv", name="audit")
    if not found:
        st.info("Nothing fits. Choose another person or action, or empty the filter.", icon=":material/filter_alt_off:")
        return
    st.dataframe(
        [_row(entry) for entry in found], hide_index=True, key="audit_table", placeholder="",
        height=560 if len(found) > _ROWS_SHOWN else "content",
        alt=f"{count(len(found), 'entry', 'entries')} of the audit log.",
        column_config={
            "When": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss", width="medium"),
            "About": st.column_config.TextColumn(width="medium", help="The run, data, person or setting."),
            "From": st.column_config.TextColumn(help="By these pages, or by the command line."),
            "Ended": st.column_config.TextColumn(help="Done, refused, or begun, with another line when it has ended."),
            "Why": st.column_config.TextColumn(width="large", help="The sentence by which it was refused."),
        },
    )  # fmt: skip


def _filters(latest: Sequence[Entry]) -> tuple[str | None, str | None, str | None]:
    people = sorted({entry.who for entry in latest}, key=str.casefold)
    kinds = sorted({entry.what for entry in latest})
    with st.container(horizontal=True, vertical_alignment="bottom", key="audit_filters"):
        person = st.selectbox(
            "Person", [_ANY, *people], key="audit_who", format_func=one_line, width=220, help="Whose acts to show."
        )
        action = st.selectbox(
            "Action", [_ANYTHING, *kinds], key="audit_what", format_func=one_line, width=220, help="Which acts to show."
        )
        about = st.text_input(
            "About", key="audit_about", max_chars=200, width=260, icon=":material/search:", placeholder="a run's name",
            help="A part of the name of a run, of a data set or of a setting.",
        )  # fmt: skip
    return (
        None if person in (None, _ANY) else person,
        None if action in (None, _ANYTHING) else action,
        about.strip() or None,
    )


def _row(entry: Entry) -> dict[str, object]:
    return {
        "When": entry.when,
        "Who": one_line(entry.who),
        "What": one_line(entry.what),
        "About": one_line(entry.about, 600),
        "From": one_line(entry.where),
        "Ended": one_line(entry.ended),
        "Why": one_line(entry.why, 600),
    }
