"""Measures what a model knows of each pianist, in a process of its own, so that the server need not load torch.

    python lab/pianists_measure.py RUN_FOLDER DATA_ROOT CACHE PART

Writes "done total" lines as it goes on; when it cannot, the reason is the last line of its errors.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import PianistIDError, RunError
from pianistid_core.profiles import profiles
from pianistid_core.runs import Run


def measure(run: Run, root: DataRoot, part: str, progress: Callable[[int, int], None]) -> None:
    """Starts the process and follows it; the profiles are in the run afterwards.

    Raises: RunError with the process's own words when it refuses.
    """
    command = [sys.executable, __file__, str(run.path), str(root.path), str(root.cache_dir), part]
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process:
            for line in process.stdout or ():
                done, _, total = line.partition(" ")
                if done.isdigit() and total.strip().isdigit():
                    progress(int(done), int(total))
        if process.returncode:
            errors.seek(0)
            lines = [line for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
            raise RunError(lines[-1][:600] if lines else f"measuring ended with exit status {process.returncode}")


def main(run: str, root: str, cache: str, part: str) -> int:
    """Does the work; 1 when it cannot."""

    def say(done: int, total: int) -> None:
        print(done, total, flush=True)

    try:
        profiles(Run.open(Path(run)), DataRoot(Path(root), Path(cache)), part, say, device="auto")
    except PianistIDError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
