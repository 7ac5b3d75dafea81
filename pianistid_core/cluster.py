"""A Ray cluster, as this machine sees it: whether it is there, how to speak with it, and what it has.

Ray is only loaded in processes of its own: the one that follows a run (`cluster_follower`) and the one that looks what
a cluster has (`python -m pianistid_core.cluster ADDRESS`), so that nobody waits for a cluster that does not answer.
Nothing is reported to Ray's makers. Ray trusts whoever reaches its ports: an address is as good as a login. The trust
goes both ways: Ray's answers are unpickled here, so whoever answers at an address can run what they like on this
machine as well.
"""

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from pianistid_core.errors import ClusterError
from pianistid_core.places import address_problem, host_and_port
from pianistid_core.strict_json import parse_json

NAMESPACE = "pianistid"
INSTALL = 'pip install "pianistid[ray]"'
REACH_S = 3.0
CONNECT_S = 30.0
_LOOK_S = 60.0
_MOST_CHARACTERS = 300
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Offer:
    """What a cluster has in all, and what of it is free now."""

    machines: int
    cpus: float
    gpus: float
    free_cpus: float
    free_gpus: float

    def in_words(self) -> str:
        """ "2 machines with 16 CPUs and 4 GPUs; 12 CPUs and 3 GPUs are free"."""
        machines = f"{self.machines} machine{'' if self.machines == 1 else 's'}"
        has, free = _resources(self.cpus, self.gpus), _resources(self.free_cpus, self.free_gpus)
        return f"{machines} with {has}; {free} free now"


def _resources(cpus: float, gpus: float) -> str:
    return f"{cpus:g} CPU{'' if cpus == 1 else 's'} and {gpus:g} GPU{'' if gpus == 1 else 's'}"


def is_installed() -> bool:
    """Whether Ray can be used here; it is not loaded."""
    return importlib.util.find_spec("ray") is not None


def offer_of(address: str) -> Offer:
    """What a cluster has, asked by a process of its own, within about a minute at most.

    Raises: ClusterError when Ray is not installed, nothing answers there, or what answers is no Ray cluster.
    """
    require(address)
    command = [sys.executable, "-m", "pianistid_core.cluster", address]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LOOK_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"the cluster at {address} did not answer within {_LOOK_S:.0f} s") from error
    try:
        said = parse_json(done.stdout.splitlines()[-1])
        problem, offer = said["problem"], said["offer"]
        if problem is None:
            return Offer(**offer)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ClusterError(f"the cluster at {address} cannot be asked: {one_line(''.join(last))}") from error
    raise ClusterError(str(problem))


def require(address: str) -> None:
    """Does nothing when Ray is installed here and something answers at an address, which is tried for 3 s.

    Raises: ClusterError.
    """
    if problem := address_problem(address):
        raise ClusterError(problem)
    if not is_installed():
        raise ClusterError(f"Ray is not installed here, so no run can go to a cluster; {INSTALL} adds it")
    try:
        socket.create_connection(host_and_port(address), timeout=REACH_S).close()
    except OSError as error:
        why = error.strerror or str(error)
        raise ClusterError(
            f"nothing answers at {address} ({why}); look whether the cluster is up, and whether its address is right"
        ) from error


def connect(address: str) -> Any:
    """Makes this process speak with a cluster, and gives the module `ray`.

    Raises: ClusterError when nothing answers there, or what answers is no Ray cluster.
    """
    require(address)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if (Path.home() / ".ray" / "auth_token").is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")

    def begin() -> Any:
        import ray

        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")
        return ray

    try:
        return within(CONNECT_S, begin)
    except TimeoutError as error:
        raise ClusterError(
            f"what answers at {address} does not speak as a Ray cluster does; look at the port: that of "
            "`ray start --head --port=`, or with ray:// that of its client server, usually 10001"
        ) from error
    except Exception as error:  # Ray raises many kinds, some of them its dependencies'
        raise ClusterError(f"no connection to the Ray cluster at {address}: {_cause(error, address)}") from error


def within(seconds: float, work: Callable[[], Answer]) -> Answer:
    """Does something that may never end, for so long at most. Raises: TimeoutError, or what the work raises.

    A process that has left work behind so must be ended by `leave`.
    """
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def do() -> None:
        try:
            answers.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError
    return answers[0]


def leave(code: int) -> None:
    """Ends this process at once, whatever of Ray still works in it."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def one_line(text: str, limit: int = _MOST_CHARACTERS) -> str:
    """What somebody else's software said, as one line that is not too long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _cause(error: BaseException, address: str) -> str:
    text = one_line(str(error)) or type(error).__name__
    if "version mismatch" in text.lower():
        return f"{text}; install here the versions of Python and Ray that the cluster has"
    if not address.startswith("ray://"):
        return f"{text}; HOST:PORT serves machines of the cluster, any other connects by ray://HOST:PORT"
    return text


def _look(address: str) -> None:
    problem: str | None = None
    offer: Offer | None = None
    try:
        ray = connect(address)
        has, free = ray.cluster_resources(), ray.available_resources()
        machines = sum(bool(node.get("Alive")) for node in ray.nodes())
        amounts = [float(of.get(kind, 0)) for of in (has, free) for kind in ("CPU", "GPU")]
        offer = Offer(machines, *amounts)
    except ClusterError as error:
        problem = str(error)
    except Exception as error:
        problem = f"the cluster at {address} does not say what it has: {one_line(str(error))}"
    sys.stdout.write("\n" + json.dumps({"problem": problem, "offer": asdict(offer) if offer else None}) + "\n")


if __name__ == "__main__":
    _look(sys.argv[1])
    leave(0)
