"""The pages that a visitor meets before the lab: the login, and a sentence in place of what is refused.

They are plain HTML of our own, run no script and load nothing, so nothing of the lab is sent before somebody has
logged in. Every text that is not ours is escaped.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

STYLE = (Path(__file__).parent / "login.css").read_text(encoding="utf-8")
_LONGEST_NAME = 200


def login_page(
    *,
    action: str,
    following: str,
    name: str = "",
    problem: str = "",
    passwords: bool = True,
    links: Sequence[str] = (),
) -> str:
    """The login: a form for name and password, and links to the organisation's login, or one of the two.

    `action` is where the form is sent, `following` the page to go to afterwards, `problem` what was wrong.
    """
    parts = ["<h1>PianistID Lab</h1>", "<p>Log in to go on.</p>"]
    if problem:
        parts.append(f'<p class="bad" role="alert">{escape(problem)}</p>')
    if passwords:
        parts.append(
            f'<form method="post" action="{escape(action)}">'
            f'<input type="hidden" name="next" value="{escape(following)}">'
            f'<label>Name<input name="name" value="{escape(name[:_LONGEST_NAME])}" autocomplete="username" '
            f'autocapitalize="none" spellcheck="false" required{"" if name else " autofocus"}></label>'
            f'<label>Password<input name="password" type="password" autocomplete="current-password" '
            f"required{' autofocus' if name else ''}></label>"
            "<button>Log in</button></form>"
        )
    for link in links:
        kind = "button other" if passwords else "button"
        parts.append(f'<a class="{kind}" href="{escape(link)}">Log in with your organisation</a>')
    return _page("Log in", "".join(parts))


def sentence_page(title: str, sentence: str) -> str:
    """One sentence in the look of the lab, in place of what is refused."""
    return _page(title, f"<h1>{escape(title)}</h1><p>{escape(sentence)}</p>")


def again_page(path: str) -> str:
    """Asks for the same page once more: a browser that follows a link from elsewhere holds back the lab's cookie."""
    return (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>PianistID Lab</title>'
        f'<meta http-equiv="refresh" content="0; url={escape(path)}"></html>'
    )


def _page(title: str, body: str) -> str:
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)} · PianistID Lab</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head><body><main>{body}</main></body></html>"
    )
