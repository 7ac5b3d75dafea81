"""The end of a cluster's run that lies here: it stands where the trainer would stand, and keeps the run's folder.

`python -m pianistid_core.cluster_follower RUN` hands the run to the cluster, or finds the trainer that it has there
already, and then brings over what that writes: log, metrics, progress, figures and checkpoints, as they come. It passes
on requests to stop, says where the run stands, and ends as the trainer ended, when everything is here. If this process
is killed, the trainer on the cluster goes on, and the next one takes up the thread.
"""

import contextlib
import hashlib
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pianistid_core.atomic import replacing
from pianistid_core.cluster import NAMESPACE, connect, leave, one_line
from pianistid_core.cluster_trainer import CHUNK_BYTES, CONFIG, LOG, STATE, Look, RemoteTrainer, Signature, travels
from pianistid_core.config import RunConfig, load_config, to_yaml
from pianistid_core.credentials import with_password
from pianistid_core.errors import CheckpointError, ClusterError, DamagedCheckpointError, PianistIDError, RunError
from pianistid_core.heartbeat import beating
from pianistid_core.places import RemotePlace, keep_place, remote_place
from pianistid_core.processes import ProcessIdentity
from pianistid_core.run_config import resumable_checkpoint
from pianistid_core.run_folder import signal_name
from pianistid_core.run_log import FAILURE_KINDS, FailureKind, LineFormatter
from pianistid_core.runs import METRICS_FILE, REQUEST_FILE, STATUSES, Run, Status
from pianistid_core.seals import verify
from pianistid_core.strict_json import parse_json

log = logging.getLogger("pianistid_core.cluster_follower")

LOOK_EVERY_S = 1.0
STARTS_WITHIN_S = 5.0  # longer, and it waits for its place
# A cluster that says nothing for so long is given up; the trainer there may live on, and is found again.
SILENT_S = 120.0
MOST_FILES = 20_000
MOST_BYTES = 64 << 30
_GROWING = (LOG, METRICS_FILE)
_LAST_TRIES = 5
_GONE_WITHIN_S = 10.0
_MOST_REASON = 2000
_AGAIN = "resume to take it up again, or to go on from its latest checkpoint"


class _ChangedError(Exception):
    """A file became another while it was read; the next look fetches it."""


