"""The lab: weight decay under the reader's hand, from recorded runs, in the page, or in the
kernel."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrdlib.lab.kernel import Lab

__all__ = ["Lab"]


def __getattr__(name: str) -> Any:
    """Lab, when it is asked for: what builds the pages needs no widgets. PlainLab where
    anywidget is missing."""
    if name != "Lab":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from lrdlib.lab.kernel import Lab
    except ModuleNotFoundError as error:
        if error.name != "anywidget":
            raise
        from lrdlib.lab.plain import PlainLab

        return PlainLab
    return Lab
