"""The form of Build: which setting stands where, the search for a setting, and the list of faults."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

import cached
import forms
import state
from pianistid_core.concepts import CONCEPTS
from pianistid_core.config import config_fields
from pianistid_core.errors import Fault
from pianistid_core.schema import FieldInfo
from wording import count, listed, plain


@dataclass(frozen=True)
class Card:
    """Settings that stand together: a title and their top-level keys; the section of that name needs no heading."""

    title: str
    keys: tuple[str, ...]
    section: str = ""


HEADER = ("experiment", "run", "data_split_dir")
_REST = Card("Chance and machine", ())
# What stands in which tab; keys that are not named here come under the last card.
TABS: Mapping[str, tuple[Card, ...]] = {
    "Learning": (
        Card("Pace", ("epochs", "batch_size")),
        Card("Optimiser", ("optim_type", "optim_cfg"), "optim_cfg"),
        Card("Schedule", ("sched_type", "sched_cfg"), "sched_cfg"),
        Card("Loss", ("loss_type", "loss_cfg"), "loss_cfg"),
    ),
    "Clips": (
        Card("Training clips", ("train_dataset_cfg",), "train_dataset_cfg"),
        Card("Test clips", ("test_dataset_cfg",), "test_dataset_cfg"),
        Card("What is told apart", ("classify_dataset",)),
    ),
    "Network": (Card("Architecture", ("encoder_module", "model_cfg"), "model_cfg"),),
    "Machine": (
        Card("Checkpoints", ("checkpoint_cfg",), "checkpoint_cfg"),
        Card("MLflow", ("mlflow_cfg",), "mlflow_cfg"),
        _REST,
    ),
}
# Numbers that stand for names, by the last word of their key.
NAMES = {"use_concepts": CONCEPTS}


def place_of(key: str) -> str:
    """The part of the page where a setting stands: above the tabs, or the name of a tab."""
    top = key.partition(".")[0].partition("[")[0]
    if top in HEADER:
        return "Name and data"
    return next((tab for tab, cards in TABS.items() for card in cards if top in card.keys), list(TABS)[-1])


def counts(faults: Sequence[Fault]) -> dict[str, int]:
    """How many faults stand in which part, in the page's order."""
    parts = ["Name and data", *TABS]
    places = [place_of(fault.key) for fault in faults if fault.key]
    return {part: places.count(part) for part in parts if part in places}


def by_card(fields: Sequence[FieldInfo]) -> dict[tuple[str, str], list[FieldInfo]]:
    """The fields of each card, by tab and title; what no card names stands in the last one."""
    home = {key: (tab, card.title) for tab, cards in TABS.items() for card in cards for key in card.keys}
    last = (list(TABS)[-1], _REST.title)
    found: dict[tuple[str, str], list[FieldInfo]] = {}
    for info in fields:
        top = info.key.partition(".")[0]
        if top not in HEADER:
            found.setdefault(home.get(top, last), []).append(info)
    return found


def change(key: str, value: Any) -> None:
    """Takes over what a widget was set to, on top of what another tab may have written meanwhile."""
    state.refresh_draft()
    draft = state.draft()
    nothing = object()
    if forms.get(draft.values, key, nothing) == value:
        return
    draft.remember()
    if forms.put(draft.values, key, value):
        draft.generation += 1
    state.keep_draft()


@dataclass(frozen=True)
class Fields:
    """The fields of the draft as it stands, worked out once a run of the page."""

    form: forms.Form
    all: Sequence[FieldInfo]
    now: Mapping[str, Any]

    @property
    def labels(self) -> dict[str, str]:
        return {info.key: info.label for info in self.all}


def fields_of_draft(faults: Sequence[Fault]) -> Fields:
    """Describes the form of this session's draft."""
    draft = state.draft()
    suggestions = {"data_split_dir": list(cached.contents(state.data_root()).splits)}
    prefix = f"field:{draft.id}:{draft.generation}"
    advanced = bool(st.session_state.get("advanced", False))
    form = forms.Form(draft.values, faults, prefix, change, advanced, suggestions, NAMES)
    fields = config_fields(draft.values)
    return Fields(form, fields, forms.current_values(draft.values, fields))


