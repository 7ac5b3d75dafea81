"""Tracking: whether and where new runs are mirrored in MLflow, MLflow's own pages, and each run's page there."""

import time
from collections.abc import Sequence

import streamlit as st

import actions
import acts
import cached
import jobs
import mlflow_links
import run_states
import settings
import state
import who
from acts import acting
from components.empty import show_empty
from mlflow_links import Mirror
from pianistid_core.accounts import Role
from pianistid_core.datasets.root import DataRoot
from pianistid_core.mirror import catch_up, lacking, settle
from pianistid_core.mlflow_server import ServerState
from pianistid_core.mlflow_store import local_store
from pianistid_core.runs import RunSummary
from pianistid_core.tracking import without_password
from settings import TrackingSettings
from wording import ago, count, listed, one_line, plain, sentence

_HERE, _SERVER = "In this data root", "On a server"
_MOST_CHOICES = 500

Mirrored = tuple[RunSummary, Mirror]


def new_runs(root: DataRoot) -> None:
    """What drafts begin with: MLflow on or off, and which store."""
    chosen = settings.tracking(root)
    _show_saved(chosen)
    st.header("New runs", anchor=False)
    st.caption("What the Build form starts with. A run that is there already keeps what its own config says.")
    with st.container(border=True, key="tracking_new"):
        st.toggle(
            "Log new runs to MLflow", key="mlflow_use", on_change=keep, args=(root,),
            **acts.allowed(
                Role.ADMINISTER,
                "Parameters, metrics, figures and the model go to MLflow as well; the run's own files stay complete.",
            ),
        )  # fmt: skip
        if not chosen.use:
            return
        st.radio(
            "Where", [_HERE, _SERVER], key="mlflow_where", horizontal=True, on_change=keep, args=(root,),
            **acts.allowed(
                Role.ADMINISTER,
                "A SQLite file beside the runs needs nothing else. A server lets several machines share one store.",
            ),
        )  # fmt: skip
        if st.session_state.get("mlflow_where") == _SERVER:
            st.text_input(
                "Address of the server", key="mlflow_address", placeholder="http://127.0.0.1:5000", max_chars=1024,
                on_change=keep, args=(root,),
                **acts.allowed(
                    Role.ADMINISTER,
                    "It begins with http or https. A user name and password in it are kept, and never shown again.",
                ),
            )  # fmt: skip
            if not chosen.address:
                st.caption("No address yet: until there is one, new runs go to the store of this data root.")
            if "@" in (chosen.address or ""):
                st.caption("A user name and password are kept with this address and not shown.")
        else:
            store = local_store(root.checkpoints_dir.parent).database
            size = f"{store.stat().st_size / 1e6:.1f} MB" if store.is_file() else "made with the first run"
            st.caption(plain(f"{store} ({size})", 400))


def _show_saved(chosen: TrackingSettings) -> None:
    """Fills the widgets from the file when this session shows them first, or another has changed it since."""
    saved = {
        "mlflow_use": chosen.use,
        "mlflow_where": _SERVER if chosen.address else _HERE,
        "mlflow_address": without_password(chosen.address or ""),
    }
    fresh = st.session_state.get("mlflow_seen") != chosen or "mlflow_use" not in st.session_state
    st.session_state["mlflow_seen"] = chosen
    for key, value in saved.items():
        if fresh or key not in st.session_state:  # a widget that was not drawn for a while has forgotten its value
            st.session_state[key] = value


@acting(Role.ADMINISTER, "settings")
def keep(root: DataRoot) -> None:
    """Keeps what the widgets say; an address that is only half there waits for its other half."""
    before = settings.tracking(root)
    address = None
    if st.session_state.get("mlflow_where") == _SERVER:
        typed = str(st.session_state.get("mlflow_address") or "").strip()
        # What is shown lacks the password; unchanged, it still means the address that has it.
        address = before.address if typed == without_password(before.address or "") else typed
    chosen = TrackingSettings(bool(st.session_state["mlflow_use"]), address or None)
    words = f"tracking in {chosen.address or 'this data root'}" if chosen.use else "no tracking"
    if actions.attempt(lambda: settings.save_tracking(root, chosen), about=words):
        st.session_state["mlflow_seen"] = chosen


