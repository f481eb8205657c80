"""How the documentation site is built: `make docs`, or `sphinx-build -W docs build/docs`.

The tutorial is run while it is built, with an empty store, and the reference is made of docstrings
and of the command line itself. Nothing is fetched from the network.
"""

import os
import shutil
import sys
import tempfile

import kachery

sys.path.insert(0, os.path.dirname(__file__))  # for command_help

project = "kachery"
author = "the authors of kachery"
project_copyright = "the authors of kachery"
version = release = kachery.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "command_help"]
exclude_patterns = ["_static", "formats/vectors"]
default_role = "code"
smartquotes = False
# Fields of our tuples are called `bytes` and the like: names of types in signatures find several.
suppress_warnings = ["ref.python"]

myst_heading_anchors = 3
myst_enable_extensions = ["attrs_inline", "colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
add_module_names = False

# The tutorial runs in a folder of its own. Its `!kachery` and `!python` are those of this environment.
_scratch = tempfile.mkdtemp(prefix="kachery-docs-")
os.environ["KACHERY_DIR"] = os.path.join(_scratch, "store")
os.environ["KACHERY_USER_DIR"] = os.path.join(_scratch, "user")
os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
os.environ.pop("KACHERY_ZONE", None)
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_execution_show_tb = True
nb_merge_streams = True

html_theme = "furo"
html_title = "kachery"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"


def setup(app):
    """What the extensions need to know of this repository."""
    app.connect("source-read", _lead_to_pages)
    app.connect("autodoc-process-signature", _without_constructor)
    app.connect("autodoc-process-docstring", _without_alias)
    app.connect("build-finished", lambda *_: shutil.rmtree(_scratch, ignore_errors=True))


def _lead_to_pages(_app, _page, source):
    """Links that lead to files of the repository, where it is read there, lead to pages here."""
    source[0] = source[0].replace("](../SECURITY.md)", "](security.md)")


def _without_constructor(_app, what, _name, _thing, _options, signature, _returns):
    """Nobody makes a Job or an error himself."""
    return ("", None) if signature and what in {"class", "exception"} else None


def _without_alias(_app, _what, _name, _thing, _options, lines):
    """Of a field of a tuple Python says `Alias for field number 0`; the class tells of it."""
    if lines and lines[0].startswith("Alias for field number"):
        lines.clear()
