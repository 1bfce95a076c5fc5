"""`view`: a result as a cell of a notebook, static or live."""

from __future__ import annotations

import base64
import html
from typing import Any

from hooke.arguments import checked
from hooke.errors import HookeError
from hooke.results import Result
from hooke.viewer.html import html_page, script
from hooke.viewer.page import page_bytes
from hooke.viewer.titles import title

HEIGHT = 760  # pixels of a cell


class View:
    """A result in a notebook. Shown as it is: a frame with the single-file page, which needs no extra package, runs
    nowhere else and survives saving. `widget()` is live: its state comes back to Python."""

    def __init__(self, result: Result, *, model: Any = None, height: int = HEIGHT) -> None:
        self.result, self.model, self.height = result, model, height
        self._ready: Any = None  # what interventions on this result share

    def _repr_html_(self) -> str:
        document = html.escape(html_page([self.result]), quote=True)
        name = html.escape(title(self.result), quote=True)
        return (
            f'<iframe sandbox="allow-scripts allow-downloads" title="{name}" srcdoc="{document}" '
            f'style="width:100%;height:{self.height}px;border:0"></iframe>'
        )

    def __repr__(self) -> str:
        return f"<hooke.view of {title(self.result)}>"

    def widget(self) -> Any:
        """A live widget (needs anywidget: `pip install 'hooke-microscope[notebook]'`): `.state` is what a person did,
        and can be set; with a model, nodes can be switched off and doubled from the page."""
        try:
            import anywidget
            import traitlets
        except ImportError:
            raise HookeError("a live widget needs anywidget: pip install 'hooke-microscope[notebook]'") from None

        class Widget(anywidget.AnyWidget):
            _esm = script().decode("utf-8")
            data = traitlets.Unicode().tag(sync=True)  # base64: survives every host and saved widget state
            state = traitlets.Dict().tag(sync=True)
            live = traitlets.Bool().tag(sync=True)
            height = traitlets.Int().tag(sync=True)

        data = base64.b64encode(page_bytes([self.result])).decode()
        widget = Widget(data=data, state={}, live=self.model is not None, height=self.height)
        if self.model is not None:
            widget.on_msg(self._answer)
        return widget

    def _answer(self, widget: Any, message: Any, _: Any) -> None:
        """An intervention asked for in the page. A refusal goes back as one line."""
        from hooke.methods.intervene import intervene, prepare  # imports torch, which a model has done already

        number = message.get("request") if isinstance(message, dict) else None
        try:
            self._ready = self._ready or prepare(self.model, self.result)
            asked = {"op": str(message["op"]), "prepared": self._ready}
            reply = {
                "request": number,
                "view": intervene(self.model, self.result, list(message["nodes"]), **asked).payload,
            }
        except HookeError as error:
            reply = {"request": number, "error": str(error)}
        except Exception as error:  # the page waits for an answer, whatever it is
            reply = {"request": number, "error": f"{type(error).__name__}: {error}"}
        widget.send(reply)


@checked
def view(result: Result, *, model: Any = None, height: int = HEIGHT) -> View:
    """Show a result in Jupyter, marimo or any notebook that shows HTML; `.widget()` for the live one.

    model: the model that the result is from, to change nodes from the page (live widget only).
    height: of the cell, in pixels.
    """
    return View(result, model=model, height=height)
