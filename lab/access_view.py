"""Who may come into the lab and what each may do: shown to everybody for themselves, and changed by who administers."""

from pathlib import Path

import streamlit as st
from streamlit import config

import actions
import acts
import state
import who
from acts import acting
from components.empty import show_empty
from gate import sessions
from gate.attempts import Attempts
from pianistid_core.accounts import LONGEST_NAME, LONGEST_PASSWORD, SHORTEST_PASSWORD, AccountFile, Accounts, Role
from pianistid_core.errors import AccessError
from pianistid_core.exposure import NO_ORGANISATION, organisation_login
from wording import one_line, plain

_ROLES = [role.label for role in Role]
_MEANINGS = {
    Role.LOOK: "see everything, filter, compare, identify own music",
    Role.RUN: "also build, start, stop and delete runs, label them, bring in music",
    Role.ADMINISTER: "also settings, emptying the trash, people, the audit log",
}
_REFUSED = "refused"
_NEW_PASSWORD = f"At least {SHORTEST_PASSWORD} characters: some words in a row are easier to keep than signs."


def people() -> AccountFile:
    """The accounts that this server lets in."""
    served = sessions.served()
    return AccountFile.of(state.data_root().path) if served is None else served.file


def draw() -> None:
    """Draws how the lab is protected, the person of this session, and for who administers everybody."""
    accounts = people().read()
    _protection(accounts)
    _me(accounts)
    st.header("People", anchor=False)
    if not who.may(Role.ADMINISTER):
        show_empty(
            ":material/lock:", "For who administers",
            "Who may come in, and what each may do, is seen and changed by those with the role administer.",
            key="people",
        )  # fmt: skip
        return
    _everybody(accounts)
    one, two = st.columns(2, gap="medium")
    with one:
        _add()
    with two:
        if accounts:
            _change(accounts)


def _protection(accounts: Accounts) -> None:
    served = sessions.served()
    asks = bool(accounts) if served is None else served.asks()
    address = str(config.get_option("server.address") or "every address of this machine")
    here = address in ("127.0.0.1", "localhost", "::1")
    with st.container(border=True, key="access_protection", gap="xsmall"):
        if asks:
            st.badge("Protected", icon=":material/lock:", color="green")
            st.markdown("Whoever opens the lab has to log in.", width="stretch")
        else:
            st.badge("For this machine alone", icon=":material/home:", color="gray")
            st.markdown(
                "Nobody has to log in, and whoever sits at this machine may do everything. The first person that is "
                "added changes that: from then on everybody logs in."
            )
        reached = "programs on this machine" if here else "other machines as well"
        st.caption(plain(f"It listens on {address}, so it is reached by {reached}."))


def _me(accounts: Accounts) -> None:
    me = who.me()
    account = accounts.account(me.name)
    st.header("You", anchor=False)
    what = ", ".join(_MEANINGS[role].removeprefix("also ") for role in Role if role <= me.role)
    st.markdown(f"**{plain(me.name, 80)}** :gray[may {me.role.label}: {what}]")
    if account is None or not who.has_logged_in():
        return
    with st.popover("Change my password", icon=":material/key:", key="own_password"), st.form("own", border=False):
        for key, label in (("own_old", "Password now"), ("own_new", "New password"), ("own_again", "New one again")):
            st.text_input(label, key=key, type="password", max_chars=LONGEST_PASSWORD, help=_NEW_PASSWORD)
        st.form_submit_button(
            "Change it", key="own_save", type="primary", on_click=change_own_password,
            **acts.allowed(Role.LOOK, "Ends everything that is open under the old one, this page too."),
        )  # fmt: skip


