"""The page in Gradio, and the server that serves it to this machine alone.

Gradio is imported when a page is made, so that nothing else needs it.
"""

import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from importlib import import_module
from typing import Any

from nextconcept.app.session import MOST_WRITTEN, PlanSession, View
from nextconcept.core.errors import InputError

__all__ = ["HOST", "bind", "make_page", "serve"]

HOST = "127.0.0.1"

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""What browsers load: nothing from other machines, whatever the page says."""

STYLE = """.nc-message{background:#fff3bf;color:#111;border-left:5px solid #d9480f;padding:8px 12px;margin:0}
.nc tr[data-step]{cursor:pointer}
.nc tr[data-step]:hover td{text-decoration:underline}
.gradio-container{max-width:1100px !important}
footer{display:none !important}"""

ON_LOAD = """element.addEventListener('click', (event) => {
    const row = event.target.closest('tr[data-step]');
    if (row) trigger('click', {step: row.dataset.level + ':' + row.dataset.step});
});"""
"""Tells the server which step of the plan was clicked."""

Message = MutableMapping[str, Any]


def _gradio() -> Any:
    """Import Gradio with its telemetry switched off.

    Raises:
        InputError: if it is not installed.
    """
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    try:
        return import_module("gradio")
    except ModuleNotFoundError as error:
        raise InputError(f"the app needs Gradio ({error.name} is missing): pip install 'nextconcept[app]'.") from None


def make_page(session: PlanSession, title: str, example: str = "") -> Any:
    """Return the page, a ``gradio.Blocks``.

    Args:
        session: answers the page.
        title: of the page, as Markdown.
        example: text that stands in the prompt at first.

    Raises:
        InputError: if Gradio is not installed.
    """
    gr = _gradio()
    with gr.Blocks(title="nextconcept", analytics_enabled=False) as page:
        gr.Markdown(title)
        edits = gr.State([])
        with gr.Row(equal_height=True):
            prompt = gr.Textbox(example, label="Prompt", lines=2, max_lines=8, scale=6, elem_id="prompt")
            count = gr.Number(0, label="Tokens (0: all planned)", minimum=0, maximum=MOST_WRITTEN, precision=0, scale=1,
                              min_width=200)  # fmt: skip
        write = gr.Button("Write", variant="primary", elem_id="write")
        problem = gr.HTML(elem_id="problem")
        pictures = gr.HTML(elem_id="pictures", apply_default_css=False)
        view = gr.HTML(elem_id="view", js_on_load=ON_LOAD, apply_default_css=False)
        with gr.Group(), gr.Row(equal_height=True):
            step = gr.Dropdown([], label="Step of the plan (or click it)", scale=3, elem_id="step")
            text = gr.Textbox(label="Plan this instead", scale=3, max_lines=1, elem_id="instead")
            replace = gr.Button("Replace", scale=1, min_width=80)
            undo = gr.Button("Undo all", scale=1, min_width=80)
        with gr.Group(), gr.Row(equal_height=True):
            other = gr.Textbox(label="Another text, whose plan is put in place of this one's", scale=6,
                                   max_lines=4, elem_id="other")  # fmt: skip
            compare = gr.Button("Compare", scale=1, min_width=80)
        sources = gr.HTML(elem_id="sources", apply_default_css=False)
        with gr.Accordion("Every plan over the text", open=False):
            every = gr.HTML(elem_id="every", apply_default_css=False)

        def shown(result: View) -> list[Any]:
            """Return the values of ``outputs`` that show a plan, or its message alone."""
            if result.message:  # what was shown before stays
                return [result.message, *[gr.skip()] * 6]
            choices = gr.Dropdown(result.choices, value=result.choices[0][1])
            return ["", result.edits, result.html, result.pictures, result.every, choices, ""]

        def compared(prompt: str, count: float, other: str) -> list[Any]:
            """Return the message and the texts written under the plans of two prompts."""
            result = session.compare(prompt, count, other)
            return [result.message, gr.skip() if result.message else result.html]

        def written(prompt: str, count: float) -> list[Any]:
            """Plan after a prompt and continue it by ``count`` tokens."""
            return shown(session.show(prompt, count))

        def replaced(prompt: str, count: float, edits: list[str], step: str, text: str) -> list[Any]:
            """Plan ``text`` at a step, beside the edits before, and continue the prompt."""
            return shown(session.edit(prompt, count, edits, step, text))

        def chosen(event: Any) -> str:
            """Return the step on which the user has clicked, ``LEVEL:STEP``."""
            return str(event.step)

        chosen.__annotations__["event"] = gr.EventData  # by which Gradio knows what to pass
        outputs = [problem, edits, view, pictures, every, step, sources]
        # One run of the model at a time.
        options = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
        for listen in (write.click, undo.click, *([page.load] if example else [])):
            listen(written, [prompt, count], outputs, **options)
        for listen in (replace.click, text.submit):
            listen(replaced, [prompt, count, edits, step, text], outputs, **options)
        compare.click(compared, [prompt, count, other], [problem, sources], **options)
        view.click(chosen, None, step, api_visibility="private")
    return page


def bind(port: int) -> socket.socket:
    """Return a socket of this machine alone that listens at a port; 0 takes a free one.

    Raises:
        InputError: if the port is taken, out of range or not allowed.
    """
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((HOST, port))
        bound.listen()  # a browser that is faster than the server waits
    except (OSError, OverflowError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or "it must be 0 to 65535"
        raise InputError(f"the page can't be served at port {port} ({reason}): give another with --port.") from None
    return bound


class _Headers:
    """Adds headers to each response, as ASGI middleware."""

    def __init__(self, app: Callable[..., Awaitable[None]], headers: dict[str, str]) -> None:
        self.app = app
        self.headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Message, receive: Any, send: Callable[[Message], Awaitable[None]]) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self.headers]
            await send(message)

        await self.app(scope, receive, sent)


def serve(page: Any, bound: socket.socket) -> None:
    """Serve a page until the process is interrupted.

    Requests that name another host are refused, so that no other site can read the page through the
    browser.

    Args:
        page: what :func:`make_page` returns.
        bound: where to listen.
    """
    gr, fastapi, uvicorn = _gradio(), import_module("fastapi"), import_module("uvicorn")
    hosts = import_module("starlette.middleware.trustedhost").TrustedHostMiddleware
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    app = gr.mount_gradio_app(
        app, page, "/", server_name=HOST, server_port=bound.getsockname()[1], footer_links=[], run_history=False,
        show_error=False, max_file_size=1, ssr_mode=False, enable_monitoring=False, pwa=False, mcp_server=False,
        theme=theme, css=STYLE,
    )  # fmt: skip
    app.add_middleware(_Headers, headers={"content-security-policy": POLICY, "referrer-policy": "no-referrer"})
    app.add_middleware(hosts, allowed_hosts=[HOST, "localhost"])
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl+C, by which the server has ended
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[bound])
