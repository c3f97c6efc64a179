"""How the documentation is built: ``make docs`` makes ``docs/_build/html``, without a network, warnings as errors."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))

from _pages import read, references  # noqa: E402

from medtransfer.version import __version__  # noqa: E402

project = "medtransfer"
author = "The medtransfer authors"
copyright = f"{author}, Apache-2.0"
release = version = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_pages", "notebooks/*.md", "**/.ipynb_checkpoints"]

# Markdown; what a page may hold is what it shows as a plain file too
myst_heading_anchors = 4
nb_execution_mode = "off"  # the tests run the notebooks; here they are shown as they are stored
# without a language: commands, and what they print
highlight_language = "none"
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True

# the API, out of the docstrings
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# every link must lead somewhere; other projects' names cannot, since their pages are not here
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!medtransfer\b).*")]

html_theme = "furo"
html_title = f"medtransfer {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False


def setup(app):  # type: ignore[no-untyped-def]
    """Connect what this project adds to Sphinx."""
    app.connect("source-read", read.on_source_read)
    app.connect("env-get-outdated", read.on_outdated)
    app.connect("env-updated", read.on_updated)
    app.connect("missing-reference", references.on_missing_reference)