def pages_of_mlflow(root: DataRoot) -> ServerState | None:
    """Starts, opens and stops MLflow's own pages over the local store."""
    st.header("MLflow's own pages", anchor=False)
    server, key = mlflow_links.server_of(root), _job(root)
    job = jobs.find(key)
    starting = job is not None and job.running
    living = None if starting else server.state()
    if living is not None and not living.ready and job is None and who.may(Role.ADMINISTER):
        begin(root)  # the lab before its restart began it: wait for it here too, once
        starting, living = True, None
    with st.container(border=True, key="tracking_server"):
        with st.container(horizontal=True, vertical_alignment="center"):
            with st.container(width="stretch", gap=None):
                if living is not None and living.ready:
                    st.badge("Running", icon=":material/check_circle:", color="green")
                    since = ago(living.started, time.time())
                    st.caption(plain(f"At {living.url} since {since}, for this machine alone."))
                elif living is not None:
                    st.badge("No answer", icon=":material/hourglass_disabled:", color="orange")
                    st.caption("It was started and does not answer now. It may be busy: look again, or stop it.")
                elif starting:
                    st.badge("Starting", icon=":material/hourglass_top:", color="blue")
                    st.caption("MLflow takes 10 to 60 seconds to come up.")
                else:
                    st.badge("Stopped", icon=":material/stop_circle:", color="gray")
                    st.caption(
                        "It shows the store of this data root, to this machine alone, and goes on without the lab."
                    )
            if living is not None and living.ready and mlflow_links.is_at_the_server():
                st.link_button(
                    "Open MLflow", living.url, key="mlflow_open", icon=":material/open_in_new:", type="primary",
                    help="Opens in a new tab.",
                )  # fmt: skip
            elif living is not None and not living.ready:
                st.button(
                    "Look again", key="mlflow_look", icon=":material/refresh:", help="Asks MLflow for an answer again."
                )
            if living is not None or starting:
                st.button(
                    "Stop", key="mlflow_stop", icon=":material/stop_circle:", on_click=stop, args=(root,),
                    **acts.allowed(Role.ADMINISTER, "Ends MLflow's pages. Runs and their entries stay."),
                )  # fmt: skip
            else:
                st.button(
                    "Start MLflow", key="mlflow_start", icon=":material/play_arrow:", type="primary",
                    on_click=start, args=(root,),
                    **acts.allowed(Role.ADMINISTER, "Starts MLflow's pages on a free port."),
                )  # fmt: skip
        if living is not None and not mlflow_links.is_at_the_server():
            tunnel = f"ssh -L {living.port}:127.0.0.1:{living.port} SERVER"
            st.caption(
                plain(f"No other machine can reach it. Through a tunnel, {tunnel}, it opens at {living.url}", 400)
            )
        if living is None and not starting:
            st.number_input(
                "Port", key="mlflow_port", min_value=1024, max_value=65535, value=None, step=1, width=220,
                placeholder="any free one", help="Leave it empty unless something expects MLflow at a fixed port.",
            )  # fmt: skip
        jobs.draw(key)
    address = settings.tracking(root).address
    if address:
        shown = without_password(address)
        st.link_button(
            f"Open {plain(shown, 80)}", shown, key="mlflow_open_server", icon=":material/open_in_new:",
            help="The server that new runs are logged to; it is not started or stopped from here.",
        )  # fmt: skip
    return living


def _job(root: DataRoot) -> str:
    return f"mlflow:{root.path}"


@acting(Role.ADMINISTER, "MLflow start")
def start(root: DataRoot) -> None:
    """Starts the server in the background."""
    begin(root)


def begin(root: DataRoot) -> None:
    """Waits for the server in the background, and starts it unless it lives."""
    port = st.session_state.get("mlflow_port")
    server = mlflow_links.server_of(root)
    jobs.forget(_job(root))
    jobs.start(
        _job(root), "Starting MLflow",
        lambda progress: server.start(port, on_wait=lambda share: progress(int(100 * share), 100)),
    )  # fmt: skip


@acting(Role.ADMINISTER, "MLflow stop")
def stop(root: DataRoot) -> None:
    """Stops the server, also one that is not up yet."""
    jobs.forget(_job(root))
    actions.attempt(mlflow_links.server_of(root).stop, "MLflow's pages are stopped.")