class Follower:
    """A run that trains on a cluster, followed from its submission to its end."""

    def __init__(self, run: Run, config: RunConfig, place: RemotePlace, ray: Any) -> None:
        self.run, self.config, self.place, self.ray = run, config, place, ray
        self.cluster = place.cluster
        self.checkpoint = resumable_checkpoint(config, run)
        self.known: dict[str, Signature] = {}
        self.said: Mapping[str, Any] = {}
        self._me = ProcessIdentity.of()
        self._shown: str | None = None
        self._asked_to_stop: str | None = None
        self._keep_place(outstanding=True)
        trainer = ray.remote(RemoteTrainer).options(
            name=place.actor, namespace=NAMESPACE, lifetime="detached", get_if_exists=True, max_restarts=0,
            num_gpus=self.cluster.gpus, num_cpus=self.cluster.cpus,
        )  # fmt: skip
        self.trainer = trainer.remote(config.experiment, config.run, self.cluster.gpus, owns_process=True)

    def follow(self) -> int:
        """Follows the run to its end, and gives the exit status."""
        if not self._is_placed():
            return 0
        if self._ask("begun"):
            log.info("found the trainer of this run on %s; it went on by itself", self.place.machine)
        else:
            self._hand_over()
        while True:
            look: Look = self._ask("look")
            self._mirror(look.files)
            if look.code is not None:
                return self._end(look)
            self._show("")
            self._pass_on_stop()
            time.sleep(LOOK_EVERY_S)

    # --- beginning ---

    def _is_placed(self) -> bool:
        """Waits until the cluster has a place for the trainer; False when the run was stopped before."""
        machine, began = self.trainer.machine.remote(), time.monotonic()
        while not self.ray.wait([machine], timeout=LOOK_EVERY_S)[0]:
            if self.run.stop_request():
                self._kill()
                self._keep_place(outstanding=False)
                self.run.set_state(
                    "stopped", "stopped before the cluster had a place for it", epochs=self.config.epochs
                )
                self.run.clear_stop()
                return False
            if time.monotonic() - began > STARTS_WITHIN_S:
                self._show(self._what_it_waits_for())
        self._keep_place(machine=one_line(str(self._get(machine)), 100))
        return True

    def _what_it_waits_for(self) -> str:
        try:
            has = self.ray.cluster_resources()
        except Exception as error:
            raise ClusterError(f"the cluster at {self.cluster.address} is gone: {one_line(str(error))}") from error
        words = f"waits for {self.cluster.in_words()} on the cluster"
        for kind, wanted in (("GPU", self.cluster.gpus), ("CPU", self.cluster.cpus)):
            if wanted > (there := float(has.get(kind, 0))):
                words += f", which has {there:g} {kind}{'' if there == 1 else 's'} in all"
        return words

    def _hand_over(self) -> None:
        """Gives the trainer what it goes on from, and its config; it starts."""
        self._keep_place(begun=False, log_bytes=0)
        if self.checkpoint is not None:
            self.checkpoint = self._newest_whole()
        for path in self._to_go_on_from():
            name, offset = path.relative_to(self.run.path).as_posix(), 0
            with path.open("rb") as file:
                while (data := file.read(CHUNK_BYTES)) or not offset:
                    self._ask("put", name, data, offset)
                    offset += len(data) or 1
        config = self._config_there()
        split = config.data_split_dir
        if problem := self._ask("begin", to_yaml(config), split, self.cluster.data_root):
            self._keep_place(outstanding=False)
            self._dismiss()
            raise ClusterError(one_line(problem))
        log.info("run %s goes to %s, with %s", self.run.id, self.place.in_words(), self.cluster.in_words())

    def _newest_whole(self) -> Path:
        """The newest checkpoint that is not damaged; what is, is set aside, as the trainer there would do it."""
        checkpoints, damaged = self.run.checkpoints(), []
        while checkpoints:
            try:
                verify(checkpoints[-1])
            except DamagedCheckpointError as error:
                log.warning("%s", error)
                damaged.append(checkpoints.pop())
                continue
            self.run.set_aside(damaged)
            return checkpoints[-1]
        raise CheckpointError(
            f"run {self.run.id} cannot go on: all its checkpoints are damaged; put a good copy in place, or start over "
            "with --set checkpoint_cfg.load_checkpoints=false"
        )

    def _to_go_on_from(self) -> Iterator[Path]:
        if self.checkpoint is None:
            return
        for path in sorted(self.run.path.rglob("*")):
            name = path.relative_to(self.run.path).as_posix()
            outdated = path.suffix == ".pth" and path != self.checkpoint
            if travels(name) and name not in (CONFIG, STATE, LOG) and not outdated:
                yield path

    def _config_there(self) -> RunConfig:
        """The config, without a mirror in a store of MLflow's that only this machine has."""
        address = self.config.mlflow_cfg.tracking_uri
        if self.config.mlflow_cfg.use and address:  # its password is kept in the data root here, which is not there
            there = with_password(self.run.path.parents[2], address)
            return replace(self.config, mlflow_cfg=replace(self.config.mlflow_cfg, tracking_uri=there))
        if not self.config.mlflow_cfg.use:
            return self.config
        log.warning("MLflow's store is on this machine, so this run is not mirrored; give the address of a server")
        return replace(self.config, mlflow_cfg=replace(self.config.mlflow_cfg, use=False))

    # --- what the trainer writes ---

    def _mirror(self, files: Mapping[str, Signature]) -> None:
        """Brings over what is new or has changed, small things first, and drops what the trainer has removed."""
        files = {name: signature for name, signature in files.items() if travels(name)}
        if len(files) > MOST_FILES:
            raise ClusterError(f"the cluster offers {len(files):,} files for one run; {MOST_FILES:,} are allowed")
        if CONFIG in files and not self.place.begun:
            self._begin_folder()
        for name in sorted(files, key=lambda name: (name.endswith(".pth"), name)):
            if self.known.get(name) != files[name] and (self.place.begun or name in (LOG, STATE)):
                with contextlib.suppress(FileNotFoundError, _ChangedError):
                    self._bring(name, files[name])
        if CONFIG not in files:
            return  # a folder that is being cleared away there, which is no reason to do so here
        for name in set(self.known) - set(files) - {LOG, STATE, CONFIG}:
            (self.run.path / name).unlink(missing_ok=True)
            del self.known[name]

    def _begin_folder(self) -> None:
        """The training has begun: what an earlier one left goes, unless this one goes on from it."""
        if self.checkpoint is None:
            self.run.clear()
        self.run.save_text(CONFIG, to_yaml(self.config))
        self._keep_place(begun=True)

    def _bring(self, name: str, signature: Signature) -> None:
        before = self.known.get(name)
        if name == CONFIG:
            self.known[name] = signature
        elif name == STATE:
            self.known[name] = self._read_state()
        elif name == LOG:
            # One that has grown too long was begun anew there.
            self.known[name] = self._append(name, self.place.log_bytes if self.place.log_bytes <= signature[1] else 0)
        elif name in _GROWING and before is not None and before[0] == signature[0] and before[1] < signature[1]:
            self.known[name] = self._append(name, before[1])
        else:
            self.known[name] = self._fetch(name, signature)

    def _read_state(self) -> Signature:
        data, signature = self._read(STATE, 0)
        with contextlib.suppress(ValueError):
            said = parse_json(data)
            self.said = said if isinstance(said, dict) else {}
        return signature

    def _append(self, name: str, offset: int) -> Signature:
        """Brings over what a file has grown by, and gives what was then read to its end."""
        while True:
            data, signature = self._read(name, offset)
            offset += len(data)
            if data:
                with (self.run.path / name).open("ab") as file:
                    file.write(data)
                if name == LOG:
                    self._keep_place(log_bytes=offset)
            if len(data) < CHUNK_BYTES:
                return signature[0], offset, signature[2]

    def _fetch(self, name: str, signature: Signature) -> Signature:
        """Brings over a whole file, which takes the place of the one here only when it is what it was there."""
        path = self.run.path / name
        wanted = self._ask("digest", name)
        if path.is_file() and path.stat().st_size == signature[1]:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == wanted:
                    return signature
        path.parent.mkdir(exist_ok=True)
        found, offset = hashlib.sha256(), 0
        with replacing(path) as file:
            while True:
                data, read = self._read(name, offset)
                offset += len(data)
                found.update(data)
                if offset > MOST_BYTES:
                    raise ClusterError(f"the cluster's {name} is larger than {MOST_BYTES >> 30} GiB")
                file.write(data)
                if len(data) < CHUNK_BYTES:
                    break
            if found.hexdigest() != wanted:
                raise _ChangedError
        return read

    def _read(self, name: str, offset: int) -> tuple[bytes, Signature]:
        data, signature = self._ask("read", name, offset)
        return data, signature

    # --- stopping and ending ---

    def _pass_on_stop(self) -> None:
        kind = self.run.stop_request()
        if kind is not None and kind != self._asked_to_stop:
            self._ask("stop", kind)
        self._asked_to_stop = kind

    def _end(self, look: Look) -> int:
        """Collects what is not here yet, and says how the training ended."""
        for _ in range(_LAST_TRIES):
            if not (missing := self._missing(look)):
                break
            look = self._ask("look")
            self._mirror(look.files)
        else:
            raise ClusterError(f"the cluster's {', '.join(missing[:3])} could not be fetched whole; {_AGAIN}")
        status, reason, failure = self._ending(look.code or 0)
        # Said before the trainer is let go: killed in between, this process leaves no finished run as a failed one.
        self._keep_place(outstanding=False)
        self.run.set_state(status, reason, epochs=self.config.epochs, failure=failure)
        self.run.clear_stop()
        self._dismiss()
        return 1 if status in ("failed", "interrupted") else 0

    def _dismiss(self) -> None:
        """Lets the trainer go, with what is left on its machine; nothing there is needed any more."""
        with contextlib.suppress(Exception):
            self._ask("close")
        self._kill()

    def _kill(self) -> None:
        """Ends the trainer, and sees it gone: Ray does so in its own time, which this process must not end before."""
        with contextlib.suppress(Exception):  # among them that it is dead
            self.ray.kill(self.trainer)
            until = time.monotonic() + _GONE_WITHIN_S
            while time.monotonic() < until:
                self.ray.get(self.trainer.begun.remote(), timeout=_GONE_WITHIN_S)
                time.sleep(0.1)

    def _missing(self, look: Look) -> list[str]:
        names = [name for name in look.files if travels(name) and (self.place.begun or name in (LOG, STATE))]
        return [name for name in names if self.known.get(name) != look.files[name]]

    def _ending(self, code: int) -> tuple[Status, str, FailureKind | None]:
        status = next((known for known in STATUSES if known == self.said.get("status")), None)
        if status is not None and status not in ("running", "queued"):
            failure = next((kind for kind in FAILURE_KINDS if kind == self.said.get("failure")), None)
            return status, one_line(str(self.said.get("reason", "")), _MOST_REASON), failure
        where = f"its process on {self.place.in_words()}"
        if code < 0:
            return "failed", f"{where} was killed by {signal_name(-code)}; resume to go on", "killed"
        last_line = self.run.log_tail(1) or "its log is empty"
        return "failed", f"{where} ended with exit status {code}: {one_line(last_line)}", None

    # --- the trainer, asked ---

    def _show(self, reason: str) -> None:
        if reason != self._shown:
            self.run.set_state("running", reason, epochs=self.config.epochs, process=self._me)
            self._shown = reason

    def _keep_place(self, **changes: Any) -> None:
        self.place = replace(self.place, **changes)
        keep_place(self.run, self.place)

    def _ask(self, method: str, *arguments: object) -> Any:
        """Calls the trainer, again while the way to it is broken; asked twice, it does what it is asked once.

        Raises: FileNotFoundError when the trainer says so; ClusterError when it or the cluster is gone.
        """
        until = time.monotonic() + SILENT_S
        while True:
            try:
                return self._get(getattr(self.trainer, method).remote(*arguments))
            except self.ray.exceptions.ActorUnavailableError as error:
                if time.monotonic() > until:
                    raise self._gone(error) from error
                time.sleep(LOOK_EVERY_S)

    def _get(self, question: Any) -> Any:
        exceptions = self.ray.exceptions
        try:
            return self.ray.get(question, timeout=SILENT_S)
        except exceptions.GetTimeoutError as error:
            where = f"the cluster at {self.cluster.address}"
            raise ClusterError(f"{where} has not answered for {SILENT_S:.0f} s; {_AGAIN}") from error
        except (FileNotFoundError, exceptions.ActorUnavailableError):
            raise
        except exceptions.RayTaskError as error:
            last = "".join(str(error).strip().splitlines()[-1:])
            raise ClusterError(f"its trainer on {self.place.in_words()} failed: {one_line(last)}; {_AGAIN}") from error
        except Exception as error:  # the actor is dead, or the connection is, in whatever words
            if isinstance(error, exceptions.RayActorError):
                self._keep_place(outstanding=False)
            raise self._gone(error) from error

    def _gone(self, error: Exception) -> ClusterError:
        lines = str(error).splitlines()
        if any("No module named" in line for line in lines):
            missing = next(line for line in reversed(lines) if "No module named" in line)
            return ClusterError(
                f"the cluster's machines cannot run the trainer ({one_line(missing)}); install pianistid there, in the "
                "same version and for the Python that Ray runs by"
            )
        why = next((line for line in lines if "dead because" in line or "node" in line.lower()), "".join(lines[:1]))
        where = self.place.in_words()
        return ClusterError(f"its trainer on {where} is gone ({one_line(why, 160)}); {_AGAIN}")


