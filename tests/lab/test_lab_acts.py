"""Who may do what in the lab: refused by the server and not only by a grey button, and written down either way."""

import ast
import importlib
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import acts
import build_start
import settings
import state
import who
from drafts import Draft, DraftError, DraftStore
from gate import sessions
from gate.sessions import Sessions
from lab_support import a_run, lab, words
from pianistid_core import trash
from pianistid_core.accounts import AccountFile, Person, Role
from pianistid_core.audit import entries, note
from pianistid_core.backups.packing import write_backup
from pianistid_core.backups.shelf import place_for
from pianistid_core.config import load_config
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import AccessError, DataRootError
from pianistid_core.places import Cluster, save_cluster, saved_cluster
from pianistid_core.run_queue import RunQueue
from pianistid_core.run_starter import remember_starter, starter_of
from pianistid_core.runs import Run

LAB = Path(__file__).resolve().parents[2] / "lab"

# --- the house: nothing changes anything but through `acts.acting` ----------------------------------------------------

# What changes something, as the lab writes it.
MUTATORS = re.compile(
    r"(launch\.(start|resume|stop|stop_and_wait)|trash\.(discard|restore|empty)"
    r"|\w*queue(\(.*\))?\.(add|move|remove|pause|unpause)|server(_of\(.*\))?\.(start|stop)|\w*store(\(\))?\.(save|prune)"
    r"|(\w+\.)?(import_source|make_demo|fetch_archive|make_split|save_tracking|save_cluster|choose_data_root"
    r"|run_preflight|remember_starter|set_labels|relabel|delete_checkpoint|discard_all|export_root|import_root)"
    r"|(\w+\.)?people\(?\)?\.(add|set_role|set_password|remove|add_member|set_others))$"
)
LAST_WORDS = set(re.findall(r"[a-z_]{3,}", MUTATORS.pattern))
# What changes nothing for others, or asks for a role itself.
EXCEPTIONS = {
    ("state", "keep_draft"),  # asks whether its person may
    ("tracking", "begin"),  # drawn for whoever may administer, while a server that lives comes up
}
Place = tuple[str, str]


def modules() -> list[Path]:
    return [path for path in sorted(LAB.rglob("*.py")) if "gate" not in path.parts and "__pycache__" not in path.parts]


def functions(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef, list[ast.FunctionDef]]]:
    """Every function with those it stands in."""

    def within(node: ast.AST, around: list[ast.FunctionDef]) -> Iterator[tuple[ast.FunctionDef, list[ast.FunctionDef]]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef):
                yield child, around
                yield from within(child, [*around, child])
            else:
                yield from within(child, around)

    yield from within(tree, [])


def role_of(function: ast.FunctionDef) -> str | None:
    found = (re.match(r"acting\(Role\.(\w+)", ast.unparse(one)) for one in function.decorator_list)
    return next((match[1] for match in found if match), None)


class House:
    """What every outermost function of the lab names, and which of them are protected."""

    def __init__(self) -> None:
        self.names: dict[Place, set[Place]] = {}
        self.changes: dict[Place, set[str]] = {}
        self.roles: dict[Place, str] = {}
        for path in modules():
            tree = ast.parse(path.read_text())
            module = path.stem
            own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            taken = {
                alias.asname or alias.name: (node.module, alias.name)
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and node.module
                for alias in node.names
            }
            for node in [*tree.body]:
                inside = node.name if isinstance(node, ast.FunctionDef) else "(module)"
                if isinstance(node, ast.FunctionDef) and role_of(node):
                    self.roles[(module, node.name)] = str(role_of(node))
                guarded = {  # what stands in functions with a role inside of one without
                    id(part)
                    for function in ast.walk(node)
                    if isinstance(function, ast.FunctionDef)
                    and role_of(function)
                    and (module, inside) not in self.roles
                    for part in ast.walk(function)
                }
                for part in ast.walk(node):
                    if id(part) in guarded or not isinstance(part, ast.Name | ast.Attribute):
                        continue
                    last = part.id if isinstance(part, ast.Name) else part.attr
                    text = ast.unparse(part) if last in LAST_WORDS and isinstance(part.ctx, ast.Load) else ""
                    if MUTATORS.fullmatch(text) and (module, inside) not in self.roles:
                        self.changes.setdefault((module, inside), set()).add(text)
                    target = None
                    if isinstance(part, ast.Name):
                        target = (module, part.id) if part.id in own else taken.get(part.id)
                    elif isinstance(part.value, ast.Name):
                        target = (part.value.id, part.attr)
                    if target is not None and target != (module, inside):
                        self.names.setdefault(target, set()).add((module, inside))

    def is_reached_without_a_role(self, place: Place, seen: frozenset[Place] = frozenset()) -> bool:
        if place in self.roles or place in EXCEPTIONS or place in seen:
            return False
        callers = self.names.get(place, set())
        if place[1] == "(module)" or not callers:
            return True
        return any(self.is_reached_without_a_role(caller, seen | {place}) for caller in callers)


