"""The split editor: what a split would hold, seen before it is written."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

import actions
import acts
import cached
import palette
from acts import acting
from components.chart import show_chart
from components.empty import show_empty
from components.figures import show_figures
from components.tables import download
from data_charts import holdings_chart, holdings_of, holdings_table
from pianistid_core.accounts import Role
from pianistid_core.datasets.root import PARTS, DataRoot, RecordingInfo
from pianistid_core.datasets.splitting import GROUPINGS, SplitPlan, make_split, plan_split
from pianistid_core.errors import PianistIDError
from wording import count, duration, listed, one_line, percent, plain, sentence

_GROUP_NAMES = {"recording": "Recording", "album": "Album", "composition": "Composition"}
_PREVIEW_NAME = "preview"
_MOST_WARNINGS = 8


@dataclass(frozen=True)
class Options:
    """What a split is made with, as the widgets say."""

    by: str
    ratios: tuple[float, float, float]
    minimum_minutes: float
    pianists: tuple[str, ...] | None
    sources: tuple[str, ...] | None
    seed: int


def draw_editor(root: DataRoot) -> None:
    """Draws the options, the preview that follows them, and the button that writes the split."""
    recordings = cached.described(root)
    if not recordings:
        show_empty(
            ":material/call_split:", "Nothing to split yet", "Bring in music first; then say what trains and tests.",
            key="split_editor",
        )  # fmt: skip
        return
    left, right = st.columns([2, 3], gap="large")
    with left:
        options = _options(recordings)
        _write(root, options)
    with right:
        _preview(recordings, options)


def plan_of(recordings: Sequence[RecordingInfo], name: str, options: Options) -> SplitPlan:
    """What a split of these recordings would hold.

    Raises: SplitError when the options cannot be met.
    """
    sources = set(options.sources or ())
    chosen = [info for info in recordings if not sources or info.track.partition("/")[0] in sources]
    return plan_split(
        chosen, name, by=options.by, ratios=options.ratios, minimum_minutes=options.minimum_minutes,
        pianists=options.pianists, seed=options.seed,
    )  # fmt: skip


def shares_of(first: int, second: int) -> tuple[float, float, float]:
    """Training, test and validation from where the slider's two handles stand, in per cent."""
    return first / 100, (second - first) / 100, (100 - second) / 100


def _options(recordings: Sequence[RecordingInfo]) -> Options:
    by = st.segmented_control(
        "Keep together", GROUPINGS, default="recording", key="split_by", persist_state="session", required=True,
        format_func=_GROUP_NAMES.__getitem__,
        help="What must not be in two parts. By album or composition is the stricter test: a model then cannot tell a "
        "pianist by the sound of an album, or by a tune.",
    )  # fmt: skip
    first, second = st.slider(
        "Training, test and validation", 0, 100, (80, 90), key="split_shares", persist_state="session", format="%d %%",
        help="The first handle ends training, the second ends test; what remains is validation.",
    )  # fmt: skip
    ratios = shares_of(first, second)
    st.caption(
        " · ".join(
            f"{percent(share)} {part}" for share, part in zip(ratios, ("training", "test", "validation"), strict=True)
        )
    )
    minutes = st.number_input(
        "At least this much music of a pianist", min_value=0, max_value=100_000, value=0, step=10, key="split_minutes",
        persist_state="session", help="In minutes. Pianists with less are left out; the paper's split asks for 80.",
    )  # fmt: skip
    names = sorted({info.pianist for info in recordings if info.pianist})
    kept = st.multiselect(
        "Pianists", names, key="split_pianists", placeholder=f"All {len(names)}", format_func=one_line,
        persist_state="session",
        help="Only these pianists; none chosen means all.",
    )  # fmt: skip
    sources = sorted({info.track.partition("/")[0] for info in recordings})
    from_sources: list[str] = []
    if len(sources) > 1:
        from_sources = st.multiselect(
            "Sources", sources, key="split_sources", placeholder=f"All {len(sources)}", format_func=one_line,
            persist_state="session",
            help="Only recordings of these sources, which are the folders below data/clips; none chosen means all.",
        )  # fmt: skip
    seed = st.number_input(
        "Seed", min_value=0, max_value=2**31 - 1, value=42, step=1, key="split_seed", persist_state="session",
        help="The same seed and options give the same split, to the byte; another seed deals the recordings anew.",
    )  # fmt: skip
    return Options(
        by or "recording", ratios, float(minutes or 0), tuple(kept) or None, tuple(from_sources) or None, int(seed or 0)
    )


