"""The documentation site: `sphinx-build -W --keep-going -c docs . build/site`.

The pages are plain Markdown that GitHub shows too. What the site adds is here: the order of the
pages (`NAVIGATION`) and the API of `d2i_helpers`, which is made from the code at each build.
Nothing is loaded from elsewhere: no script, no font, no picture.
"""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
API = "build/api"  # made at each build, and ignored by git
# a name is told where it is defined only; `cache_ok` brings SQLAlchemy's own text with it
OF_A_MODULE = "   :members:\n   :ignore-module-all:\n   :exclude-members: cache_ok"

HOME = "docs/index"
# The first page of each part is in the head of the site, the others are beside it.
NAVIGATION: dict[str, list[str]] = {
    "README": [
        "docs/install",
        "docs/workbook",
        "docs/setup",
        "docs/migration",
    ],
    "docs/playbook/index": [
        "docs/playbook/phases",
        "docs/playbook/systems",
        "docs/playbook/analyst",
        "docs/playbook/dba",
        "docs/playbook/it",
        "docs/playbook/governance",
        "docs/playbook/manager",
    ],
    "docs/running": [
        "docs/troubleshooting",
        "docs/schedules",
        "docs/shards",
        "docs/airflow",
        "docs/dask",
        "docs/capacity",
        "docs/service_account",
        "docs/run_record",
        "docs/object_storage",
        "docs/explore",
        "docs/data_quality",
        "docs/simulate",
        "docs/receiver",
    ],
    "docs/understand": [
        "docs/preflight",
        "docs/extract",
        "docs/anonymise",
        "docs/delta",
        "docs/submit",
        "docs/cohort",
        "docs/convergence",
        "docs/privacy",
        "docs/api",
        "docs/databases",
        "docs/speed",
    ],
    "docs/reference": [
        "docs/command_line",
        "docs/parameters",
        "docs/payload",
        "docs/code_lists",
        "docs/specification",
        "docs/python_api",
        "GLOSSARY",
        "CHANGELOG",
    ],
    "DEVELOPMENT": ["CONTRIBUTING", "SECURITY"],
}
NAMES = {  # in the head, where the title of the page is too long
    "README": "Start",
    "docs/playbook/index": "Playbook",
    "docs/running": "Run",
    "DEVELOPMENT": "Develop",
}

project = "D2I workbook"
html_title = project
author = "Data to Insight"
copyright = "the authors of the D2I workbook, MIT licence"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = HOME
include_patterns = ["docs/**.md", "*.md", f"{API}/*.md"]
exclude_patterns = ["build/site/**", "outputs/**", "node_modules/**"]
myst_heading_anchors = 4  # the same anchors as GitHub's
myst_fence_as_directive: list[str] = []
suppress_warnings: list[str] = []
highlight_language = "text"
default_role = "code"  # `…` in docstrings is code
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True

html_theme = "pydata_sphinx_theme"
html_theme_options: dict[str, Any] = {
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "search_bar_text": "Search",
    "search_as_you_type": True,
}
html_static_path = ["site_style"]
html_css_files = ["site.css"]
html_extra_path = ["site_root"]
html_show_sourcelink = False
html_copy_source = False


def pages() -> list[str]:
    """Every page of the site but those of the API, without its suffix."""
    return [HOME, *(page for first, others in NAVIGATION.items() for page in (first, *others))]


def contents(first: list[str], *, depth: int = 1) -> str:
    """A hidden table of contents (MyST), which gives pages their place in the navigation."""
    lines = [f"{NAMES[page]} </{page}>" if page in NAMES else f"/{page}" for page in first]
    return "\n".join(["", "", "```{toctree}", ":hidden:", f":maxdepth: {depth}", "", *lines, "```"])


def add_contents(_app: Any, page: str, source: list[str]) -> None:
    """Append to a page what stands below it in the navigation."""
    if page == HOME:
        source[0] += contents(list(NAVIGATION))
    elif page in NAVIGATION:
        source[0] += contents(NAVIGATION[page])
    elif page == "docs/python_api":
        source[0] += contents([f"{API}/{name}" for name in packages()])


def packages() -> list[str]:
    """The packages and modules right below `d2i_helpers`."""
    found = pkgutil.iter_modules([str(ROOT / "d2i_helpers")])
    return sorted(module.name for module in found if not module.name.startswith("_"))


def modules(name: str) -> list[str]:
    """The full names of a package and of all modules in it."""
    folder = ROOT / "d2i_helpers" / name
    inside = pkgutil.walk_packages([str(folder)], f"d2i_helpers.{name}.")
    found = (module.name for module in inside if not module.name.endswith("__main__"))
    return [f"d2i_helpers.{name}", *found]


def write_api(_app: Any) -> None:
    """Write a page for each package, which names its modules; autodoc reads these."""
    folder = ROOT / API
    folder.mkdir(parents=True, exist_ok=True)
    for name in packages():
        parts = [f"# d2i_helpers.{name}\n"]
        for module in modules(name):
            if module != f"d2i_helpers.{name}":
                parts.append(f"## {module.removeprefix('d2i_helpers.')}\n")
            parts.append(f"```{{eval-rst}}\n.. automodule:: {module}\n{OF_A_MODULE}\n```\n")
        text = "\n".join(parts)
        path = folder / f"{name}.md"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8", newline="\n")


def always_read(*_: Any) -> list[str]:
    """Pages whose contents are from here, and not from their own text."""
    return [HOME, *NAVIGATION, "docs/python_api"]


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", write_api)
    app.connect("source-read", add_contents)
    app.connect("env-get-outdated", always_read)
