"""The pack in ComfyUI's real page: templates, the live chart, a reload, saved runs, and the page's own interrupt.

The variable GDPO_COMFYUI holds the address of a running ComfyUI with this pack; tests/page/pictures.py names
what else is needed.
"""

from __future__ import annotations

import importlib.util
import time

import pytest
from page import pictures

NO_PAGE = "GDPO_COMFYUI holds no address of a running ComfyUI"
NO_BROWSER = "playwright is not installed"
pytestmark = [
    pytest.mark.comfyui,
    pytest.mark.skipif(not pictures.SERVER, reason=NO_PAGE),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason=NO_BROWSER),
]
TEMPLATES = sorted((pictures.ROOT / "example_workflows").glob("*.json"))
SMALL = {
    "run_name": "page-test",
    "prompts_per_step": 2,
    "group_size": 2,
    "max_new_tokens": 16,
    "existing_run": "fresh",
}
# Only the training and what it needs; few held-out prompts, so that its evaluations are short.
ONLY_TRAIN = """() => { for (const node of [...app.graph._nodes]) {
  if (["GDPOExportGGUF", "GDPOChat", "GDPOCompare"].includes(node.type)) app.graph.remove(node);
  const limit = node.widgets?.find((widget) => widget.name === "limit"); if (limit) limit.value = 8 } }"""
MISSING = (
    "() => app.graph._nodes.map((n) => n.type).filter((t) => !LiteGraph.registered_node_types[t])"
)
QUEUED = "async () => (await app.graphToPrompt()).output"
ALONE = """() => { app.graph.clear();
  app.graph.add(LiteGraph.createNode("GDPOPlotConvergence")) }"""
SAVED = """() => app.graph._nodes.find((node) => node.type === "GDPOPlotConvergence").widgets
  .find((widget) => widget.name === "saved_runs").value"""
MENU = 'select[aria-label="saved runs"]'
CLASS = """async () => (await import(performance.getEntriesByType("resource")
  .find(({ name }) => name.endsWith("/chart_view.mjs")).name)).ChartView.prototype"""
STOPWATCH = """() => {
  document.addEventListener("click", () => { window.clicked = performance.now() }, true);
  app.api.addEventListener("execution_interrupted", () => { window.stopped = performance.now() }) }"""
IN_USE = """function () {
  return this.filter((one) => !one.stop.signal.aborted || one.runs.length).length }"""
# Without the notes beside a title: they need room, and the DOM rendering gives a node another width as it opens.
CHARTS = f"""() => [...document.querySelectorAll('{pictures.CHART}')].map((chart) =>
  [chart.parentElement.innerText.replace(/^(line: |marker: ).*$/gm, ""),
   chart.querySelectorAll("path").length])"""


@pytest.fixture(params=[False, True], ids=["canvas", "dom"])
def page(request):
    with pictures.open_page(dom=request.param) as opened:
        yield opened