def follow(run: Run) -> int:
    """Follows a run that trains on a cluster to its end; the run then says how it ended. Gives the exit status."""
    me = ProcessIdentity.of()
    epochs = run.state().epochs
    try:
        config = load_config(run.path / REQUEST_FILE)
        epochs = config.epochs
        # As whoever trains holds it, who may have changed the place.
        with FileLock(run.path / "lock", timeout=0), beating(run.path):
            place = remote_place(run)
            if place is None:
                raise RunError(f"run {run.id} does not say on which cluster it trains")
            run.set_state("running", f"connects to the cluster at {place.cluster.address}", epochs=epochs, process=me)
            return Follower(run, config, place, connect(place.cluster.address)).follow()
    except Timeout:
        log.error("run %s is already being trained; stop it first", run.id)
        return 1
    except PianistIDError as error:
        log.error("run %s failed: %s", run.id, error)
        run.set_state("failed", str(error), epochs=epochs)
    except Exception as error:
        log.exception("run %s failed", run.id)
        run.set_state("failed", f"it could not be followed: {one_line(str(error))}", epochs=epochs)
    run.clear_stop()
    return 1


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING)
    logging.root.handlers[0].setFormatter(LineFormatter())
    logging.getLogger("pianistid_core").setLevel(logging.INFO)
    leave(follow(Run.open(Path(sys.argv[1]))))