def draw_header(fields: Fields) -> None:
    """The name of the run and the data, which every run is known by."""
    columns = st.columns(len(HEADER))
    for column, key in zip(columns, HEADER, strict=True):
        with column:
            forms.draw_field(next(info for info in fields.all if info.key == key), fields.form)


def draw(fields: Fields) -> None:
    """The form: a search, and a tab for each group of settings.

    The names of the tabs never change, since the browser would go back to the first one.
    """
    search, advanced = st.columns([3, 2], vertical_alignment="bottom")
    text = search.text_input(
        "Find a setting", key="find_setting", icon=":material/search:", placeholder="learning rate, pooling, seed …",
        help="Looks through the names, keys and help of all settings, the advanced ones too.",
    )  # fmt: skip
    advanced.toggle(
        "Advanced settings", key="advanced", persist_state="session",
        help="Shows every setting. Without it, those that rarely change are left out.",
    )  # fmt: skip
    if text.strip():
        _draw_found(text[:100], fields)
        return
    visible = by_card(forms.shown(fields.all, fields.form, fields.now))
    for (tab, cards), drawn in zip(TABS.items(), st.tabs(list(TABS), key="form_tab"), strict=True):
        with drawn:
            for card in cards:
                _draw_card(card, visible.get((tab, card.title), []), fields.form)


def _draw_card(card: Card, mine: Sequence[FieldInfo], form: forms.Form) -> None:
    if not any(info.kind != "group" for info in mine):
        return
    about = next((info.help for info in mine if info.key == card.section), None)
    name = card.title.lower().replace(" ", "_")
    with st.container(border=True, key=f"card_{name}"):
        st.markdown(f"##### {card.title}", help=about)
        forms.draw_fields(mine, form, untitled=card.section)


def _draw_found(text: str, fields: Fields) -> None:
    """The settings that a search means, wherever they stand."""
    hits = forms.found(fields.all, text)
    with st.container(border=True, key="found_settings"):
        if not hits:
            st.markdown("##### Nothing found")
            st.caption("No setting has these words in its name, key or help. Try fewer or other words.")
            return
        st.markdown(f"##### {count(len(hits), 'setting')}")
        for info in hits[:24]:
            one, two = st.columns(2, vertical_alignment="center")
            waits = forms.condition_of(info, fields.now, fields.labels)
            if waits is None:
                with one:
                    forms.draw_field(info, fields.form)
            else:
                one.markdown(f":gray[{plain(info.label)}]")
            places = (place_of(info.key), fields.labels.get(info.section, ""))
            where = ", ".join(dict.fromkeys(place for place in places if place))
            two.caption(plain(waits, 300) if waits else f"{plain(where)}  \n{plain(info.help, 300)}")
        if len(hits) > 24:
            st.caption(f"The first 24 of {len(hits)}; another word narrows them down.")


def draw_faults(fields: Fields) -> None:
    """All faults at once, each with its place and the fix; the fields show them too."""
    faults = fields.form.faults
    if not faults:
        return
    labels = fields.labels
    lines = []
    for fault in faults:
        key = fault.key.partition("[")[0]
        name = labels.get(key, fault.key)
        section = labels.get(key.rpartition(".")[0], "")
        where = f"{place_of(fault.key)}, {section}" if section else place_of(fault.key)
        lead = f"**{plain(name)}** :gray[{plain(where)}]  \n" if fault.key else ""
        lines.append(f"- {lead}{plain(_sentence(fault.message), 500)}")
    with st.container(key="faults"):
        st.error(f"**{summary(faults)}**\n\n" + "\n".join(lines), icon=":material/error:")
        if any(fault.key == "data_split_dir" for fault in faults):
            st.page_link("views/data.py", label="Bring in data", icon=":material/library_music:")


def _sentence(message: str) -> str:
    return f"{message[:1].upper()}{message[1:]}."


def summary(faults: Sequence[Fault]) -> str:
    """How many faults there are, and where."""
    title = "One thing to fix" if len(faults) == 1 else f"{len(faults)} things to fix"
    places = listed(f"{n} in {part}" for part, n in counts(faults).items())
    return f"{title}: {places}" if places else title
