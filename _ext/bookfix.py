"""Sphinx extension: an offline book without script errors.

Removes scripts that are added twice or that point to another host, and
gives chapters the buttons for their committed notebook.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError

CHAPTERS = "book/chapters/"


def use_environment(app: Sphinx, config: Config) -> None:
    """Let $LQ_REPOSITORY_URL override the configured repository."""
    url = os.environ.get("LQ_REPOSITORY_URL", config.lq_repository_url)
    url = url.strip().rstrip("/").removesuffix(".git")
    parts = urlsplit(url)
    if url and (parts.scheme != "https" or parts.path.count("/") != 2):
        raise ConfigError(
            f"lq_repository_url or $LQ_REPOSITORY_URL is {url!r}: write "
            "https://HOST/OWNER/NAME, or leave it empty"
        )
    config.lq_repository_url = url


def is_needed(script: Any, seen: set[str]) -> bool:
    """Whether a script or style sheet belongs on the page."""
    attributes = getattr(script, "attributes", {})
    body = attributes.get("body") or ""
    name = str(getattr(script, "filename", script) or "")
    # The theme's live-code stub is off here, yet names a remote script.
    if "THEBE_JS_URL" in body or "sphinx-thebe" in name:
        return False
    if urlsplit(name).scheme or name.startswith("//"):
        return False
    # A second `let` of the same name is a syntax error on every page.
    if body and body in seen:
        return False
    seen.add(body)
    return True


def clean_page(
    app: Sphinx,
    pagename: str,
    templatename: str,
    context: dict[str, Any],
    doctree: Any,
) -> None:
    """Filter scripts and set the buttons of one page."""
    for key in ("script_files", "css_files"):
        seen: set[str] = set()
        context[key] = [f for f in context[key] if is_needed(f, seen)]
    context["body"] = with_plain_entries(context.get("body", ""))
    buttons = context.get("header_buttons")
    if buttons is None:
        return
    url = app.config.lq_repository_url
    if pagename.startswith(CHAPTERS):
        name = pagename.removeprefix(CHAPTERS)
        replace_downloads(app, name, context["pathto"], buttons)
        if url:
            buttons.insert(0, launch_group(app.config, name))
    if url:
        buttons.append(repository_button(url))


def with_plain_entries(body: str) -> str:
    """The page with the entries of a bibliography as a list's items.

    Docutils gives them a role of their own, which the current standard
    has withdrawn: readers aloud would find a list without items.
    """
    return body.replace('role="doc-biblioentry"', 'role="listitem"')


def replace_downloads(
    app: Sphinx, name: str, pathto: Any, buttons: list[dict[str, Any]]
) -> None:
    """Offer the committed notebook files, not the executed page."""
    group = next(b for b in buttons if b.get("label") == "download-buttons")
    links = []
    for suffix, icon in ((".ipynb", "fas fa-code"), (".py", "fas fa-file")):
        found = app.env.dlfiles.get(f"notebooks/{name}{suffix}")
        if found is None:
            raise ConfigError(
                f"the page of chapter {name} does not link its {suffix} "
                "file: generate the pages again with `make book`"
            )
        links.append(
            {
                "type": "link",
                "url": pathto(f"_downloads/{found[1]}", 1),
                "text": suffix,
                "icon": icon,
                "tooltip": f"Download the chapter as {suffix}",
                "label": f"download-{suffix[1:]}-button",
            }
        )
    group["buttons"] = links + [
        b for b in group["buttons"] if b["label"] == "download-pdf-button"
    ]


def launch_group(config: Config, name: str) -> dict[str, Any]:
    """Button that opens the committed notebook on Binder.

    Binder fetches the whole repository; services that fetch the notebook
    alone would stop at its first import.
    """
    parts = urlsplit(config.lq_repository_url)
    if parts.netloc == "github.com":
        source = f"gh{parts.path}"
    else:
        source = f"git/{quote(config.lq_repository_url, safe='')}"
    branch = quote(config.lq_repository_branch, safe="")
    link = {
        "type": "link",
        "text": "Binder",
        "tooltip": "Launch on Binder",
        "icon": "_static/images/logo_binder.svg",
        "url": f"https://mybinder.org/v2/{source}/{branch}"
        f"?urlpath=lab/tree/notebooks/{name}.ipynb",
    }
    return {
        "type": "group",
        "tooltip": "Launch interactive content",
        "icon": "fas fa-rocket",
        "buttons": [link],
        "label": "launch-buttons",
    }


def repository_button(url: str) -> dict[str, Any]:
    """Link to the repository."""
    return {
        "type": "link",
        "url": url,
        "tooltip": "Source repository",
        "text": "",
        "icon": "fas fa-code-branch",
        "label": "source-repository-button",
    }


def remove_other_files(app: Sphinx, exception: Exception | None) -> None:
    """Remove what themes copy along but no page uses.

    The live-code script names a remote address; the macros are templates
    that look like pages.
    """
    static = Path(app.outdir) / "_static"
    for pattern in ("sphinx-thebe.*", "*webpack-macros.html"):
        for path in static.glob(pattern):
            path.unlink()


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_config_value("lq_repository_url", "", "html", [str])
    app.add_config_value("lq_repository_branch", "main", "html", [str])
    app.connect("config-inited", use_environment)
    # After the theme has added its buttons and scripts.
    app.connect("html-page-context", clean_page, priority=900)
    app.connect("build-finished", remove_other_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
