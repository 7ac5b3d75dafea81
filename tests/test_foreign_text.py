"""What the pages draw is constant, a figure, or made safe: no name reaches markdown, HTML or script as it came."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

LAB = Path(__file__).parent.parent / "lab"
FILES = sorted(path for path in LAB.rglob("*.py") if "__pycache__" not in path.parts)

# Everything of Streamlit that takes markdown: in its first argument, and in these keywords.
DRAWS_MARKDOWN = {
    "markdown", "caption", "title", "header", "subheader", "write", "info", "warning", "error", "success", "toast",
    "metric", "button", "tabs", "expander", "popover", "checkbox", "toggle", "radio", "selectbox", "text_input",
    "text_area", "badge", "page_link", "link_button", "download_button", "status", "spinner", "progress",
    "form_submit_button", "dialog", "segmented_control", "multiselect", "number_input", "slider", "file_uploader",
    "pills", "select_slider", "menu_button",
}  # fmt: skip
NOT_STREAMLIT = {"state", "log", "jobs", "run_export"}  # things with functions of the same names
MARKDOWN_KEYWORDS = {"label", "text", "body", "help", "title", "delta"}
MAKES_SAFE = {"plain", "sentence"}
# Words and figures of the lab's own, in which nothing foreign stands.
GIVES_FIGURES = {
    "percent", "duration", "clock", "ago", "len", "int", "float", "round", "sum", "min", "max", "points", "abs", "bool",
    "describe_time", "signed", "progress_of", "share_of",
}  # fmt: skip
KEEPS_SAFE = {"lower", "upper", "capitalize", "rstrip", "strip", "removesuffix", "join", "title"}
FIGURE_FORMAT = re.compile(r"[+,]*\d*[,.]?\d*[dfge%]|,|\d+,?")


class Judge:
    """Finds what in an expression is not known to be safe, by where its names come from in one function."""

    def __init__(self, module: ast.Module, function: ast.AST) -> None:
        self.scopes = [function, module]
        self.asked: set[str] = set()

    def doubts(self, node: ast.expr | None) -> list[str]:
        """The smallest parts of an expression that may be foreign."""
        match node:
            case None | ast.Constant() | ast.BinOp(_, ast.Sub() | ast.Div() | ast.FloorDiv(), _) | ast.Compare():
                return []
            case ast.FormattedValue(value, _, spec):
                figure = spec is not None and FIGURE_FORMAT.fullmatch(ast.unparse(spec)[2:-1])
                return [] if figure else self.doubts(value)
            case ast.JoinedStr(parts) | ast.BoolOp(_, parts) | ast.Tuple(parts) | ast.List(parts) | ast.Dict(_, parts):
                return self._all(parts)
            case ast.IfExp(_, one, other) | ast.BinOp(one, _, other):
                return self._all([one, other])
            case ast.Starred(one) | ast.Subscript(one, _) | ast.GeneratorExp(one) | ast.ListComp(one):
                return self.doubts(one)
            case ast.Call():
                return self._call(node)
            case ast.Name(name):
                return self._name(name)
        return [ast.unparse(node)]

    def _all(self, nodes: Iterable[ast.expr]) -> list[str]:
        return [doubt for node in nodes for doubt in self.doubts(node)]

    def _call(self, node: ast.Call) -> list[str]:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        if name in MAKES_SAFE | GIVES_FIGURES:
            return []
        if name == "count":
            return self._all(node.args[1:])
        if name == "zip":
            return self._all(node.args)
        if name in KEEPS_SAFE and isinstance(node.func, ast.Attribute):
            return self._all([node.func.value, *node.args])
        return [ast.unparse(node)]

    def _name(self, name: str) -> list[str]:
        if name in self.asked:
            return []
        self.asked.add(name)
        for scope in self.scopes:
            sources = list(sources_of(scope, name))
            if sources:
                return [name] if None in sources or self._all(one for one in sources if one) else []
        return [name]


def sources_of(scope: ast.AST, name: str) -> Iterator[ast.expr | None]:
    """What a name is given in a scope; a parameter is given what nobody knows, None."""
    for node in scope.body if isinstance(scope, ast.Module) else ast.walk(scope):
        match node:
            case ast.arg(arg) if arg == name:
                yield None
            case ast.Assign([target], value) | ast.For(target, value) | ast.comprehension(target, value):
                yield from _bound(target, value, name)
            case ast.AugAssign(ast.Name(id), _, value) | ast.AnnAssign(ast.Name(id), _, value) if id == name:
                yield value
            case ast.NamedExpr(ast.Name(id), value) if id == name:
                yield value
            case ast.Call(ast.Attribute(ast.Name(id), "append" | "extend"), [value]) if id == name:
                yield value


def _bound(target: ast.expr, value: ast.expr, name: str) -> Iterator[ast.expr]:
    if isinstance(target, ast.Name) and target.id == name:
        yield value
    elif isinstance(target, ast.Tuple) and name in {one.id for one in ast.walk(target) if isinstance(one, ast.Name)}:
        both = isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts)
        place = [isinstance(one, ast.Name) and one.id == name for one in target.elts]
        yield value.elts[place.index(True)] if both and any(place) and isinstance(value, ast.Tuple) else value


def drawn(path: Path) -> Iterator[tuple[int, ast.expr, Judge]]:
    """Every expression that becomes markdown in a file: its line, the expression, and who judges it."""
    yield from drawn_in(ast.parse(path.read_text(encoding="utf-8")))


def drawn_in(module: ast.Module) -> Iterator[tuple[int, ast.expr, Judge]]:
    """The same for a module."""
    functions = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)]
    seen: set[ast.AST] = set()
    for function in [*functions[::-1], module]:  # inner functions come later, and are judged by themselves
        for node in ast.walk(function):
            if node in seen or not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            seen.add(node)
            if node.func.attr in DRAWS_MARKDOWN and ast.unparse(node.func.value) not in NOT_STREAMLIT:
                for value in [*node.args[:1], *(one.value for one in node.keywords if one.arg in MARKDOWN_KEYWORDS)]:
                    yield node.lineno, value, Judge(module, function)


# What the judge cannot follow, and why it is safe all the same.
_OWN = "words of the lab's own, from where it is called or from a table of them"
_SCHEMA = "labels and help of the schema, which stand in the core's own source"
_FIGURE = "a figure"
EXPLAINED = {
    "access_view.py": {"_NEW_PASSWORD": _OWN, "me.role.label": "one of three roles", "what": _OWN},
    "build_form.py": {"summary(faults)": _OWN, "card.title": _OWN, "about": _OWN, "list(TABS)": _OWN},
    "cluster_view.py": {"INSTALL": _OWN},
    "compare_paper.py": {"N_RECORDINGS": _FIGURE},
    "compare_parts.py": {"other": "a part of a split: test or validation"},
    "components/empty.py": {"icon": _OWN},
    "components/figures.py": {"name": _OWN, "help": _OWN},
    "components/tables.py": {"label": _OWN},
    "data_split.py": {"part": _OWN},
    "forms.py": {"label": _SCHEMA, "common.pop('help')": _SCHEMA, "info.help": _SCHEMA},
    "home_tour.py": {
        "mark": _OWN, "title": _OWN, "run.state.epoch": _FIGURE,
        "run_states.in_words(run.state, run.best_recording_accuracy)": "one of seven states, and figures",
    },
    "identify_answer.py": {
        "place": _FIGURE, "in_a_sentence(found, strange=unlike(insight))": "made of plain() and figures",
    },
    "identify_why.py": {
        "MATTERED": _OWN, "title": _OWN, "parts": _FIGURE, "together(pairs)": "concepts and figures",
        "concept": "one of four", "NUMBERS": _OWN, "number": "one of its words",
        "CONCEPT_HELP": _OWN, "accuracy": _FIGURE,
    },
    "identify_work.py": {"done": _FIGURE},
    "jobs.py": {"job.share": _FIGURE},
    "run_config_view.py": {"title": _OWN},
    "run_detail.py": {"run_states.STATES": _OWN, "now": "a state, of which the badge says one of seven words"},
    "run_list.py": {"label": _OWN},
    "run_queue_view.py": {"place": _FIGURE, "label": _OWN},
    "sidebar.py": {"section": _OWN, "page": _OWN, "person.role.label": "one of three roles"},
    "views/compare.py": {"data.MAX_RUNS": _FIGURE, "list(TABS)": _OWN},
    "views/home.py": {"name": "one of seven states", "step.label": _OWN},
    "views/results.py": {"list(names)": _OWN},
    "views/identify.py": {"insight.doing": _OWN, "name": _OWN, "card": "the package's own file"},
}  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LAB)))
def test_what_becomes_markdown_is_constant_a_figure_or_made_safe(path: Path) -> None:
    explained = EXPLAINED.get(path.relative_to(LAB).as_posix(), {})
    found = {doubt: line for line, value, judge in drawn(path) for doubt in judge.doubts(value)}
    strange = {doubt: line for doubt, line in found.items() if doubt not in explained}
    assert not strange, f"say it with wording.plain or sentence, or explain in EXPLAINED why it is safe: {strange}"
    assert not explained.keys() - found.keys(), "what is explained is not there any more"


def test_the_judge_sees_what_is_foreign() -> None:
    foreign = """
