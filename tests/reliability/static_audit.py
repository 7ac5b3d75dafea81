"""What static analysis finds in the code, and what is known against the packages that it stands on.

    python tests/reliability/static_audit.py [--bandit COMMAND] [--pip-audit COMMAND]

Figure 12 of the reliability table. Runs bandit over `pianistid_core` and `lab` and prints each finding with why it is
right as it stands; one without such a reason counts. Runs pip-audit over this environment where its database can be
reached; else each direct dependency is held against the oldest version that the advisories known here allow, and
against the floor in pyproject.toml. Exit status 1 when a finding has no reason, or a version is too old.
"""

import argparse
import ast
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CODE = ("pianistid_core", "lab")

# Why a finding of bandit is right as it stands, by its number, and by its file where the reason is not the same for
# all. The first that fits counts; none without a file may be about what foreign text can reach.
REASONS: dict[tuple[str, str], str] = {
    ("B404", ""): "importing subprocess does nothing; every call of it is a finding of its own",
    ("B603", ""): "a list of arguments and no shell: checked here, call by call",
    (
        "B606",
        "pianistid_core/mlflow_server.py",
    ): "the same interpreter, a list of arguments made here, no shell",
    ("B606", "pianistid_core/commands/lab.py"): "the same interpreter, a list of checked settings, no shell",
    ("B608", "pianistid_core/mlflow_store.py"): "only constants of the code stand in it",
    ("B403", "pianistid_core/checkpoints.py"): "only the name of its error is used; loading is weights_only",
    (
        "B403",
        "pianistid_core/outline.py",
    ): "a pickle is gone through with stand-ins, which build and call nothing",
    ("B310", "pianistid_core/datasets/fetching.py"): "a list that names anything but http and https is refused before",
    ("B506", "pianistid_core/strict_yaml.py"): "a loader of plain data, made from the safe one",
    ("B608", "pianistid_core/backups/store.py"): "names of tables and columns written in the code; values are bound",
}

# The oldest versions without an advisory known here, and what was wrong before.
FLOORS: dict[str, tuple[str, str]] = {
    "torch": ("2.10", "CVE-2025-32434 and CVE-2026-24747: code run by torch.load with weights_only"),
    "streamlit": ("1.61", "CVE-2024-42474, CVE-2026-33682: paths; and allowedHosts, which is younger"),
    "mlflow": ("3.17", "CVE-2026-115886, -96804, -2033: code run through the server and artifacts"),
}
PYTHON_FLOOR = ((3, 11, 8), "CVE-2024-0450: zips whose members overlap; archives.py looks at that itself")


@dataclass(frozen=True)
class Finding:
    """One finding of bandit."""

    number: str
    severity: str
    file: str
    line: int
    text: str

    @property
    def reason(self) -> str:
        """Why it is right as it stands, or nothing."""
        if self.number == "B603" and not _is_a_list_without_shell(REPOSITORY / self.file, self.line):
            return ""
        return REASONS.get((self.number, self.file)) or REASONS.get((self.number, ""), "")


def _is_a_list_without_shell(path: Path, line: int) -> bool:
    """Whether the call at a line starts a program by a list of arguments, or a name or call that gives one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and node.lineno <= line <= (node.end_lineno or line):
            function = node.func
            if not (isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)):
                continue
            if function.value.id == "subprocess":
                shell = [keyword for keyword in node.keywords if keyword.arg in ("shell", None)]
                text = bool(node.args) and isinstance(node.args[0], ast.Constant | ast.JoinedStr | ast.BinOp)
                return bool(node.args) and not shell and not text
    return False


def bandit(command: str) -> list[Finding]:
    """What bandit finds.

    Raises: RuntimeError when it cannot be run.
    """
    done = subprocess.run([command, "-r", *CODE, "-f", "json", "-q"], cwd=REPOSITORY, capture_output=True, text=True)
    try:
        results = json.loads(done.stdout)["results"]
    except (ValueError, KeyError) as error:
        raise RuntimeError(f"bandit said nothing that can be read: {done.stderr[-500:]}") from error
    return [
        Finding(one["test_id"], one["issue_severity"], one["filename"], one["line_number"], one["issue_text"])
        for one in results
    ]


def pip_audit(command: str) -> tuple[int, list[str], str]:
    """How many packages were looked up, what is known against them, and why it could not be asked, if so."""
    done = subprocess.run(
        [command, "--path", sysconfig.get_path("purelib"), "-f", "json"], capture_output=True, text=True, timeout=600
    )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = done.stderr.strip().splitlines()[-1:]
        return 0, [], f"its database cannot be reached ({''.join(last)[:160]})"
    asked = [one for one in packages if "skip_reason" not in one]
    known = [f"{one['name']} {one['version']}: {vuln['id']}" for one in asked for vuln in one.get("vulns", ())]
    if not asked:
        return 0, [], "its database knows none of these packages: it cannot be reached from here"
    return len(asked), known, ""


def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def dependencies() -> Iterator[tuple[str, str, str]]:
    """Each direct dependency: its name, its floor in pyproject.toml, and the installed version."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in project["dependencies"]:
        name, _, floor = line.partition(">=")
        yield name, floor, _installed(name)


def version(text: str) -> tuple[int, ...]:
    """A version's numbers, for comparison."""
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])


def too_old() -> list[str]:
    """Prints each direct dependency, and gives what is wrong with any."""
    wrong = []
    for name, floor, installed in dependencies():
        least, why = FLOORS.get(name, ("", ""))
        print(f"  {name:14} {installed:18} pyproject >= {floor:8} {f'at least {least}: {why}' if least else ''}")
        if least and version(installed) < version(least):
            wrong.append(f"{name} {installed} is older than {least}: {why}")
        if least and version(floor) < version(least):
            wrong.append(f"pyproject.toml allows {name} {floor}, older than {least}: {why}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bandit", default=shutil.which("bandit"), help="the bandit to run")
    parser.add_argument("--pip-audit", default=shutil.which("pip-audit"), help="the pip-audit to run")
    options = parser.parse_args()
    wrong: list[str] = []

    if options.bandit:
        findings = bandit(options.bandit)
        print(f"bandit: {len(findings)} findings {dict(Counter(one.severity.lower() for one in findings))}")
        for one in findings:
            why = one.reason or f"NO REASON: {one.text}"
            print(f"  {one.number} {one.severity.lower():6} {one.file}:{one.line}  {why}")
        wrong += [f"{one.number} {one.file}:{one.line} {one.text}" for one in findings if not one.reason]
    else:
        wrong.append("bandit is not installed; `pip install bandit`, or name it with --bandit")

    print("dependencies:")
    wrong += too_old()
    if options.pip_audit:
        n, known, why_not = pip_audit(options.pip_audit)
        print(f"pip-audit: {why_not or f'{n} packages looked up, {len(known)} advisories'}")
        wrong += known
    else:
        print("pip-audit: not installed")
    if sys.version_info[:3] < PYTHON_FLOOR[0]:
        print(f"this Python is older than {'.'.join(map(str, PYTHON_FLOOR[0]))}: {PYTHON_FLOOR[1]}")
    print("all explained" if not wrong else f"WRONG: {len(wrong)}", *wrong, sep="\n  ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
