"""The organisation's login, through Streamlit's OpenID Connect: who has come back from it, and the way there.

Streamlit signs what the provider said into a cookie. It would hold for a month; here it holds as long as any login.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from streamlit import config
from streamlit.auth_util import (
    encode_provider_token,
    get_cookie_with_chunks,
    get_origin_from_redirect_uri,
    get_secrets_auth_section,
    validate_auth_credentials,
)
from streamlit.errors import StreamlitAuthError
from streamlit.web.server.server_util import get_cookie_secret
from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from gate.sessions import LASTS_S
from pianistid_core.errors import AccessError
from pianistid_core.exposure import organisation_login

LOGIN = "/auth/login"
LOGOUT = "/auth/logout"
# Where the login at the provider begins, comes back to and is forgotten: nobody is logged in there.
PATHS = (LOGIN, "/oauth2callback", LOGOUT)
_SHORTEST_SECRET = 32


def is_set_up() -> bool:
    """Whether `.streamlit/secrets.toml` has an `[auth]` section that can be used.

    Raises: AccessError when it has one that cannot.
    """
    folders = [Path(path).parent for path in config.get_config_files("secrets.toml")]
    if not organisation_login(folders):
        return False
    for provider in providers():
        try:
            validate_auth_credentials(provider)
        except StreamlitAuthError as error:
            reason = " ".join(str(error).split())
            raise AccessError(f"the organisation's login cannot be used: {reason}") from error
    if len(get_cookie_secret()) < _SHORTEST_SECRET:
        raise AccessError(
            f"[auth] cookie_secret in secrets.toml signs who somebody is: give it {_SHORTEST_SECRET} random characters"
        )
    return True


def providers() -> list[str]:
    """The providers that `[auth]` names; one that has no name of its own is `default`."""
    section = get_secrets_auth_section()
    named = [name for name, value in section.to_dict().items() if isinstance(value, Mapping)] if section else []
    return [name for name in named if name != "client_kwargs"] or ["default"]


def login_links(base: str) -> list[str]:
    """The addresses at which the login at each provider begins."""
    return [f"{base}{LOGIN}?provider={encode_provider_token(provider)}" for provider in providers()]


def identity(cookies: Mapping[str, str]) -> tuple[str, str] | None:
    """What the signed cookie of somebody who has logged in at the provider holds, and the e-mail address in it."""

    def signed(name: str) -> bytes | None:
        value = cookies.get(name)
        if not value:
            return None
        return decode_signed_value(get_cookie_secret(), name, value.encode("latin-1", "replace"), LASTS_S / 86400)

    decoded = get_cookie_with_chunks(signed, USER_COOKIE_NAME)
    if decoded is None:
        return None
    try:
        said = json.loads(decoded)
    except ValueError:
        return None
    if not isinstance(said, dict) or said.get("origin") != get_origin_from_redirect_uri():
        return None
    section = get_secrets_auth_section()
    address = address_in(said, unverified=bool(section) and section.get("accept_unverified_email") is True)
    return (cookies[USER_COOKIE_NAME] + decoded.decode(), address) if address else None


def address_in(said: Mapping[str, object], *, unverified: bool = False) -> str | None:
    """The e-mail address for which a provider vouches, or None.

    At many providers people write into their profile what address they like. `unverified` also takes one of which the
    provider does not say whether it is theirs, as `accept_unverified_email` in `[auth]` asks for; never one that it
    says is not.
    """
    address, verified = said.get("email"), said.get("email_verified")
    if said.get("is_logged_in") is not True or not isinstance(address, str) or not address:
        return None
    return address if verified is True or (unverified and verified is None) else None