def draw(run, name):
    st.markdown(name)
    st.caption(f"of {run.id}")
    lines = []
    lines.append(run.note)
    st.write("; ".join(lines))
    st.button("Go", help=run.id)
    words = "a"
    if run:
        words = f"{words} {name}"
    left.toast(words)
    st.info(plain(name) + name)
    for tag in run.tags:
        st.badge(tag)
    st.title(name if run else "none")
"""
    safe = """
def draw(run, name):
    st.markdown(plain(name))
    st.caption(f"**{percent(run.share)}** of {len(run.tags):,}, {run.loss:.3f}")
    words = "a" if run else "b"
    st.write(words + ", " + sentence(name))
    for label, icon in (("Up", ":material/up:"), ("Down", ":material/down:")):
        st.button(label, icon=icon)
"""
    assert len([1 for _, value, judge in drawn_in(ast.parse(foreign)) if judge.doubts(value)]) == 8
    assert [doubt for _, value, judge in drawn_in(ast.parse(safe)) for doubt in judge.doubts(value)] == []


def test_a_badge_says_only_words_of_the_lab() -> None:
    """`st.badge` escapes brackets itself, so text that was made safe before would come back changed."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".badge"):
                assert "plain(" not in ast.unparse(node), f"{path}:{node.lineno}"


