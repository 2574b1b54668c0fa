"""The web page of the package, and the service behind it: ``ssrnet-hub demo`` and the Space."""

from . import _gradio  # noqa: F401  before what follows imports it otherwise
from .limits import Limits
from .page import make_page
from .server import launch

__all__ = ["Limits", "launch", "make_page"]
