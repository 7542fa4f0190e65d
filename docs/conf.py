"""How Sphinx builds the site. `make docs` calls it; the root of the repository is the source folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

import seqjax

project, author, version = "seqjax", "the authors of seqjax", seqjax.__version__

# The documents lie where they are read on a code host too, so that a link from file to file is right in both places.
root_doc = "docs/index"
include_patterns = ["docs/**", "*.md", "experiments/*.md", "benchmarks/*.md", "examples/*/*.md"]
exclude_patterns = [".*", "build", "dist", "reports", "runs", "seqjax", "tests"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
extensions += ["sphinx.ext.githubpages"]  # writes the file with which GitHub shows folders such as _static
extensions += ["mathml", "autodoc_hooks"]

myst_enable_extensions = ["attrs_block", "colon_fence", "deflist", "dollarmath", "html_image"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # the glossary, a section of CONTRIBUTING.md, begins at its third level
nb_execution_mode = "off"  # the outputs are committed
# Widgets would be loaded from the network: the notebook also has the output of the slider as an image.
nb_ipywidgets_js = {}
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"seqjax {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
templates_path = ["templates"]
html_additional_pages = {"index": "index.html"}  # leads to docs/index.html
html_copy_source = html_show_copyright = html_show_sphinx = False
highlight_language = "text"  # of equations, and of blocks that name no language
html_math_renderer = "mathml"
smartquotes = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