def test_a_key_of_a_component_holds_no_name() -> None:
    """A key with two underscores in it ends the page, and a name may have them."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("show_roll", "show_recordings", "show_matrix"):
                key = next(ast.unparse(one.value) for one in node.keywords if one.arg == "key")
                assert not re.search(r"pianist\b|\.name\b|\.id\b|track|title", key), f"{path}:{node.lineno}"


def test_html_and_script_are_constants() -> None:
    """W02: nothing is drawn as HTML but what stands in a file of the lab."""
    for path in FILES:
        module = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(module):
            if isinstance(node, ast.keyword) and node.arg in ("unsafe_allow_html", "unsafe_allow_javascript"):
                assert ast.unparse(node.value) == "False", f"{path}:{node.value.lineno}"
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if name.endswith(("st.html", ".iframe")):
                drawn = node.args[0]
                own = isinstance(drawn, ast.Name) and all(
                    isinstance(source, ast.Constant) for source in sources_of(module, drawn.id)
                )
                assert own or ast.unparse(drawn) == "_HERE / 'lab.css'", f"{path}:{node.lineno}"
            if name.endswith("components.v2.component"):
                assert all(_of_files(one.value) for one in node.keywords), f"{path}:{node.lineno}"
            assert "components.v1" not in name, f"{path}:{node.lineno}"


def _of_files(node: ast.expr) -> bool:
    """Whether text is made of files of the lab alone: calls without arguments, or with constants."""
    match node:
        case ast.Call(ast.Attribute(ast.Constant(), "join"), [ast.Tuple(parts)]):
            return all(_of_files(part) for part in parts)
        case ast.Call(ast.Name(), arguments):
            return all(isinstance(argument, ast.Constant) for argument in arguments)
    return isinstance(node, ast.Constant)


SCRIPTS = sorted((LAB / "components").glob("*.js"))
# What turns text into elements or code. Elements are emptied by replaceChildren(), and filled by textContent.
TURNS_TEXT_INTO_MORE = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|createContextualFragment|DOMParser"
    r"|srcdoc|javascript:|setTimeout\(\s*[\"'`]|setInterval\(\s*[\"'`]|\.(?:href|src|action)\s*=|\bimport\(|\bfetch\("
    r"|XMLHttpRequest|WebSocket|sendBeacon|window\.open|setAttribute\(\s*[\"'`](?:on|href|src|style)"
)


OWN_FETCHES = {".then((source) => fetch(source))"}  # the samples, from the server that the page came from


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_of_components_make_no_elements_or_requests_of_text(path: Path) -> None:
    found = [
        f"{number}: {line.strip()}"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if TURNS_TEXT_INTO_MORE.search(line) and line.strip() not in OWN_FETCHES
    ]
    assert not found
