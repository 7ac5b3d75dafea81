"""The Ray cluster of a data root: set, asked what it has, and chosen as the place where a run trains."""

from dataclasses import replace

import streamlit as st

import actions
import acts
import jobs
from acts import acting
from guard import whole
from pianistid_core.accounts import Role
from pianistid_core.cluster import INSTALL, Offer, is_installed, offer_of
from pianistid_core.datasets.root import DataRoot
from pianistid_core.places import MOST_CPUS, MOST_GPUS, Cluster, save_cluster, saved_cluster
from wording import one_line, plain

HERE, THERE = "This machine", "The cluster"
_WHERE = "train.where"
_FIELDS = ("address", "gpus", "cpus", "data_root")


def draw(root: DataRoot) -> None:
    """Draws where the cluster is set, and what it said when it was last asked."""
    st.caption(
        "Runs can train on a Ray cluster instead of this machine: Build then asks where. Log, curves and checkpoints "
        "come here as they are made, and a run that is stopped goes on there or here."
    )
    if not is_installed():
        st.info(
            f"Ray is not installed here, so runs train on this machine. `{INSTALL}` adds it.", icon=":material/hub:"
        )
        return
    known = saved_cluster(root)
    _show_saved(known)
    with st.form("cluster", border=True):
        st.text_input(
            "Address", key="cluster_address", placeholder="10.0.0.5:6379", max_chars=300,
            help="HOST:PORT when this machine is one of the cluster's; ray://HOST:PORT, usually 10001, from any other.",
        )  # fmt: skip
        left, right = st.columns(2)
        left.number_input(
            "GPUs for each run", 0.0, float(MOST_GPUS), step=1.0, format="%g", key="cluster_gpus",
            help="0, a part of one such as 0.5, or whole ones. Several train one run together.",
        )  # fmt: skip
        right.number_input(
            "CPUs for each run", 1, MOST_CPUS, step=1, key="cluster_cpus",
            help="One for the training, and one for each of the run's num_workers.",
        )  # fmt: skip
        st.text_input(
            "Data root on the cluster", key="cluster_data_root", placeholder=str(root.path), max_chars=1000,
            help="Where data and splits lie on its machines: a shared disk, or a copy. Empty: the same path as here.",
        )  # fmt: skip
        st.form_submit_button(
            "Connect", key="cluster_connect", type="primary", icon=":material/hub:", on_click=connect, args=(root,),
            **acts.allowed(Role.ADMINISTER, "Keeps these settings, and asks the cluster what it has."),
        )  # fmt: skip
    if known is None:
        return
    _draw_answer(root, known)
    st.button(
        "Forget the cluster", key="cluster_forget", icon=":material/link_off:", on_click=forget, args=(root,),
        **acts.allowed(Role.ADMINISTER, "New runs train on this machine. Runs that are there go on."),
    )  # fmt: skip
    st.caption(
        "Whoever reaches a Ray cluster's ports can run programs on its machines: keep it in a network of your own, or "
        "start it with Ray's token authentication, whose token is then read from your home folder."
    )


def _show_saved(known: Cluster | None) -> None:
    """Fills the fields from the file when this session shows them first, or another has changed it since."""
    shown = known or Cluster("")
    fresh = st.session_state.get("cluster_seen") != shown
    st.session_state["cluster_seen"] = shown
    for name in _FIELDS:
        if fresh or f"cluster_{name}" not in st.session_state:
            st.session_state[f"cluster_{name}"] = getattr(shown, name)


@acting(Role.ADMINISTER, "settings")
def connect(root: DataRoot) -> None:
    """Keeps what was typed, and asks the cluster in the background."""
    typed = {name: st.session_state.get(f"cluster_{name}") for name in _FIELDS}
    chosen = Cluster(
        str(typed["address"] or "").strip(), float(typed["gpus"] or 0), int(typed["cpus"] or 1),
        str(typed["data_root"] or "").strip(),
    )  # fmt: skip
    if actions.attempt(lambda: save_cluster(root, chosen), about=f"cluster {chosen.address}"):
        st.session_state["cluster_seen"] = chosen
        jobs.start(_job(root, chosen), f"Asking {one_line(chosen.address)}", lambda progress: offer_of(chosen.address))


@acting(Role.ADMINISTER, "settings")
def forget(root: DataRoot) -> None:
    """Leaves this data root without a cluster."""
    actions.attempt(lambda: save_cluster(root, None), "New runs train on this machine.", about="no cluster")


def _job(root: DataRoot, cluster: Cluster) -> str:
    return f"cluster:{root.path}:{cluster.address}"


def _draw_answer(root: DataRoot, cluster: Cluster) -> None:
    job = jobs.draw(_job(root, cluster))
    if job is None or not isinstance(job.result, Offer):
        return
    offer: Offer = job.result
    st.success(f"Connected: {plain(offer.in_words())}.", icon=":material/check_circle:")
    if cluster.gpus > offer.gpus or cluster.cpus > offer.cpus:
        st.warning(
            f"A run asks for {plain(cluster.in_words())}, more than the cluster has: it would wait for that.",
            icon=":material/hourglass_disabled:",
        )


# --- where a run trains ----------------------------------------------------------------------------------------------


def draw_choice(root: DataRoot) -> None:
    """The choice between this machine and the cluster; nothing where there is no cluster to choose."""
    known = _usable(root)
    if known is None:
        return
    chosen = st.session_state.get(_WHERE, HERE)
    with st.container(horizontal=True, vertical_alignment="center", key="train_where", gap="small"):
        st.segmented_control(
            "Where it trains", [HERE, THERE], default=chosen, required=True, key="where", on_change=_choose,
            **acts.allowed(
                Role.RUN,
                "On the cluster a run takes its turn among those of others, and this machine only keeps its results.",
            ),
        )  # fmt: skip
        if chosen == THERE:
            st.caption(plain(f"{known.address}, with {known.in_words()} for each run"), width="content")


@whole
def _choose() -> None:
    st.session_state[_WHERE] = st.session_state.get("where") or HERE


def chosen_cluster(root: DataRoot) -> Cluster | None:
    """The cluster that this session's runs go to; None for this machine."""
    return _usable(root) if st.session_state.get(_WHERE, HERE) == THERE else None


def _usable(root: DataRoot) -> Cluster | None:
    known = saved_cluster(root) if is_installed() else None
    return None if known is None else replace(known, data_root=known.data_root or str(root.path))


def order_of(cluster: Cluster | None) -> str:
    """In which order runs of the queue are trained."""
    if cluster is None:
        return "They train one after the other, in this order."
    return "They go to the cluster in this order, and it gives each its turn."