def test_nothing_changes_anything_but_for_someone_with_a_role() -> None:
    house = House()
    assert len(house.roles) > 40
    assert len(house.changes) >= 8  # those that change something and are not decorated themselves: their callers are
    ways = {
        place: {text for text in said if tuple(text.split(".")) not in house.roles}
        for place, said in house.changes.items()
    }
    assert not {place: said for place, said in ways.items() if said and house.is_reached_without_a_role(place)}
    assert all(place in house.names or place in house.changes for place in EXCEPTIONS)


def test_a_widget_of_an_act_says_which_role_it_needs() -> None:
    trees = [ast.parse(path.read_text()) for path in modules()]
    needs: dict[str, set[str]] = {}
    for tree in trees:
        for one, _ in functions(tree):
            needs.setdefault(one.name, set()).add(role_of(one) or "")
    seen = 0
    for tree in trees:
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            wired = [one.value for one in node.keywords if one.arg in ("on_click", "on_change")]
            name = ast.unparse(wired[0]).split(".")[-1] if wired else ""
            if name in needs and "" not in needs[name]:
                allowed = [ast.unparse(one.value) for one in node.keywords if one.arg is None]
                fits = [text for text in allowed for role in needs[name] if f"allowed(Role.{role}" in text]
                assert fits, ast.unparse(node)
                seen += 1
    assert seen > 30


# --- by name, as a forged request would ------------------------------------------------------------------------------


def callbacks() -> dict[str, Role]:
    """Every callback that needs a role in the modules of the lab (those of pages run when they are imported)."""
    found: dict[str, Role] = {}
    for path in sorted(LAB.glob("*.py")):
        tree = ast.parse(path.read_text())
        found |= {f"{path.stem}.{one.name}": Role[str(role_of(one))] for one in tree.body if _acts(one)}  # type: ignore[union-attr, arg-type, attr-defined]
    return found


