"""Opens ComfyUI's page, trains the quick start in it and makes the README's pictures.

    GDPO_COMFYUI=http://127.0.0.1:8188 python tests/page/pictures.py --light

Needs `pip install playwright` and a running ComfyUI with this pack, whose address GDPO_COMFYUI holds. The
browser is GDPO_CHROMIUM, or playwright's own (`playwright install chromium`). Changes the look settings of the
server's user, and trains the run `quick-start` afresh. Writes graph, live, conflict_map and graph_after (.png).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
QUICK_START = ROOT / "example_workflows" / "GDPO 1 quick start.json"
SERVER = os.environ.get("GDPO_COMFYUI", "").rstrip("/")
LOOK = {"TutorialCompleted": True, "Locale": "en", "Workflow.Persist": True}
LOOK |= {
    "NodeBadge.NodeSourceBadgeMode": "None",
    "Graph.CanvasInfo": False,
    "Minimap.Visible": False,
}
READY = "() => window.app?.graph && window.LiteGraph?.registered_node_types?.GDPOTrain"
LISTEN = """() => { window.ended = null;
  for (const kind of ["execution_success", "execution_error", "execution_interrupted"])
    app.api.addEventListener(kind, () => { window.ended = kind }) }"""
CHART = 'svg[aria-label="training chart"]'
TRAIN = 'const train = app.graph._nodes.find((node) => node.type === "GDPOTrain");'
PROGRESS = f"""least => [...document.querySelectorAll('{CHART}')].some((chart) =>
  Number(/step (\\d+) of/.exec(chart.parentElement.innerText)?.[1] ?? 0) >= least)"""
QUEUE = '[data-testid="queue-button"] button:visible, button[data-testid="queue-button"]:visible'
INTERRUPT = re.compile("Cancel current run|Interrupt|Stop run")  # the page's word for it changes
HIDE = "".join(f".comfyui-body-{side}, " for side in ("top", "left", "right", "bottom"))
HIDE += """.p-toast, .side-tool-bar-container, .actionbar-container, .graph-canvas-menu, .p-buttongroup,
.workflow-tabs-container, .subgraph-breadcrumb { visibility: hidden !important }"""
LEFT, TOP, MARGIN = (
    120,
    100,
    24,
)  # pixels: where the graph begins in the window; around it in the picture
ASIDE = ([-540, 0], [450, 1190])  # where the training node is as wide as a new one


@contextmanager
def open_page(*, dom: bool = False, light: bool = False):
    """The page in a new browser, with `page.troubles`: the errors it reports."""
    from playwright.sync_api import sync_playwright

    look = LOOK | {"VueNodes.Enabled": dom, "ColorPalette": "light" if light else "dark"}
    # No other host is asked for anything.
    hosts = f"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {urlsplit(SERVER).hostname}"
    chromium = {"executable_path": os.environ.get("GDPO_CHROMIUM"), "args": ["--no-sandbox", hosts]}
    with sync_playwright() as playwright, playwright.chromium.launch(**chromium) as browser:
        page = browser.new_page(device_scale_factor=2, locale="en")
        for name, value in look.items():
            address = f"{SERVER}/api/settings/Comfy.{name}"
            page.request.post(address, data=json.dumps(value), fail_on_status_code=True)
        page.set_default_timeout(120_000)  # a training beside it slows a small machine down
        page.troubles = []
        page.on("pageerror", lambda error: page.troubles.append(str(error)))
        page.goto(SERVER, wait_until="commit")
        settle(page)
        yield page


def settle(page) -> None:
    """Wait until the page has our nodes, after opening and after a reload."""
    page.wait_for_function(READY, timeout=180_000)
    page.wait_for_timeout(2500)  # it restores its last workflow and opens its dialogs
    page.evaluate(LISTEN)
    page.keyboard.press("Escape")


def load(page, path: Path) -> dict:
    """Open a workflow file as a user does; what it holds."""
    saved = json.loads(path.read_text("utf-8"))
    page.evaluate("() => app.graph.clear()")
    page.set_input_files("#comfy-file-input", path)
    page.wait_for_function("count => app.graph._nodes.length === count", arg=len(saved["nodes"]))
    page.wait_for_timeout(1000)
    return saved


def set_train(page, **values) -> None:
    """Set widgets of the training node by name."""
    change = "for (const widget of train.widgets) if (widget.name in all) widget.value = all[widget.name]"
    page.evaluate(f"all => {{ {TRAIN} {change} }}", values)


def wait_end(page, seconds: float) -> str:
    """How the run ended, in the page's word for it."""
    ended = page.wait_for_function("() => window.ended", timeout=seconds * 1000, polling=100)
    return ended.json_value()


