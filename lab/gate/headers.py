"""What every response says about itself, so that a browser keeps the lab apart from the rest of the web.

The policy lets run what the server sends and the scripts that stand in the page, Streamlit's and the gate's, known by
their digests.
Script that a name or a file smuggles into a page has neither.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import streamlit

Headers = list[tuple[bytes, bytes]]

# Web MIDI is for the keyboard, autoplay for the players, the whole screen for the stage view.
_ALLOWED_HERE = ("autoplay", "clipboard-write", "fullscreen", "midi")
_ALLOWED_NOWHERE = (
    "accelerometer", "browsing-topics", "camera", "clipboard-read", "display-capture", "encrypted-media",
    "geolocation", "gyroscope", "hid", "idle-detection", "local-fonts", "magnetometer", "microphone", "payment",
    "picture-in-picture", "publickey-credentials-get", "screen-wake-lock", "serial", "storage-access", "usb",
    "window-management", "xr-spatial-tracking",
)  # fmt: skip
_PERMISSIONS = ", ".join(
    [f"{name}=(self)" for name in _ALLOWED_HERE] + [f"{name}=()" for name in _ALLOWED_NOWHERE]
)  # fmt: skip
_REPLACED = {
    b"content-security-policy", b"x-content-type-options", b"x-frame-options", b"referrer-policy",
    b"permissions-policy", b"cross-origin-opener-policy", b"cross-origin-resource-policy",
}  # fmt: skip
# A page of the lab is in no other's cache. What has a digest in its name and is the same for everybody may be.
_KEPT_BY_BROWSERS = b"immutable"


def page_policy(host: str, scripts: Iterable[str]) -> str:
    """The policy of the pages; `host` is as the browser asked for it, `scripts` are digests of inline scripts."""
    return "; ".join(
        [
            "default-src 'self'",
            f"script-src 'self' blob: 'wasm-unsafe-eval' {' '.join(scripts)}".rstrip(),
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "media-src 'self' data: blob:",
            f"connect-src 'self' ws://{host} wss://{host} data: blob:",
            "worker-src 'self' blob:",
            "frame-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ]
    )


def plain_policy(style: str = "") -> str:
    """The policy of a page that runs nothing: the login page, and every refusal. `style` is its inline style."""
    allowed = f"style-src '{digest(style)}'; " if style else ""
    return f"default-src 'none'; {allowed}img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


def secured(headers: Iterable[tuple[bytes, bytes]], policy: str) -> Headers:
    """The headers of a response with what protects it; none that lets another origin read it."""
    kept = [
        (name, value)
        for name, value in headers
        if name.lower() not in _REPLACED and not name.lower().startswith(b"access-control-")
    ]
    cached = next((value for name, value in kept if name.lower() == b"cache-control"), b"")
    if _KEPT_BY_BROWSERS not in cached:
        kept = [(name, value) for name, value in kept if name.lower() != b"cache-control"]
        kept.append((b"cache-control", b"no-store"))
    return [
        *kept,
        (b"content-security-policy", policy.encode("latin-1", "replace")),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        # To another origin nothing is told. To the lab itself the origin is: a form sent with none could not be told
        # from one that another page sent.
        (b"referrer-policy", b"same-origin"),
        (b"permissions-policy", _PERMISSIONS.encode()),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
    ]


def inline_scripts() -> list[str]:
    """The digests of the scripts that stand in Streamlit's own page."""
    page = (Path(streamlit.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", page, re.DOTALL)
    return [f"'{digest(script)}'" for script in scripts]


def digest(text: str) -> str:
    """How a policy names an inline script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
