"""Preflight: everything a run will do, tried once for a few seconds, and from it an estimate of the whole.

`preflight` reads the data, builds the network, trains and evaluates a few batches through the code of training itself,
writes a checkpoint and reads it back, and looks at the disk. Nothing is left behind and no run folder is made.
`run_preflight` does so in a process of its own (`python -m pianistid_core.preflight ROOT CACHE TOKEN [compare]`, the
config as JSON on standard input, a line of JSON for each check on standard output), so that who asks never loads torch.
"""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO

import psutil

from pianistid_core.config import RunConfig, parse_config, to_dict
from pianistid_core.datasets.root import DataRoot
from pianistid_core.preflight_trial import Check, Estimate, OnCheck, Preflight, Range, Speed, Trial, scratch_folder

__all__ = ["Check", "Estimate", "OnCheck", "Preflight", "Range", "Speed", "preflight", "run_preflight"]

_LAST_WORDS_BYTES = 1 << 16


def preflight(
    config: RunConfig, root: DataRoot, on_check: OnCheck | None = None, *, compare: bool = False
) -> Preflight:
    """Tries everything in this process; what goes wrong is a failed check, not an error.

    With `compare` it also measures a step as the reference computes it, and fast.
    """
    return Trial(config, root, secrets.token_hex(4), on_check, compare=compare).fly()


# --- in a process of its own -----------------------------------------------------------------------------------------


def run_preflight(
    config: RunConfig,
    root: DataRoot,
    on_check: OnCheck | None = None,
    timeout_s: float = 180.0,
    *,
    compare: bool = False,
) -> Preflight:
    """Tries everything in a process of its own, which is ended after `timeout_s`; what went wrong is a failed check."""
    token = secrets.token_hex(4)
    command = [sys.executable, "-m", "pianistid_core.preflight", str(root.path), str(root.cache_dir), token]
    command += ["compare"] if compare else []
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
        )
        late = threading.Event()

        def end() -> None:
            late.set()
            _kill_tree(process)

        timer = threading.Timer(timeout_s, end)
        timer.daemon = True
        timer.start()
        try:
            heard = _Heard(on_check or (lambda check: None))
            with contextlib.suppress(BrokenPipeError):  # it is gone already: how, its exit status says
                process.stdin.write(json.dumps(to_dict(config)).encode())  # type: ignore[union-attr]
                process.stdin.close()  # type: ignore[union-attr]
            for line in process.stdout or ():
                heard.line(line)
            process.wait()
        finally:
            timer.cancel()
            _kill_tree(process)
            shutil.rmtree(scratch_folder(config, root, token), ignore_errors=True)
        if heard.result is not None:
            return heard.result
        return heard.cut_short(_why(process.returncode, timeout_s if late.is_set() else None, errors, config), config)


class _Heard:
    """What the process has said so far."""

    def __init__(self, on_check: OnCheck) -> None:
        self.on_check = on_check
        self.checks: list[Check] = []
        self.doing = "Start"
        self.since = time.monotonic()
        self.result: Preflight | None = None

    def line(self, line: bytes) -> None:
        said = json.loads(line)
        if "begin" in said:
            self.doing, self.since = said["begin"], time.monotonic()
        elif "check" in said:
            self.checks.append(Check(**said["check"]))
            # What has gone well has not failed, should the process end before it says what comes next.
            self.doing, self.since = f"After {self.checks[-1].name}", time.monotonic()
            self.on_check(self.checks[-1])
        else:
            self.result = Preflight.from_dict(said["result"])

    def cut_short(self, why: str, config: RunConfig) -> Preflight:
        """What there is when the process ended before its result: its last undertaking has failed."""
        failed = Check(self.doing, False, why, time.monotonic() - self.since)
        self.on_check(failed)
        return Preflight((*self.checks, failed), None, config.device)


def _why(code: int, timeout_s: float | None, errors: IO[bytes], config: RunConfig) -> str:
    if timeout_s is not None:
        return (
            f"it was not done after {timeout_s:.0f} s and was ended; a smaller batch_size (now {config.batch_size}) or "
            "another device would be quicker, and clips that are read for the first time are quicker the second"
        )
    if code == -9:
        return (
            "the system ended the process, most likely because memory ran out; lower batch_size (now "
            f"{config.batch_size}) or num_workers, or choose a smaller network"
        )
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - _LAST_WORDS_BYTES))
    lines = errors.read().decode(errors="replace").strip().splitlines()
    last = f": {lines[-1][:300]}" if lines else ""
    return f"the process ended with {f'signal {-code}' if code < 0 else f'exit status {code}'}{last}"


def _kill_tree(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is not None:
        return
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    process.kill()
    process.wait()


def _main(root: DataRoot, token: str, *, compare: bool) -> None:
    # Whatever else is printed must not get between the lines of the answer.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(kind: str, data: object) -> None:
        answer.write(json.dumps({kind: data}) + "\n")
        answer.flush()

    config = parse_config(json.load(sys.stdin))
    trial = Trial(config, root, token, lambda check: say("check", asdict(check)), compare=compare)
    trial.on_begin = lambda name: say("begin", name)
    say("result", trial.fly().to_dict())


if __name__ == "__main__":
    _main(DataRoot(Path(sys.argv[1]), Path(sys.argv[2])), sys.argv[3], compare="compare" in sys.argv[4:])
