"""The house: arrows point one way, and the public surface is what it says."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pianistid_core

ROOT = Path(__file__).parent.parent
CORE = ROOT / "pianistid_core"

# From the ground up; a module may import those of lower levels, and its own subpackage.
LEVELS = [
    ["errors", "atomic", "reserve", "processes", "names", "strict_json", "masking"],
    ["ladder", "heartbeat", "strict_yaml", "fields", "seals", "outline", "accounts", "exposure"],
    ["schema"],
    ["midi", "compiled_chance", "compiled_midi"],
    ["packed_notes", "rolls", "manner"],
    ["concepts", "bulk_midi", "calibration"],
    ["clips", "strokes", "calibrating"],
    ["datasets", "compiled_rolls"],
    ["batches", "audit", "card"],
    ["drawing"],
    ["loader", "models", "training_options", "presets", "devices"],
    ["config", "figures", "phrase_words"],
    ["optimisation", "speed", "credentials"],
    ["metrics_log", "confusion", "run_labels", "run_log"],
    ["run_folder"],
    ["kept_checkpoints"],
    ["runs", "peer_watch"],
    ["mlflow_store", "run_index", "run_filter", "run_starter", "trash", "intervals", "places"],
    ["evaluation", "checkpoints", "tracking", "stopping", "run_config", "shapley", "comparison", "sound", "peers"],
    ["mirror", "boxed", "cpu_sized", "paper_pairs"],
    ["mlflow_server", "sweep", "published", "queue_files", "learning", "resuming", "cluster", "cluster_trainer"],
    ["failures", "keeping", "sharing", "backups", "paper_results"],
    ["trainer"],
    ["training", "identify", "cluster_follower"],
    ["attribution", "neighbours", "profiles", "preflight_estimate", "preflight_speed", "measuring", "held_out"],
    ["robustness"],
    ["preflight_trial", "deletion", "randomisation", "demo_truth", "phrases"],
    ["report", "preflight", "faithfulness"],
    ["launch"],
    ["run_queue"],
    ["commands"],
    ["__main__"],
]
LEVEL_OF = {name: level for level, names in enumerate(LEVELS) for name in names}
FORBIDDEN_IN_CORE = {"streamlit", "plotly", "lab"}
HEAVY = {"mlflow", "matplotlib", "pooch", "pretty_midi", "mido", "torchvision", "pandas"} | {
    "scipy",
    "captum",
    "midirenderer",
    "ray",
}
MAY_IMPORT_TORCH = {
    "batches",
    "strokes",
    "drawing",
    "loader",
    "evaluation",
    "checkpoints",
    "training",
    "trainer",
    "identify",
    "models",
    "optimisation",
    "devices",
    "learning",
    "peers",
    "sharing",
    "failures",
} | {"attribution", "neighbours", "profiles", "preflight_trial", "randomisation", "phrases", "phrase_words"}


def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def imports(path: Path, *, at_top_only: bool = False) -> set[str]:
    """The dotted names that a module imports, leaving out those for the type checker alone."""
    tree = ast.parse(path.read_text())
    for_types = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    nodes = tree.body if at_top_only else [node for node in ast.walk(tree) if node not in for_types]
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def part(path: Path) -> str:
    """The module or subpackage of the core that a file belongs to."""
    return path.relative_to(CORE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(CORE), ids=lambda path: str(path.relative_to(CORE)))
def test_the_core_imports_only_downwards(path: Path) -> None:
    mine = part(path)
    if mine == "__init__":
        return
    assert mine in LEVEL_OF, f"{mine} has no level: say where it belongs"
    for name in imports(path):
        pieces = name.split(".")
        if pieces[0] != "pianistid_core" or len(pieces) == 1 or pieces[1] == mine:
            continue
        if pieces[1] in LEVEL_OF:
            assert LEVEL_OF[pieces[1]] < LEVEL_OF[mine], f"{mine} must not import {pieces[1]}"


@pytest.mark.parametrize("path", modules(CORE), ids=lambda path: str(path.relative_to(CORE)))
def test_the_core_knows_no_page_and_is_light_to_import(path: Path) -> None:
    everywhere = {name.split(".")[0] for name in imports(path)}
    at_top = {name.split(".")[0] for name in imports(path, at_top_only=True)}
    assert not everywhere & FORBIDDEN_IN_CORE
    if part(path) != "models":
        assert not at_top & HEAVY
    if part(path) not in MAY_IMPORT_TORCH:
        assert "torch" not in at_top


def test_views_do_not_import_views_and_pages_do_not_load_torch() -> None:
    for path in modules(ROOT / "lab"):
        names = imports(path, at_top_only=True)
        assert "torch" not in {name.split(".")[0] for name in names}, path
        if "views" in path.parts:
            assert not any(name.startswith(("views", "lab.views")) for name in imports(path)), path


def test_every_public_name_is_there() -> None:
    for name in pianistid_core.__all__:
        assert getattr(pianistid_core, name) is not None
    with pytest.raises(AttributeError):
        _ = pianistid_core.nothing_of_that_name


def test_importing_the_core_loads_nothing_heavy() -> None:
    code = "import sys, pianistid_core; print({'torch', 'mlflow', 'streamlit', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_core_checks_input_with_errors_and_loads_weights_as_data() -> None:
    for path in [*modules(CORE), *modules(ROOT / "lab")]:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            assert not isinstance(node, ast.Assert), f"{path}:{node.lineno} asserts"
            if isinstance(node, ast.keyword) and node.arg == "weights_only":
                assert ast.unparse(node.value) == "True", path
            if isinstance(node, ast.keyword) and node.arg == "unsafe_allow_html":
                assert ast.unparse(node.value) == "False", path


def test_what_a_person_clicks_or_types_is_done_to_its_end() -> None:
    """Streamlit drops the rest of a callback when another request comes; `guard.whole` keeps it from that."""
    wired: set[str] = set()
    protected: set[str] = set()
    for path in modules(ROOT / "lab"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg in ("on_click", "on_change", "on_select"):
                if isinstance(node.value, ast.Name | ast.Attribute):
                    wired.add(ast.unparse(node.value).split(".")[-1])
            elif isinstance(node, ast.FunctionDef) and any(
                ast.unparse(one) == "whole" or ast.unparse(one).startswith("acting(") for one in node.decorator_list
            ):
                protected.add(node.name)
    assert len(wired) > 20
    assert not wired - protected


def test_a_download_is_made_when_its_button_is_pressed() -> None:
    """What is made beforehand is looked up as the button appears, and a page that went on by then has it no more."""
    seen = 0
    for path in modules(ROOT / "lab"):
        tree = ast.parse(path.read_text())
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".download_button"):
                given = {one.arg: one.value for one in node.keywords}.get("data") or node.args[1]
                if isinstance(given, ast.Call) and ast.unparse(given.func) == "acts.handing_out":
                    given = given.args[-1]  # which asks for the role once more when the button is pressed
                later = isinstance(given, ast.Lambda) or (isinstance(given, ast.Name) and given.id in functions)
                assert later, f"{path}:{node.lineno}"
                seen += 1
    assert seen > 8
