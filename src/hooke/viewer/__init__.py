"""What turns a `Result` into a web page, a notebook cell or one HTML file. Never imports torch."""

from hooke.viewer.gallery import gallery, gallery_page
from hooke.viewer.html import app_page, html_page, index_html, script
from hooke.viewer.notebook import view
from hooke.viewer.page import page_bytes
from hooke.viewer.read import graph_result, read_file
from hooke.viewer.report import write_report
from hooke.viewer.titles import title

__all__ = [
    "app_page",
    "gallery",
    "gallery_page",
    "graph_result",
    "html_page",
    "index_html",
    "page_bytes",
    "read_file",
    "script",
    "title",
    "view",
    "write_report",
]
