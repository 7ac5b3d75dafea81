"""What tests of the pages share: the lab on a data root, what it shows, and runs in every state."""

import asyncio
import json
import os
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from pianistid_core.config import load_config, to_yaml
from pianistid_core.datasets.root import DataRoot
from pianistid_core.processes import ProcessIdentity
from pianistid_core.runs import Confusion, Run

T = TypeVar("T")

HOME = Path(__file__).resolve().parent.parent / "lab" / "shell.py"
PAGES = (
    "views/home.py",
    "views/data.py",
    "views/build.py",
    "views/runs.py",
    "views/compare.py",
    "views/results.py",
    "views/identify.py",
    "views/pianists.py",
    "views/tracking.py",
    "views/cluster.py",
    "views/backup.py",
    "views/access.py",
    "views/audit.py",
)


def lab(root: Path | DataRoot, monkeypatch: pytest.MonkeyPatch, page: str = "views/home.py", **query: str) -> AppTest:
    """The lab on a data root, at a page, with what stands in the address bar."""
    path = root.path if isinstance(root, DataRoot) else root
    monkeypatch.setenv("PIANISTID_HOME", str(path))
    if isinstance(root, DataRoot):
        monkeypatch.setenv("PIANISTID_CACHE", str(root.cache_dir))
    at = AppTest.from_file(str(HOME), default_timeout=60)
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    at.switch_page(page)
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception
    return at


def words(at: AppTest) -> str:
    """All text that a page shows, without the marks that keep foreign text plain."""
    kinds = (at.title, at.markdown, at.caption, at.error, at.warning, at.info, at.success)
    return "\n".join(str(element.value) for kind in kinds for element in kind).replace("\\", "").replace(":small[]", "")


def charts_of(at: AppTest) -> list[dict[str, Any]]:
    return [json.loads(element.proto.spec) for element in at.get("echarts_chart")]


def rolls_of(at: AppTest) -> list[dict[str, Any]]:
    return [json.loads(element.proto.json) for element in at.get("bidi_component")]


def a_run(root: Path, name: str, status: str, *, epochs: int = 20, done: int = 3, reason: str = "") -> Run:
    """A run on disk in one of its states."""
    run = Run.create(root / "checkpoints", "study", name)
    run.save_text("config.yaml", to_yaml(load_config("demo.yaml", overrides=["experiment=study", f"run={name}"])))
    process = ProcessIdentity.of(os.getpid()) if status == "running" else None
    run.set_state(status, reason, epochs=epochs, process=process)  # type: ignore[arg-type]
    for epoch in range(1, done + 1):
        run.append_metrics(
            {
                "epoch": epoch, "train_loss": 2.0 / epoch, "test_loss": 2.2 / epoch, "train_clip_accuracy": 0.1 * epoch,
                "test_clip_accuracy": 0.1 * epoch, "test_recording_accuracy": 0.2 * epoch, "lr": 0.1, "skipped": 2,
            }
        )  # fmt: skip
    if done:
        run.save_confusion(1, Confusion(("Ada", "Bela"), np.array([[2, 1], [0, 3]])))
        run.save_confusion("validation", Confusion(("Ada", "Bela"), np.array([[3, 0], [0, 3]])))
    (run.path / "log.txt").write_text("epoch 1/20: fine\n")
    return run


def field(at: AppTest, kind: str, key: str) -> Any:
    return next(widget for widget in getattr(at, kind) if widget.key and widget.key.endswith(f":{key}"))


def yaml_of(at: AppTest) -> str:
    return str(next(area for area in at.text_area if area.label == "YAML").value)


def many_runs(root: Path, n: int, *, epochs: int = 20, metrics_rows: int = 20) -> None:
    """Writes n finished runs as a training would leave them, each with its own config, metrics and confusion matrix."""
    template = to_yaml(load_config("demo.yaml"))
    rng = np.random.default_rng(0)
    for number in range(n):
        name = f"run-{number:04d}"
        folder = root / "checkpoints" / f"study-{number % 7}" / name
        (folder / "confusion").mkdir(parents=True)
        config = template.replace("experiment: demo\n", f"experiment: {folder.parent.name}\n")
        config = config.replace("run: demo\n", f"run: {name}\n").replace("seed: 42", f"seed: {number % 5}")
        (folder / "config.yaml").write_text(config.replace("lr: 0.002", f"lr: {0.001 * (1 + number % 4)}"))
        made = 1_700_000_000.0 + 60 * number
        about = {"experiment": folder.parent.name, "run": name, "created": made}
        (folder / "run.json").write_text(json.dumps(about))
        status = ("finished", "finished", "finished", "stopped", "failed")[number % 5]
        state = {"status": status, "reason": "", "epochs": epochs, "started": made, "process": None}
        (folder / "state.json").write_text(json.dumps(state))
        accuracy = np.clip(np.linspace(0.2, 0.9, metrics_rows) + rng.normal(0, 0.03, metrics_rows), 0, 1)
        rows = [
            {
                "epoch": epoch, "train_loss": 2.0 / epoch, "test_loss": 2.2 / epoch, "seconds": 3.0, "lr": 0.002,
                "train_clip_accuracy": float(share), "test_clip_accuracy": 0.9 * float(share),
                "test_recording_accuracy": float(share), "skipped": 0,
            }
            for epoch, share in enumerate(accuracy, start=1)
        ]  # fmt: skip
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        counts = {"class_names": ["Ada", "Bela"], "counts": [[3, 1], [0, 4]]}
        (folder / "confusion" / f"epoch_{epochs:03d}.json").write_text(json.dumps(counts))


def to_its_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine gives, in a thread of its own: a browser of other tests may keep a loop running in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()