def _everybody(accounts: Accounts) -> None:
    rows = [(one.name, one.role, "password") for one in accounts.people.values()]
    rows += [(address, role, "the organisation's login") for address, role in accounts.members.items()]
    if accounts.others is not None:
        rows.append(("all others", accounts.others, "the organisation's login"))
    if not rows:
        show_empty(
            ":material/group:", "Nobody has an account",
            "The lab is for this machine alone. Add people, the first of them with the role administer, before others "
            "may reach it.", key="people",
        )  # fmt: skip
        return
    st.dataframe(
        [{"Name": one_line(name), "May": role.label, "Comes in by": by} for name, role, by in rows],
        hide_index=True, key="people", height="content" if len(rows) <= 10 else 400,
        alt="Everybody who may come in, with role and way in.",
    )  # fmt: skip
    st.caption(plain("  ".join(f"{role.label.capitalize()}: {words}." for role, words in _MEANINGS.items()), 400))


def _add() -> None:
    with st.form("access_add", border=True):
        st.subheader("Add somebody", anchor=False)
        st.text_input(
            "Name", key="add_name", max_chars=LONGEST_NAME,
            help="What they log in with. An e-mail address without a password below: by the organisation's login.",
        )  # fmt: skip
        st.selectbox("May", _ROLES, key="add_role", help="What each role may do stands under the table of people.")
        st.text_input("Password", key="add_password", type="password", max_chars=LONGEST_PASSWORD, help=_NEW_PASSWORD)
        st.form_submit_button(
            "Add", key="add_person", type="primary", icon=":material/person_add:", on_click=add_person,
            **acts.allowed(Role.ADMINISTER, "They can log in at once."),
        )  # fmt: skip


def _change(accounts: Accounts) -> None:
    known = [one.name for one in accounts.people.values()] + list(accounts.members)
    with st.container(border=True, key="access_change"):
        st.subheader("Change somebody", anchor=False)
        chosen = st.selectbox("Person", known, key="change_name", format_func=one_line, help="Whom to change.")
        if chosen is None:
            st.caption("Only others of the organisation may come in.")
        else:
            _change_one(accounts, chosen)
        others = accounts.others.label if accounts.others else _REFUSED
        st.selectbox(
            "All others of the organisation", [_REFUSED, *_ROLES], index=[_REFUSED, *_ROLES].index(others),
            key=f"others:{others}", on_change=set_others, args=(f"others:{others}",),
            **acts.allowed(Role.ADMINISTER, "What those may do whom its login knows and who are not named here."),
        )  # fmt: skip


def _change_one(accounts: Accounts, name: str) -> None:
    account = accounts.account(name)
    now = account.role if account else accounts.member(name) or Role.LOOK
    key = f"role:{name}:{now.label}"
    st.selectbox(
        "May", _ROLES, index=_ROLES.index(now.label), key=key, on_change=set_role, args=(name, key),
        **acts.allowed(Role.ADMINISTER, "Holds from their next click on."),
    )  # fmt: skip
    with st.container(horizontal=True):
        if account is not None:
            with st.popover("New password", icon=":material/key:", key="reset_menu"):
                st.text_input(
                    "New password", key="reset_password", type="password", max_chars=LONGEST_PASSWORD,
                    help=_NEW_PASSWORD,
                )  # fmt: skip
                st.button(
                    "Set it", key="reset_save", type="primary", on_click=set_password, args=(name,),
                    **acts.allowed(Role.ADMINISTER, "Ends everything that is open under the old one."),
                )  # fmt: skip
        with st.popover("Remove", icon=":material/person_remove:", key="remove_menu"):
            st.write(plain(f"{one_line(name)} can no longer come in. Their runs stay."))
            st.button(
                "Remove", key="remove_person", type="primary", on_click=remove_person, args=(name,),
                **acts.allowed(Role.ADMINISTER, "Ends everything that they have open."),
            )  # fmt: skip


# --- what the buttons do ---------------------------------------------------------------------------------------------


