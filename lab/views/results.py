"""Results: the paper's tables reproduced at CPU size. They ship with the program and need no data root."""

import streamlit as st

import results_parts as parts
from pianistid_core.errors import PianistIDError
from pianistid_core.paper_results import read_results
from wording import sentence

TABS = ("Comparisons", "Experiments", "Our best recipe")


def main() -> None:
    """Shows the table of results that ships."""
    st.title("Results")
    try:
        results = read_results()
    except PianistIDError as error:
        st.error(sentence(error), icon=":material/error:")
        return
    st.markdown(
        "The paper trained sixteen networks for 100 epochs on a large GPU. Here is each of them at a size that a core "
        "of a CPU trains in minutes, with what it compares left as it is. Their own accuracy says little; whether a "
        "change goes in the **same direction** can be compared."
    )
    parts.heading(results)
    names = TABS if results.best else TABS[:-1]
    tabs = st.tabs(list(names), key="results_tab", on_change="rerun", bind="query-params")
    draw = (parts.pairs, parts.experiments)
    for tab, show in zip(tabs, draw, strict=False):
        if tab.open:
            with tab:
                show(results)
    if results.best and tabs[-1].open:
        with tabs[-1]:
            parts.recipe(results.best)
    parts.limits()


main()
