"""What buttons do, on whichever page they stand: each is one call of the core, and says what came of it."""

import logging
from collections.abc import Callable

import acts
import jobs
import state
import who
from acts import acting
from pianistid_core import launch
from pianistid_core.accounts import Role
from pianistid_core.config import RunConfig
from pianistid_core.datasets.demo import make_demo
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import PianistIDError
from pianistid_core.places import Cluster
from pianistid_core.run_starter import remember_starter
from pianistid_core.runs import Run

log = logging.getLogger(__name__)

DEMO_CONFIG = "demo.yaml"


def attempt(action: Callable[[], object], done: str = "", *, about: str = "") -> bool:
    """Does something that may fail, and keeps the sentence to show: for callbacks, which run before the page.

    The audit log gets a line on how it ended, which names what it is `about`.
    """
    try:
        action()
    except PianistIDError as error:
        acts.refuse(str(error), about)
        return False
    except OSError as error:
        log.exception("the system refused")
        acts.refuse(f"the system refused: {error.strerror or error}; look at the disk and try again", about)
        return False
    acts.tell(about)
    if done:
        state.notify(done)
    return True


def demo_job(root: DataRoot) -> str:
    """The name of the job that composes the demo in a data root."""
    return f"demo:{root.path}"


@acting(Role.RUN, "demo")
def start_demo_data(root: DataRoot) -> None:
    """Composes the demo's virtual pianists in the background."""
    jobs.start(demo_job(root), "Composing the demo's pianists", lambda progress: make_demo(root, progress=progress))


def start_run(config: RunConfig, root: DataRoot, *, cluster: Cluster | None = None) -> Run:
    """Starts training in the background, here or on a cluster, and keeps who did.

    Raises: PianistIDError when the split or the run's folder is not right, or its person may not write there.
    """
    acts.refuse_outside(config, root)
    run = launch.start(config, root, cluster=cluster)
    remember_starter(run, who.me().name)
    return run


def draft_from(config: RunConfig, base: str) -> None:
    """Puts a config into the Build form, as a draft of its own: what was being built stays on disk."""
    draft = state.new_draft()
    draft.take(config, base)
    state.keep_draft()