@acting(Role.ADMINISTER, "access")
def add_person() -> None:
    """Adds the person that was typed."""
    name, password = str(st.session_state.get("add_name") or "").strip(), _taken("add_password")
    role = Role.named(str(st.session_state.get("add_role") or Role.LOOK.label))
    about = f"{name} may {role.label}"

    def add() -> None:
        accounts = people().read()
        if role is not Role.ADMINISTER and not _administrators(accounts):
            raise AccessError("the first person must be one who may administer, or nobody could add the others")
        if "@" in name and not password:
            _needs_the_organisations_login(name)
            people().add_member(name, role)
        else:
            people().add(name, role, password)

    if actions.attempt(add, f"{name} can come in.", about=about):
        st.session_state["add_name"] = ""


@acting(Role.ADMINISTER, "access")
def set_role(name: str, key: str) -> None:
    """Gives somebody the role that was chosen."""
    role = Role.named(str(st.session_state.get(key)))

    def change() -> None:
        _keep_an_administrator(name, role)
        people().set_role(name, role)

    if not actions.attempt(change, f"{name} may {role.label} now.", about=f"{name} may {role.label}"):
        st.session_state[key] = key.rpartition(":")[2]  # what still holds


@acting(Role.ADMINISTER, "access")
def set_password(name: str) -> None:
    """Gives somebody the password that was typed."""
    password = _taken("reset_password")
    actions.attempt(
        lambda: people().set_password(name, password), f"{name} has another password.", about=f"password of {name}"
    )


@acting(Role.ADMINISTER, "access")
def remove_person(name: str) -> None:
    """Takes somebody's access away."""

    def remove() -> None:
        _keep_an_administrator(name, None)
        people().remove(name)

    actions.attempt(remove, f"{name} can no longer come in.", about=f"{name} removed")


@acting(Role.ADMINISTER, "access")
def set_others(key: str) -> None:
    """Says what others of the organisation may do."""
    chosen = str(st.session_state.get(key))
    role = None if chosen == _REFUSED else Role.named(chosen)

    def change() -> None:
        if role is not None:
            _needs_the_organisations_login("others of the organisation")
        people().set_others(role)

    if not actions.attempt(change, about=f"others of the organisation: {chosen}"):
        st.session_state[key] = key.rpartition(":")[2]  # what still holds


@acting(Role.LOOK, "access")
def change_own_password() -> None:
    """Gives the person of this session another password, for the one that holds now."""
    me = who.me()
    old, new, again = _taken("own_old"), _taken("own_new"), _taken("own_again")

    def change() -> None:
        waits = _tries().begin(me.name, me.name)
        if waits > 0:
            raise AccessError(f"too many tries failed; wait {int(waits) + 1} s and try again")
        if people().read().check(me.name, old) is None:
            raise AccessError("that is not your password now; type it again")
        _tries().succeeded(me.name, me.name)
        if new != again:
            raise AccessError("the two new passwords differ; type them again")
        people().set_password(me.name, new)

    actions.attempt(change, "Your password is changed: log in with it.", about="own password")


@st.cache_resource(show_spinner=False)
def _tries() -> Attempts:
    """Failures to say the password that holds now, of whoever sits at a page that somebody has left open."""
    return Attempts()


def _taken(key: str) -> str:
    """What was typed into a field for a password, which is empty from then on."""
    typed = str(st.session_state.get(key) or "")
    st.session_state[key] = ""
    return typed


def _administrators(accounts: Accounts) -> set[str]:
    """Those who may administer and can come in: without the organisation's login its members cannot."""
    members = accounts.members.items() if _organisation_login() else ()
    return {one.name for one in accounts.people.values() if one.role is Role.ADMINISTER} | {
        address for address, role in members if role is Role.ADMINISTER
    }


def _organisation_login() -> bool:
    return organisation_login([Path(path).parent for path in config.get_config_files("secrets.toml")])


def _needs_the_organisations_login(who: str) -> None:
    if not _organisation_login():
        raise AccessError(f"{one_line(who, 100)} could not come in: {NO_ORGANISATION}")


def _keep_an_administrator(name: str, role: Role | None) -> None:
    """Raises: AccessError when nobody would be left who may administer."""
    if role is not Role.ADMINISTER and _administrators(people().read()) == {name}:
        raise AccessError(f"{name} is the only one who may administer; give somebody else that role first")
