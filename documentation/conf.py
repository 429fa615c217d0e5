"""Sphinx reads this file; CONTRIBUTING.md has the command, documentation/explanation/site.md the reasons."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent / "site"), str(Path(__file__).parents[1])]

from gdmunet.version import __version__

project = "gdmunet"
author = "gdmunet contributors"
project_copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "site_pages"]
source_suffix = {".md": "markdown", ".ipynb": "markdown"}
exclude_patterns = ["site"]
root_doc = "index"

# GitHub's anchors, so that one link holds in both places.
myst_heading_anchors = 4
myst_links_external_new_tab = False

# A name in single backticks is a link if it has a place in the reference, else code.
default_role = "py:obj"
add_module_names = False
toc_object_entries = False
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"gdmunet {release}"
html_static_path = ["site/static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_theme_options = {
    "source_repository": "https://github.com/gdmunet/gdmunet/",
    "source_branch": "main",
    "source_directory": "documentation/",
}
copybutton_exclude = ".linenos, .gp, .go"
