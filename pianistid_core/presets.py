"""The configs that ship with the project, in the repository's `config/`, and how one is found by name.

A shipped config opens with a comment: a title, a paragraph that says what it is, the command that runs it and, for an
experiment of the paper, a line such as `# Published validation accuracy: 0.906 (Table 1)`: the share of recordings.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from pianistid_core.errors import ConfigError, Fault
from pianistid_core.schema import closest

_ACCURACY = re.compile(r"Published validation accuracy: ([01]\.\d+) \((Table \w+)\)")


@dataclass(frozen=True)
class Preset:
    """A config that ships with the project, as its header comment tells of it.

    `published_accuracy` is the share of the validation part's recordings that the paper's model recognises, 0 to 1.
    """

    name: str
    path: Path
    title: str
    summary: str
    published_accuracy: float | None
    table: str | None


def config_dir() -> Path:
    """Gives the repository's `config/` folder.

    Raises: ConfigError when the package was installed without its repository.
    """
    path = Path(__file__).resolve().parent.parent / "config"
    if not path.is_dir():
        message = "the shipped configs are not here; install the project from its repository with pip install -e ."
        raise ConfigError([Fault("", message)], source=str(path))
    return path


def presets() -> list[Preset]:
    """Lists the configs in `config/`, those at its root first."""
    root = config_dir()
    names = sorted((path.relative_to(root).as_posix() for path in root.rglob("*.yaml")), key=_root_first)
    return [_preset(root / name, name) for name in names]


def _root_first(name: str) -> tuple[bool, bool, str]:
    # The demo's needs no data, so whoever opens the list first can run it.
    return "/" in name, name != "demo.yaml", name


def _preset(path: Path, name: str) -> Preset:
    header: list[str] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.startswith("#"):
            break
        header.append(line.lstrip("#").strip())
    paragraphs = [" ".join(part.split("\n")) for part in "\n".join(header).split("\n\n")]
    accuracy = _ACCURACY.search("\n".join(header))
    return Preset(
        name=name,
        path=path,
        title=paragraphs[0] or name,
        summary=paragraphs[1] if len(paragraphs) > 1 else "",
        published_accuracy=None if accuracy is None else float(accuracy[1]),
        table=None if accuracy is None else accuracy[2],
    )


def find_config(path: str | Path) -> Path:
    """Gives the file meant: the path as it stands, else below `config/`; the ending .yaml may be left out.

    Raises: ConfigError that names the nearest shipped config when there is no such file.
    """
    source = str(path)[:200] if str(path).isprintable() else repr(str(path))[:200]
    try:
        found = _existing(Path(path)) or _existing(config_dir() / path)
        is_folder = found is None and Path(path).is_dir()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError([Fault("", f"not the path of a file: {reason}")], source=source) from None
    if found is not None:
        return found
    if is_folder:
        raise ConfigError([Fault("", "a folder; name one YAML file in it")], source=source)
    near = _nearest(str(path))
    hint = f"did you mean {near}?" if near else "the folder config/ holds those that ship with the project"
    raise ConfigError([Fault("", f"no such file, here or below {config_dir()}; {hint}")], source=source)


def _nearest(path: str) -> str | None:
    """Gives the shipped config most like a path, by its whole name or its last part."""
    names = {preset.name.removesuffix(".yaml"): preset.name for preset in presets()}
    by_last_part = {name.rpartition("/")[2]: full for name, full in names.items()}
    wanted = path.removesuffix(".yaml")
    near = closest(wanted, names)
    return names[near] if near else by_last_part.get(closest(wanted.rpartition("/")[2], by_last_part) or "")


def _existing(path: Path) -> Path | None:
    if path.is_file():
        return path
    with_ending = path.with_name(f"{path.name}.yaml") if path.name else path
    return with_ending if with_ending.is_file() else None
