"""`pianistid config`: check and show configs, list those that ship, describe every key."""

from argparse import ArgumentParser, Namespace
from typing import Any

from pianistid_core.commands.console import add_data_root, add_json, say, say_json, say_table
from pianistid_core.config import RunConfig, config_fields, default_config, load_config, presets, to_dict, to_yaml
from pianistid_core.credentials import fit_to_show
from pianistid_core.schema import FieldInfo


def add_config(parser: ArgumentParser) -> None:
    """Adds the subcommands of `config`."""
    commands = parser.add_subparsers(metavar="ACTION", required=True)

    check = commands.add_parser("check", help="say whether a config is sound, or all that is wrong with it")
    check.add_argument("file", metavar="FILE", help="a YAML file, or a name below config/")
    check.set_defaults(handle=_check)

    show = commands.add_parser("show", help="print a config with every default filled in")
    show.add_argument("file", metavar="FILE", nargs="?", help="a YAML file, or a name below config/ (default: none)")
    show.set_defaults(handle=_show)
    for command in (check, show):
        add_set(command)

    listing = commands.add_parser("presets", help="list the configs that ship with the project")
    listing.set_defaults(handle=_presets)
    fields = commands.add_parser("fields", help="describe every key of a config")
    fields.add_argument("--markdown", action="store_true", help="print the page docs/config-keys.md")
    fields.set_defaults(handle=_fields)
    for command in (check, show, listing, fields):
        add_data_root(command)
        add_json(command)


def add_set(parser: ArgumentParser) -> None:
    """Adds --set."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one key, such as optim_cfg.lr=0.001; it wins over the YAML; may be given often",
    )


def _check(options: Namespace) -> int:
    config = load_config(options.file, overrides=options.set)
    if options.json:
        say_json({"file": options.file, "sound": True, "experiment": config.experiment, "run": config.run})
    else:
        say(f"{options.file} is sound: run {config.experiment}/{config.run}, {_in_short(config)}")
    return 0


def _in_short(config: RunConfig) -> str:
    return (
        f"{config.encoder_module} on split {config.data_split_dir}, {config.epochs} epochs of batches of "
        f"{config.batch_size}, {config.optim_type}"
    )


def _show(options: Namespace) -> int:
    if options.file is not None:
        config = fit_to_show(load_config(options.file, overrides=options.set))
    else:
        config = default_config() if not options.set else _default_with(options.set)
    if options.json:
        say_json(to_dict(config))
    else:
        for line in to_yaml(config).splitlines():
            say(line)
    return 0


def _default_with(overrides: list[str]) -> RunConfig:
    from pianistid_core.config import parse_config

    return parse_config({}, overrides=overrides, source="--set")


def _presets(options: Namespace) -> int:
    found = presets()
    if options.json:
        say_json(
            [
                {
                    "name": preset.name,
                    "title": preset.title,
                    "summary": preset.summary,
                    "published_accuracy": preset.published_accuracy,
                    "table": preset.table,
                }
                for preset in found
            ]
        )
    else:
        rows = [(preset.name, preset.title, preset.published_accuracy) for preset in found]
        say_table(("config", "what it is", "published validation accuracy"), rows)
    return 0


def _fields(options: Namespace) -> int:
    fields = all_fields()
    if options.json:
        say_json([_field(choice, info) for choice, info in fields])
    elif options.markdown:
        for line in keys_page():
            say(line)
    else:
        say_table(
            ("key", "default", "what it does"),
            [(f"{info.key} ({choice})" if choice else info.key, _default(info), info.label) for choice, info in fields],
        )
    return 0


def all_fields() -> list[tuple[str, FieldInfo]]:
    """Every key of every choice: (the choice it belongs to, or "", and the field), sections left out."""
    found: dict[tuple[str, str], FieldInfo] = {("", info.key): info for info in config_fields({})}
    plain = {info.key: info for info in config_fields({})}
    for key in ("encoder_module", "optim_type", "sched_type", "loss_type"):
        section = key.replace("_type", "_cfg").replace("encoder_module", "model_cfg")
        for choice in plain[key].choices or ():
            for info in config_fields({key: choice}):
                own = info.key.startswith(section + ".")
                found.setdefault((choice if own else "", info.key), info)
    return [
        (choice, info)
        for (choice, key), info in found.items()
        if info.kind != "group" and (choice or not _has_variants(key))
    ]


def keys_page() -> list[str]:
    """The lines of docs/config-keys.md: a table of keys for every section of every choice."""
    lines = ["# Every key of a config", "", "Written by `pianistid config fields --markdown > docs/config-keys.md`."]
    heading = None
    for choice, info in sorted(all_fields(), key=lambda field: "." in field[1].key):
        section = info.key.partition(".")[0] if "." in info.key else ""
        title = f"`{section}`" + (f" for `{choice}`" if choice else "") if section else "Top level"
        if title != heading:
            lines += ["", f"## {title}", "", "| key | default | allowed | what it does |", "|---|---|---|---|"]
            heading = title
        lines.append(f"| `{info.key}` | {_code(_default(info))} | {_allowed(info)} | {info.help} |")
    return lines


def _code(text: str) -> str:
    return f"`{text}`"


def _allowed(info: FieldInfo) -> str:
    """The values of a key in a few words."""
    if info.choices is not None:
        words = ", ".join(_code(str(choice)) for choice in info.choices)
    else:
        words = {"bool": "true or false", "int": "whole number", "float": "number", "str": "text"}.get(
            info.kind, info.kind
        )
    if info.low is not None:
        words += f", {'above' if info.low_open else 'at least'} {info.low:g}"
    if info.high is not None:
        words += f", {'below' if info.high_open else 'at most'} {info.high:g}"
    return words + (f" ({info.unit})" if info.unit else "") + (", or `null`" if info.optional else "")


def _has_variants(key: str) -> bool:
    return key.partition(".")[0] in ("model_cfg", "optim_cfg", "sched_cfg", "loss_cfg")


def _field(choice: str, info: FieldInfo) -> dict[str, Any]:
    return {
        "key": info.key,
        "of": choice or None,
        "kind": info.kind,
        "default": info.default,
        "optional": info.optional,
        "choices": list(info.choices) if info.choices is not None else None,
        "low": info.low,
        "high": info.high,
        "unit": info.unit,
        "label": info.label,
        "help": info.help,
    }


def _default(info: FieldInfo) -> str:
    if info.default is None:
        return "null"
    return str(info.default).lower() if isinstance(info.default, bool) else str(info.default)