def _write(root: DataRoot, options: Options) -> None:
    """The name and the button; a split that exists is replaced only when that is said."""
    known = cached.contents(root).splits
    name = st.text_input(
        "Name", value="all" if "all" not in known else "", max_chars=80, key="split_name", placeholder="jazz_by_album",
        persist_state="session",
        help="What the split is called in configs and on disk.",
    )  # fmt: skip
    replace = False
    if name.strip() in known:
        replace = st.checkbox(
            "Replace the split of this name", key="split_replace",
            help="Runs that were trained on it keep their results, and can no longer be compared with new ones.",
        )  # fmt: skip
    st.button(
        "Make the split", key="split_make", type="primary", icon=":material/call_split:",
        on_click=write_split, args=(root, name.strip(), options, replace),
        **acts.allowed(Role.RUN, "Writes it to the data root.", off=not name.strip() or not root.writable()),
    )  # fmt: skip


@acting(Role.RUN, "split")
def write_split(root: DataRoot, name: str, options: Options, replace: bool) -> None:
    """Writes the split, and shows it."""
    made = actions.attempt(
        lambda: make_split(
            root, name, by=options.by, ratios=options.ratios, minimum_minutes=options.minimum_minutes,
            pianists=options.pianists, sources=options.sources, seed=options.seed, overwrite=replace,
        ),
        f"Split {name} is made.", about=name,
    )  # fmt: skip
    if made:
        st.session_state["split"] = name
        for key in ("split_replace", "split_name"):  # the next one gets a name of its own
            st.session_state.pop(key, None)


def _preview(recordings: Sequence[RecordingInfo], options: Options) -> None:
    """What the split would hold, as figures and bars, with everything to be warned of."""
    st.header("What it would hold", anchor=False)
    try:
        plan = plan_of(recordings, _PREVIEW_NAME, options)
    except PianistIDError as error:
        st.error(sentence(error), icon=":material/error:")
        return
    names = {"train": "Training", "test": "Test", "validation": "Validation"}
    show_figures(
        [
            (
                names[part], duration(3600 * plan.hours[part]), "Hours of music, as long as the recordings are.",
                count(len(plan.split.parts[part]), "recording"),
            )
            for part in PARTS
            if part in plan.split.parts
        ],
        key="preview",
    )  # fmt: skip
    for warning in plan.warnings[:_MOST_WARNINGS]:
        st.warning(sentence(warning), icon=":material/warning:")
    if len(plan.warnings) > _MOST_WARNINGS:
        st.caption(f"and {len(plan.warnings) - _MOST_WARNINGS} more of the kind")
    if plan.left_out:
        out = listed((left.pianist for left in plan.left_out), 5)
        st.info(
            plain(f"{count(len(plan.left_out), 'pianist')} left out for too little music: {out}.", 500),
            icon=":material/person_off:",
        )
    holdings = holdings_of(plan.split)
    show_chart(
        holdings_chart(holdings, "Hours", palette.current()), key="split_preview",
        title=f"{count(len(plan.split.class_names), 'pianist')}",
        about="Hours of music by pianist and part, if the split is made as it stands.",
        data=lambda: holdings_table(holdings),
    )  # fmt: skip
    download(lambda: _entries(plan), key="split_entries", name="split_preview", label="Download the list of recordings")


def _entries(plan: SplitPlan) -> list[dict[str, object]]:
    return [
        {
            "part": part, "track": entry.track, "pianist": plan.split.class_names[entry.pianist],
            "duration_s": entry.duration_s,
        }
        for part, entries in plan.split.parts.items()
        for entry in entries
    ]  # fmt: skip
