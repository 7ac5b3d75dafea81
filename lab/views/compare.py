"""Compare: up to 20 runs side by side. Everything that can be chosen is in the address, so a link shows the same."""

from collections.abc import Container, Sequence
from urllib.parse import urlencode

import streamlit as st
from streamlit.errors import StreamlitAPIException

import cached
import compare_data as data
import compare_paper
import compare_parts as parts
import state
from components.empty import show_empty
from guard import whole
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import PianistIDError
from pianistid_core.run_filter import parse_filter
from pianistid_core.runs import RunSummary
from wording import count, listed, one_line, plain, sentence

RUNS = "runs"
TABS = ("Curves", "Results", "Config", "Matrices", "Is one better?", "The paper")
_GONE = "compare.gone"


def main() -> None:
    """Chooses runs, and shows what was chosen of them."""
    st.title("Compare")
    root = state.data_root()
    everything = cached.run_index(root).summaries()
    if not everything:
        words = "A run is one training. Train two that differ in one thing, and see here what it does."
        show_empty(":material/compare_arrows:", "No run to compare yet", words, build_one, key="no_run")
        return
    chosen = choose(root, everything)
    if not chosen:
        nothing_chosen(root, everything)
        return
    subjects = data.subjects(root, chosen)
    header(subjects)
    tabs = st.tabs(list(TABS), key="compare_tab", on_change="rerun", bind="query-params")
    draw = (parts.curves, parts.results, parts.config, parts.matrices, parts.better)
    for tab, show in zip(tabs, draw, strict=False):
        if tab.open:
            with tab:
                show(subjects)
    if tabs[-1].open:
        with tabs[-1]:
            compare_paper.paper(root, everything)


def choose(root: DataRoot, everything: Sequence[RunSummary]) -> list[RunSummary]:
    """The runs to compare, from the address or picked from a list that a filter shortens."""
    by_id = {run.id: run for run in everything}
    asked = asked_for(by_id)
    gone = [id for id in asked if id not in by_id]
    if gone:
        st.session_state[_GONE] = gone
    here = [id for id in asked if id in by_id][: data.MAX_RUNS]
    if (RUNS not in st.session_state or joined(by_id)) and here != st.query_params.get_all(RUNS):
        # Once more from the start, with an address that holds what is shown and can be passed on.
        rest = {key: st.query_params.get_all(key) for key in st.query_params if key != RUNS}
        try:
            st.switch_page("views/compare.py", query_params={**rest, RUNS: here})
        except StreamlitAPIException:  # the address belongs to the field below by now, as after Back: it is told there
            st.session_state[RUNS] = here
    if here != st.session_state.get(RUNS, here):
        st.session_state[RUNS] = here
    bar = st.container(horizontal=True, vertical_alignment="bottom", key="compare_bar")
    text = bar.text_input(
        "Show only", key="compare_filter", bind="query-params", max_chars=1000, width=420, icon=":material/filter_alt:",
        placeholder="accuracy > 0.7",
        help="Shortens the list beside it: words to look for, or an expression as on Runs.",
    )  # fmt: skip
    try:
        wanted = parse_filter(text or "")
    except PianistIDError as error:
        st.error(sentence(error), icon=":material/error:")
        wanted = parse_filter("")
    index = cached.run_index(root)
    fitting = [
        run.id for run in everything if not run.labels.archived and (not text or wanted.matches(run, index.config(run)))
    ]
    options = [*here, *(id for id in fitting if id not in here)]
    picked = st.multiselect(
        "Runs", options, key=RUNS, bind="query-params", max_selections=data.MAX_RUNS, on_change=forget_gone,
        placeholder=f"Choose from {count(len(fitting), 'run')}", format_func=one_line, wrap=True, select_all=False,
        help=f"Up to {data.MAX_RUNS} runs, newest first; type to search.",
    )  # fmt: skip
    with bar:
        share(picked)
    missing = st.session_state.get(_GONE)
    if missing:
        is_or_are = "is" if len(missing) == 1 else "are"
        st.warning(
            sentence(f"{listed(missing)} {is_or_are} not here any more, and left out"), icon=":material/warning:"
        )
    return [by_id[id] for id in picked if id in by_id]


def asked_for(known: Container[str]) -> list[str]:
    """The runs that the address or this session asks for, each once."""
    in_address = st.query_params.get_all(RUNS)
    if RUNS in st.session_state and not joined(known):
        return list(dict.fromkeys(st.session_state[RUNS]))
    parts = ([text] if text in known else text.split(",") for text in in_address)
    return list(dict.fromkeys(id for ids in parts for id in ids if id))


def joined(known: Container[str]) -> bool:
    """Whether the address joins runs by commas, as a link written by hand or by another page may."""
    return any("," in text and text not in known for text in st.query_params.get_all(RUNS))


@whole
def forget_gone() -> None:
    """Another choice: what was missing from the last one need not be said any more."""
    st.session_state.pop(_GONE, None)


def share(picked: Sequence[str]) -> None:
    """The address of this view, to copy."""
    with st.popover("Link", icon=":material/link:", key="compare_link", disabled=not picked):
        st.write("This address opens the same view: the same runs, tab and settings.")
        kept = {key: st.query_params.get_all(key) for key in st.query_params if key.startswith("compare_")}
        query = urlencode({RUNS: list(picked), **kept}, doseq=True, safe="/")
        st.code(f"{st.context.url or '/compare'}?{query}", language=None, wrap_lines=True)


def nothing_chosen(root: DataRoot, everything: Sequence[RunSummary]) -> None:
    """What to start from, and the paper's tables, which need no choice."""
    newest = [run.id for run in everything if not run.labels.archived and run.state.epoch][:5]

    def newest_ones() -> None:
        if len(newest) > 1:
            st.button(
                f"The {len(newest)} newest", key="compare_newest", icon=":material/schedule:", on_click=take,
                args=(newest,), help="The newest runs that have finished an epoch.",
            )  # fmt: skip

    words = "Choose up to 20 above, or tick runs on the Runs page and compare them from there."
    show_empty(":material/compare_arrows:", "Which runs?", words, newest_ones, key="compare")
    st.header("Beside the paper", anchor=False)
    compare_paper.paper(root, everything)


def build_one() -> None:
    """The way to a first run."""
    st.page_link("views/build.py", label="Build a run", icon=":material/tune:")


@whole
def take(ids: Sequence[str]) -> None:
    """Chooses these runs."""
    forget_gone()
    st.session_state[RUNS] = list(ids)


def header(subjects: Sequence[data.Subject]) -> None:
    """What is compared, in one line."""
    splits = sorted({subject.split for subject in subjects if subject.split})
    where = f" on split {splits[0]}" if len(splits) == 1 else f" on {len(splits)} splits" if splits else ""
    words = f"{count(len(subjects), 'run')}{where}"
    groups = [group for group in data.grouped(subjects, True) if len(group) > 1]
    if groups:
        words += f"; {count(sum(map(len, groups)), 'run')} differ only in their seed"
    training = sum(subject.summary.state.status == "running" for subject in subjects)
    if training:
        words += f"; {count(training, 'still trains', 'still train')}, as it was when this page was drawn"
    st.caption(plain(words + "."))
    if len(splits) > 1:
        words = f"these runs were tested on different recordings (splits {listed(splits)}), so their accuracies differ "
        st.warning(sentence(words + "for that reason too"), icon=":material/warning:")


main()