def stop(page) -> None:
    """Stop what is running, and wait for its end."""
    page.evaluate("() => { window.ended = null; app.api.interrupt(null) }")
    wait_end(page, 60)


def show_graph(page, place: list[float], size: list[float], path: Path | None = None) -> None:
    """Give the training node a place and a size, show the whole graph, and picture it without the bars."""
    width, height = page.evaluate(
        f"""([place, size, left, top]) => {{ {TRAIN} train.pos = place; train.setSize(size);
        const nodes = app.graph._nodes, view = app.canvas.ds;
        const low = [0, 1].map((i) => Math.min(...nodes.map((node) => node.pos[i])) - 30 * i);
        view.scale = 1; view.offset[0] = left - low[0]; view.offset[1] = top - low[1];
        app.canvas.setDirty(true, true);
        return low.map((start, i) => Math.max(...nodes.map((n) => n.pos[i] + n.size[i])) - start) }}""",
        [place, size, LEFT, TOP],
    )
    page.set_viewport_size({"width": int(width) + 400, "height": int(height) + 260})
    page.wait_for_timeout(2000)
    if path:
        area = (LEFT - MARGIN, TOP - MARGIN, width + 2 * MARGIN, height + 2 * MARGIN)
        clip = dict(zip(("x", "y", "width", "height"), area, strict=True))
        page.screenshot(path=path, clip=clip, style=HIDE, scale="css")


def picture_map(page, path: Path) -> None:
    """The training chart's weights and conflict map, with the words of its reddest cell."""
    chart = page.locator(CHART).first
    cells = chart.locator(
        'text[text-anchor="middle"]', has_text=re.compile("^[−+]?[01][.][0-9]{2}$")
    )
    values = [float(text.replace("−", "-")) for text in cells.all_text_contents()]
    cells.nth(values.index(min(values))).hover(force=True)
    page.wait_for_timeout(500)
    top, low = (chart.get_by_text(t).bounding_box()["y"] for t in ("step 0", "Truncated"))
    clip = chart.bounding_box() | {"y": top + 11, "height": low - top - 13}
    page.screenshot(path=path, clip=clip, style=HIDE)


def make(page, folder: Path, steps: int) -> None:
    """All four pictures."""
    saved = next(node for node in load(page, QUICK_START)["nodes"] if node["type"] == "GDPOTrain")
    show_graph(page, saved["pos"], saved["size"], folder / "graph.png")
    set_train(page, steps=steps, eval_every=max(1, steps // 5), existing_run="fresh")
    show_graph(page, *ASIDE)
    page.locator(QUEUE).first.click()
    page.wait_for_function(PROGRESS, arg=0.7 * steps, timeout=600_000)
    page.locator(CHART).first.locator("..").screenshot(path=folder / "live.png", style=HIDE)
    if (end := wait_end(page, 900)) != "execution_success":
        raise RuntimeError(f"the quick start ended with {end!r}, see the server's log")
    page.wait_for_timeout(8000)  # until the page's messages are gone
    picture_map(page, folder / "conflict_map.png")
    show_graph(page, saved["pos"], saved["size"], folder / "graph_after.png")


if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(message)s")
    parser = argparse.ArgumentParser(description="Makes the README's pictures in ComfyUI's page.")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--dom", action="store_true", help="the newer rendering of nodes")
    parser.add_argument("--light", action="store_true")
    options = parser.parse_args()
    with open_page(dom=options.dom, light=options.light) as opened:
        make(opened, options.out, options.steps)
        logging.getLogger(__name__).info("page errors: %s", opened.troubles or "none")