def _acts(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and role_of(node) is not None


@pytest.mark.parametrize("mine", [Role.LOOK, Role.RUN])
def test_a_request_for_what_one_may_not_do_is_refused_and_written_down(
    mine: Role, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    root = DataRoot(tmp_path / "home", tmp_path / "cache")
    root.path.mkdir()
    monkeypatch.setattr(who, "me", lambda: Person("Ann", mine))
    monkeypatch.setattr(who, "may", lambda role: mine >= role)
    monkeypatch.setattr(state, "complain", said.append)
    monkeypatch.setattr(state, "data_root", lambda: root)
    needs = callbacks()
    refused = {name for name, role in needs.items() if role > mine}
    assert len(refused) > (30 if mine is Role.LOOK else 3)
    for name in sorted(refused):
        module, function = name.split(".")
        callback = getattr(importlib.import_module(module), function)
        assert callback.role == needs[name]
        callback()  # with nothing that it would need: it must not come so far
    assert len(said) == len(refused) and all(f"'{mine.label}'" in one for one in said)
    lines = entries(root, 1000)
    assert len(lines) == len(refused)
    assert {(line.who, line.where, line.ended) for line in lines} == {("Ann", "lab", "refused")}
    assert all("needs the role" in line.why and line.what for line in lines)


def test_a_session_that_has_ended_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(state, "complain", said.append)

    @acts.acting(Role.LOOK)
    def anything() -> None:
        raise AssertionError

    anything()  # outside of any session nobody is logged in
    assert "not logged in" in said[0]


# --- by the page -----------------------------------------------------------------------------------------------------


def page(root: DataRoot, monkeypatch: pytest.MonkeyPatch, name: str, role: str, view: str, **query: str) -> AppTest:
    """A page as a person sees it."""
    at = lab(root, monkeypatch, view, **query)
    at.user = {"name": name, "role": role}
    at.run()
    assert not at.exception
    return at


def press_as(at: AppTest, name: str, role: str, key: str, kind: str = "button") -> None:
    """Presses a button that was drawn for somebody who may, as somebody who may not by now."""
    at.user = {"name": name, "role": role}
    element = getattr(at, kind)(key=key)
    (element.click() if kind == "button" else element.set_value(True)).run()
    assert not at.exception
    at.user = {"name": "Ada", "role": "administer"}
    at.run()


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    root = DataRoot(tmp_path / "home", tmp_path / "cache")
    a_run(root.path, "one", "stopped")
    return root


def test_who_looks_sees_everything_and_changes_nothing(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = page(root, monkeypatch, "Lou", "look", "views/runs.py", run="study/one")
    grey = {button.key: str(button.help) for button in at.button if button.disabled}
    assert {"star", "resume", "clone", "archive", "trash"} <= set(grey)
    assert all("Needs the role" in help for help in grey.values())
    at = page(root, monkeypatch, "Ada", "administer", "views/runs.py", run="study/one")
    for key in ("trash", "star", "resume"):
        press_as(at, "Lou", "look", key)
    run = Run.find(root.checkpoints_dir, "study/one")
    assert run.state().status == "stopped" and not run.labels().starred
    assert [(line.who, line.what, line.ended) for line in entries(root)] == [
        ("Lou", "resume", "refused"), ("Lou", "label", "refused"), ("Lou", "delete", "refused"),
    ]  # fmt: skip


def test_who_runs_discards_and_puts_back_but_removes_nothing_for_good(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = page(root, monkeypatch, "Rita", "run", "views/runs.py", run="study/one")
    at.button(key="trash").click().run()
    assert [one.run_id for one in trash.discarded(root.checkpoints_dir)] == ["study/one"]
    at.button(key="undo_trash").click().run()
    assert not trash.discarded(root.checkpoints_dir)
    trash.discard(Run.find(root.checkpoints_dir, "study/one"))
    at = page(root, monkeypatch, "Rita", "run", "views/runs.py", runs_view="Trash")
    assert at.button(key="trash_empty").disabled and "administer" in str(at.button(key="trash_empty").help)
    at.user = {"name": "Ada", "role": "administer"}
    at.run()
    press_as(at, "Rita", "run", "trash_empty")
    assert len(trash.discarded(root.checkpoints_dir)) == 1
    at.button(key="trash_empty").click().run()
    assert not trash.discarded(root.checkpoints_dir)
    assert [(line.who, line.what, line.about, line.ended) for line in entries(root)] == [
        ("Ada", "empty trash", "study/one", "done"), ("Rita", "empty trash", "", "refused"),
        ("Rita", "restore", "study/one", "done"), ("Rita", "delete", "study/one", "done"),
    ]  # fmt: skip


def test_only_who_administers_changes_settings(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    save_cluster(root, Cluster("10.0.0.5:6379"))
    at = page(root, monkeypatch, "Ada", "administer", "views/tracking.py")
    press_as(at, "Rita", "run", "mlflow_use", "toggle")
    assert not settings.tracking(root).use
    press_as(at, "Rita", "run", "root_use")
    at.switch_page("views/cluster.py").run()
    press_as(at, "Rita", "run", "cluster_forget")
    assert saved_cluster(root) is not None
    assert [(line.who, line.what, line.ended) for line in entries(root)] == 3 * [("Rita", "settings", "refused")]
    at.button(key="cluster_forget").click().run()
    assert saved_cluster(root) is None
    assert (entries(root, 1)[0].who, entries(root, 1)[0].about) == ("Ada", "no cluster")


@pytest.mark.parametrize(
    ("view", "key", "what", "now"),
    [
        ("views/runs.py", "bulk_export", "export", Role.LOOK),
        ("views/backup.py", "backup_download", "backup download", Role.RUN),
        ("views/audit.py", "audit_csv", "audit download", Role.RUN),
    ],
)
def test_a_download_that_was_drawn_before_the_role_changed_gives_nothing(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch, view: str, key: str, what: str, now: Role
) -> None:
    drawn: dict[str, Any] = {}
    draw = st.download_button

    def download_button(*args: Any, **options: Any) -> bool:
        drawn[options["key"]] = options["data"]
        return bool(draw(*args, **options))

    monkeypatch.setattr(st, "download_button", download_button)
    file = AccountFile(root.path / "access.json")
    served = Sessions(file, asks=True)
    ticket = served.find(served.open(file.add("Ada", Role.ADMINISTER, "canary battery staple"))).ticket  # type: ignore[union-attr]
    note(root, "Ada", "start", "study/one")
    write_backup(root, place_for(root))
    at = lab(root, monkeypatch, view)
    sessions.serve(served)
    try:
        at.user = {who.TICKET: ticket}
        at.run()
        with suppress(DataRootError):  # no run is chosen, which is said by what packs them
            assert isinstance(drawn[key](), bytes)
        file.set_role("Ada", now)
        with pytest.raises(AccessError, match="does not have any more"):
            drawn[key]()
    finally:
        sessions.serve(None)
    (line,) = entries(root, 1)
    assert (line.who, line.what, line.ended) == ("Ada", what, "refused")


def test_what_is_queued_and_taken_out_names_who_did_it(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = RunQueue(demo_root)
    queue.pause()
    before = len(entries(demo_root, 1000))
    at = page(demo_root, monkeypatch, "Rita", "run", "views/build.py")
    at.button(key="queue").click().run()
    (entry,) = queue.entries()
    assert starter_of(Run(demo_root.checkpoints_dir / entry.run_id)) == "Rita"
    at = page(demo_root, monkeypatch, "Ada", "administer", "views/runs.py", runs_view="Queue")
    press_as(at, "Lou", "look", f"remove_{entry.id}")
    assert len(queue.entries()) == 1
    at.button(key=f"remove_{entry.id}").click().run()
    assert queue.entries() == []
    lines = entries(demo_root, 1000)
    assert [(line.who, line.what, line.about, line.ended) for line in lines[: len(lines) - before]] == [
        ("Ada", "queue remove", entry.run_id, "done"), ("Lou", "queue remove", "", "refused"),
        ("Rita", "queue add", entry.run_id, "done"),
    ]  # fmt: skip
    queue.unpause()


def test_a_config_that_leads_outside_is_for_who_administers(
    root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = [Role.RUN]
    monkeypatch.setattr(who, "me", lambda: Person("Rita", mine[0]))
    monkeypatch.setattr(who, "may", lambda role: mine[0] >= role)
    monkeypatch.setattr(state, "data_root", lambda: root)
    monkeypatch.setattr(state, "refresh_draft", lambda: None)
    monkeypatch.setattr(state, "notify", lambda said: None)
    said: list[str] = []
    monkeypatch.setattr(state, "complain", said.append)
    inside = f"sqlite:///{root.path}/mlflow/own.db"
    for key, value, fine in (
        ("checkpoint_cfg.checkpoint_dir", str(tmp_path / "outside"), False),
        ("checkpoint_cfg.checkpoint_dir", f"{root.path}/../outside", False),
        ("checkpoint_cfg.checkpoint_dir", "~", False),
        ("checkpoint_cfg.checkpoint_dir", str(root.path / "own"), True),
        ("mlflow_cfg.tracking_uri", f"sqlite:///{tmp_path}/x.db", False),
        ("mlflow_cfg.tracking_uri", f"{inside}?/../../../x.db", False),
        ("mlflow_cfg.tracking_uri", f"file://{tmp_path}/runs", False),
        ("mlflow_cfg.tracking_uri", str(tmp_path), False),
        ("mlflow_cfg.tracking_uri", inside, True),
        ("mlflow_cfg.tracking_uri", "http://127.0.0.1:9", True),
    ):
        config = load_config("demo.yaml", overrides=["mlflow_cfg.use=true", f"{key}='{value}'"])
        monkeypatch.setattr(build_start, "check", lambda config=config: (config, []))
        mine[0] = Role.ADMINISTER
        acts.refuse_outside(config, root)
        mine[0] = Role.RUN
        if fine:
            acts.refuse_outside(config, root)
            continue
        for act in (build_start.start, build_start.queue_one, build_start.preflight):
            said.clear()
            act()
            assert said and key in said[0] and "administer" in said[0], (value, act)
    assert not RunQueue(root).entries() and not (tmp_path / "outside").exists()


def first(value: str | list[str]) -> str:
    return value if isinstance(value, str) else value[0]


def test_the_drafts_of_one_person_are_not_anothers(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, ann, bob = (DraftStore(root, name) for name in ("", "Ann", "../Bob"))
    kept = {}
    for store in (alone, ann, bob):
        kept[store] = Draft(base="demo.yaml")
        store.save(kept[store])
    for store in (alone, ann, bob):
        assert store.ids() == [kept[store].id]
        others = [draft for other, draft in kept.items() if other is not store]
        for draft in others:
            with pytest.raises(DraftError):
                store.load(draft.id)
    assert DraftStore(root, "ann").ids() == ann.ids()  # names are compared without regard to case
    assert len(list(root.drafts_dir.glob("*.json"))) == 3
    monkeypatch.setattr(who, "has_logged_in", lambda: True)
    at = page(root, monkeypatch, "Ann", "run", "views/build.py")
    assert first(at.query_params["draft"]) == kept[ann].id
    at = page(root, monkeypatch, "Lou", "look", "views/build.py", draft=kept[ann].id)
    assert first(at.query_params["draft"]) != kept[ann].id
    assert DraftStore(root, "Lou").ids() == []  # who looks keeps none
    remember_starter(Run.find(root.checkpoints_dir, "study/one"), "Rita")
    at = page(root, monkeypatch, "Lou", "look", "views/runs.py", run="study/one")
    assert "Started by Rita" in words(at)
