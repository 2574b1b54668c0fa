"""The documentation site. Pages are read where they lie in the repository: their links work on GitHub as well."""

import re

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.writers.html5 import HTML5Translator

from ssrnet_hub.utils.version import __version__

project = "ssrnet_hub"
copyright = "The ssrnet_hub authors"
release = version = __version__
root_doc = "docs/index"
include_patterns = ["*.md", "cards/*.md", "docs/**/*.md", "docs/*.md"]
exclude_patterns = [".*", "build", "dist", "demo", "tests", "docs/site"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.githubpages"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
napoleon_use_ivar = True
autodoc_typehints_format = "short"
default_role = "py:obj"  # a link where the name is public, plain code elsewhere

html_theme = "furo"
html_title = project
html_extra_path = ["site"]
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_math_renderer = "mathml"


def to_mathml(tex: str, as_block: bool = False) -> str:
    # docutils sets the subscript of an accented letter under it, not beside it
    return tex2mathml(re.sub(r"(\\(?:bar|tilde) \w)_", r"\1{}_", tex), as_block=as_block)


def visit_math(writer: HTML5Translator, node: nodes.math) -> None:
    """Write MathML, which browsers render without a script from elsewhere."""
    writer.body.append(to_mathml(node.astext()))
    raise nodes.SkipNode


def visit_math_block(writer: HTML5Translator, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math">{to_mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    next(field for field in PyObject.doc_field_types if field.name == "variable").label = "Attributes"
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