def start_training(page, steps: int) -> None:
    pictures.load(page, pictures.QUICK_START)
    page.evaluate(ONLY_TRAIN)
    # A seed of its own, or the server answers from its cache.
    pictures.set_train(page, steps=steps, rng_seed=time.time_ns() // 1_000_000, **SMALL)
    pictures.show_graph(page, *pictures.ASIDE)
    page.locator(pictures.QUEUE).first.click()


def wait_for_step(page, step: int) -> None:
    page.wait_for_function(pictures.PROGRESS, arg=step, timeout=120_000)


def run_again(page) -> None:
    """Run the graph that is open, to its end."""
    page.evaluate("() => { window.ended = null }")
    page.locator(pictures.QUEUE).first.click()
    assert pictures.wait_end(page, 120) == "execution_success"
    page.wait_for_timeout(1000)


def count_charts(page) -> int:
    """How many charts in the page's memory still listen or hold a run; what is no longer used is collected first."""
    browser = page.context.new_cdp_session(page)
    prototype = browser.send(
        "Runtime.evaluate", {"expression": f"({CLASS})()", "awaitPromise": True}
    )["result"]["objectId"]
    found = browser.send("Runtime.queryObjects", {"prototypeObjectId": prototype})["objects"]
    counted = browser.send(
        "Runtime.callFunctionOn",
        {"functionDeclaration": IN_USE, "objectId": found["objectId"], "returnByValue": True},
    )
    browser.detach()
    return counted["result"]["value"]


def test_every_template_opens_whole_and_without_page_errors(page):
    for path in TEMPLATES:
        saved = pictures.load(page, path)
        ours = {
            str(node["id"]): node["type"]
            for node in saved["nodes"]
            if node["type"] != "MarkdownNote"
        }
        queued = page.evaluate(QUEUED)
        assert page.evaluate(MISSING) == [], path.name
        assert {key: node["class_type"] for key, node in queued.items()} == ours, path.name
    assert page.troubles == []


def test_a_removed_node_takes_its_chart_out_of_the_pages_memory(page):
    pictures.load(page, pictures.QUICK_START)
    assert count_charts(page) == 2
    for _ in range(3):
        pictures.load(page, pictures.QUICK_START)
    assert count_charts(page) == 2
    page.evaluate("() => app.graph.clear()")
    page.wait_for_timeout(1000)
    assert count_charts(page) == 0


def test_the_chart_follows_a_training_and_is_whole_again_after_a_reload_and_from_the_cache(page):
    start_training(page, steps=2)
    wait_for_step(page, 1)
    assert pictures.wait_end(page, 120) == "execution_success"
    page.wait_for_timeout(1000)
    drawn = page.evaluate(CHARTS)
    assert len(drawn) == 2, "GDPO Train and Plot Convergence"
    assert all("page-test" in text and "finished, 2 steps" in text for text, _ in drawn)
    page.wait_for_timeout(2000)  # the page saves its workflow for the reload
    page.reload()
    pictures.settle(page)
    pictures.show_graph(page, *pictures.ASIDE)
    assert page.evaluate(CHARTS) == drawn
    run_again(page)
    assert page.evaluate(CHARTS) == drawn
    assert page.troubles == []


def test_saved_runs_are_chosen_from_a_menu_laid_over_a_linked_one_and_drawn_alone(page):
    names = []
    for steps in (1, 2):
        start_training(page, steps=steps)
        assert pictures.wait_end(page, 120) == "execution_success"
        page.evaluate("() => { window.ended = null }")
        page.locator(MENU).hover()
        page.wait_for_timeout(500)
        names.append(page.locator(f"{MENU} option").nth(1).get_attribute("value"))
    page.locator(MENU).select_option(names[0])
    assert page.evaluate(SAVED) == names[0]
    run_again(page)
    assert any("2 runs laid over each other" in text for text, _ in page.evaluate(CHARTS))

    page.evaluate(ALONE)
    page.wait_for_timeout(1000)
    page.locator(MENU).hover()
    for name in [*names, names[1]]:  # chosen twice, a run is taken away again
        page.locator(MENU).select_option(name)
    assert page.evaluate(SAVED) == names[0]
    run_again(page)
    ((text, _),) = page.evaluate(CHARTS)
    assert f"{names[0]}\nfinished, 1 step" in text
    assert page.troubles == []


def test_the_pages_interrupt_button_ends_a_training_within_five_seconds(page):
    start_training(page, steps=1000)
    wait_for_step(page, 1)
    button = page.get_by_role("button", name=pictures.INTERRUPT).first
    # In the page, since a busy machine may take long to bring the click there.
    page.evaluate(STOPWATCH)
    button.click()
    assert pictures.wait_end(page, 60) == "execution_interrupted"
    seconds = page.evaluate("() => window.stopped - window.clicked") / 1000
    assert 0 < seconds < 5
    page.wait_for_timeout(500)
    assert any("stopped" in text for text, _ in page.evaluate(CHARTS))