def mirrored_runs(root: DataRoot) -> list[Mirrored]:
    """The runs that have an entry in MLflow, newest first."""
    index = cached.run_index(root)
    found = ((run, mlflow_links.mirror_of(run, index, root)) for run in index.summaries())
    return [(run, mirror) for run, mirror in found if mirror is not None]


def incomplete(root: DataRoot) -> None:
    """Says which copies in MLflow are not whole, and completes them on request."""
    key = f"mlflow copies:{root.path}"
    found = [run for run in cached.run_index(root).summaries() if mlflow_links.is_lacking(run)]
    job = jobs.find(key)
    if found and not (job is not None and job.running):
        names = listed((run.id for run in found), 3)
        words = f"MLflow could not be used in time: {count(len(found), 'copy is', 'copies are')} not whole ({names})."
        st.warning(plain(words, 400), icon=":material/sync_problem:")
        st.button(
            "Complete them", key="mlflow_complete", icon=":material/sync:", on_click=complete, args=(root, key),
            **acts.allowed(Role.RUN, "Sends what MLflow lacks; the runs' own files are complete."),
        )  # fmt: skip
    jobs.draw(key)


@acting(Role.RUN, "MLflow copies")
def complete(root: DataRoot, key: str) -> None:
    """Sends what MLflow lacks of runs that have ended, in the background."""
    runs = lacking(root)

    def work(progress: jobs.Progress) -> int:
        for number, run in enumerate(runs):
            progress(number, len(runs))
            catch_up(run, root)
        return len(runs)

    jobs.start(key, "Completing copies in MLflow", work, about=f"{len(runs)} runs")


def runs_in_mlflow(mirrored: Sequence[Mirrored], living: ServerState | None) -> None:
    """Each mirrored run with the way to its page."""
    st.header("Runs in MLflow", anchor=False)
    if not mirrored:
        show_empty(
            ":material/timeline:", "No run is mirrored yet",
            "Switch MLflow on above, then build a run: its parameters, curves and model will be there too.",
            lambda: st.page_link("views/build.py", label="Build a run", icon=":material/tune:"),
            key="mirrored",
        )  # fmt: skip
        return
    by_id = {run.id: mirror for run, mirror in mirrored}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "Run", list(by_id)[:_MOST_CHOICES], key="mlflow_run", width=420, format_func=lambda id: one_line(id, 90),
            help="The newest runs that have an entry in MLflow.",
        )  # fmt: skip
        url = mlflow_links.url_of(by_id[chosen], living) if chosen in by_id else None
        st.link_button(
            "Open in MLflow", url or "about:blank", key="mlflow_open_run", icon=":material/open_in_new:",
            disabled=url is None, help="Opens the run's page in MLflow in a new tab.",
        )  # fmt: skip
    if url is None:
        st.caption("Start MLflow above to open runs of this data root.")
    rows = [
        {
            "Run": one_line(run.id),
            "State": run_states.STATES[run.state.status][0],
            "Best": None if run.best_recording_accuracy is None else 100 * run.best_recording_accuracy,
            "Store": one_line(mirror.where),
            "In MLflow": mlflow_links.url_of(mirror, living),
            "MLflow run": mirror.run_id,
        }
        for run, mirror in mirrored
    ]
    st.dataframe(
        rows, hide_index=True, key="mlflow_runs", placeholder="—",
        alt=f"{count(len(rows), 'run')} with their entries in MLflow.",
        column_config={
            "Best": st.column_config.NumberColumn(
                format=run_states.PERCENT, help="Share of test recordings whose pianist was named, in the best epoch."
            ),
            "In MLflow": st.column_config.LinkColumn(display_text="Open"),
        },
    )  # fmt: skip


def page() -> None:
    root = state.data_root()
    st.title("Tracking", anchor=False)
    st.markdown(
        "A run's own folder is complete. MLflow can hold a copy of it, for those who keep their experiments there."
    )
    if not root.writable():
        st.warning(sentence(f"{root.path} cannot be written; what is chosen here is kept in the cache"))
    settle(root)
    new_runs(root)
    living = pages_of_mlflow(root)
    incomplete(root)
    runs_in_mlflow(mirrored_runs(root), living)


page()
