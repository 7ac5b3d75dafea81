"""`pianistid access`: who may come into the lab, and what each may do."""

import getpass
import sys
from argparse import ArgumentParser, Namespace
from contextlib import AbstractContextManager

from pianistid_core import audit
from pianistid_core.accounts import SHORTEST_PASSWORD, AccountFile, Role
from pianistid_core.commands.console import add_data_root, add_json, open_root, say, say_json, say_table
from pianistid_core.errors import AccessError
from pianistid_core.exposure import NO_ORGANISATION, organisation_login, settings_folders

_ROLES = [role.label for role in Role]
_ROLE_HELP = "look: see everything; run: also train, stop, import; administer: also delete, settings, this"


def add_access(parser: ArgumentParser) -> None:
    """Adds the subcommands of `access`."""
    commands = parser.add_subparsers(metavar="ACTION", required=True)

    listing = commands.add_parser("list", help="list who may come in")
    add_json(listing)
    listing.set_defaults(handle=_list)

    add = commands.add_parser("add", help="make an account; the password is asked for, or read from standard input")
    add.add_argument("name", metavar="NAME", help="the name to log in with; with --organisation an e-mail address")
    add.add_argument("--role", choices=_ROLES, default=Role.LOOK.label, help=f"{_ROLE_HELP} (default: %(default)s)")
    add.add_argument(
        "--organisation", action="store_true", help="somebody whom the organisation's login names, without a password"
    )
    add.set_defaults(handle=_add)

    role = commands.add_parser("role", help="give somebody another role")
    role.add_argument("name", metavar="NAME")
    role.add_argument("role", choices=_ROLES, help=_ROLE_HELP)
    role.set_defaults(handle=_role)

    password = commands.add_parser("password", help="give somebody another password, which ends what is open")
    password.add_argument("name", metavar="NAME")
    password.set_defaults(handle=_password)

    remove = commands.add_parser("remove", help="take somebody's access away, which ends what is open")
    remove.add_argument("name", metavar="NAME")
    remove.set_defaults(handle=_remove)

    others = commands.add_parser("others", help="what those of the organisation may do who are not named")
    others.add_argument("role", choices=["refuse", *_ROLES], help="refuse is what holds when nothing is said")
    others.set_defaults(handle=_others)

    for command in (listing, add, role, password, remove, others):
        add_data_root(command)


def _file(options: Namespace) -> AccountFile:
    return AccountFile.of(open_root(options.data_root).path)


def _list(options: Namespace) -> int:
    file = _file(options)
    accounts = file.read()
    if options.json:
        said = [{"name": one.name, "role": one.role.label} for one in accounts.people.values()]
        members = {address: role.label for address, role in accounts.members.items()}
        others = accounts.others.label if accounts.others else None
        say_json({"accounts": said, "organisation": {"members": members, "others": others}})
        return 0
    rows = [(one.name, one.role.label, "password") for one in accounts.people.values()]
    rows += [(address, role.label, "organisation") for address, role in accounts.members.items()]
    if accounts.others:
        rows.append(("all others", accounts.others.label, "organisation"))
    if rows:
        say_table(("name", "role", "comes in by"), rows)
    else:
        say("nobody has an account: the lab is for this machine alone; `pianistid access add NAME` makes one")
    return 0


def _noting(options: Namespace, what: str) -> AbstractContextManager[None]:
    return audit.noting(open_root(options.data_root), "access", what)


def _add(options: Namespace) -> int:
    file, role = _file(options), Role.named(options.role)
    password = "" if options.organisation else _asked(options.name)
    with _noting(options, f"{options.name} may {role.label}"):
        if options.organisation:
            _needs_the_organisations_login(options.name)
            file.add_member(options.name, role)
        else:
            file.add(options.name, role, password)
    say(f"{options.name} may {role.label}; kept in {file.path}")
    return 0


def _role(options: Namespace) -> int:
    role = Role.named(options.role)
    with _noting(options, f"{options.name} may {role.label}"):
        _file(options).set_role(options.name, role)
    say(f"{options.name} may {role.label} from now on")
    return 0


def _password(options: Namespace) -> int:
    file = _file(options)
    if file.read().account(options.name) is None:
        raise AccessError(f"there is no account {options.name!r}; `pianistid access list` shows those there are")
    password = _asked(options.name)
    with _noting(options, f"another password for {options.name}"):
        file.set_password(options.name, password)
    say(f"{options.name} has another password; what was open has ended")
    return 0


def _remove(options: Namespace) -> int:
    with _noting(options, f"{options.name} removed"):
        _file(options).remove(options.name)
    say(f"{options.name} may not come in any more; what was open has ended")
    return 0


def _others(options: Namespace) -> int:
    role = None if options.role == "refuse" else Role.named(options.role)
    with _noting(options, f"others of the organisation: {options.role}"):
        if role is not None:
            _needs_the_organisations_login("others of the organisation")
        _file(options).set_others(role)
    say(f"others of the organisation may {role.label}" if role else "others of the organisation are refused")
    return 0


def _needs_the_organisations_login(who: str) -> None:
    """Raises: AccessError when nobody could come in by it: the lab would ask, and let none of them in."""
    if not organisation_login(settings_folders()):
        raise AccessError(f"{who} could not come in: {NO_ORGANISATION}")


def _asked(name: str) -> str:
    """A password from the terminal, twice, or the first line of standard input: never an argument, which all can see.

    Raises: AccessError when the two differ, or there is none.
    """
    if not sys.stdin.isatty():
        given = sys.stdin.readline().rstrip("\r\n")
        if not given:
            raise AccessError("no password came on standard input; give it on the first line")
        return given
    first = getpass.getpass(f"Password for {name} (at least {SHORTEST_PASSWORD} characters): ")
    if getpass.getpass("The same again: ") != first:
        raise AccessError("the two passwords differ; nothing was changed")
    return first
