"""The pack in ComfyUI's real page: templates, the live chart, a reload, saved runs, and the page's own interrupt.

The variable GDPO_COMFYUI holds the address of a running ComfyUI with this pack; tests/page/pictures.py names
what else is needed.
"""

from __future__ import annotations

import importlib.util
import re
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


OTHER_ID = "11111111-2222-4333-8444-555555555555"
BY_TYPE = "(type) => app.graph._nodes.find((node) => node.type === type)"
RECORDS = """[...new Set((train.widgets.find((one) => one.name === "chart").element.view?.runs[0].records ?? [])
  .map((one) => one.step))]"""
REWARD_TYPES = [
    *("GDPODefineRewardPoliteness", "GDPODefineRewardConciseness", "GDPODefineRewardAnswerMatch"),
]
TRAINING_TYPES = ["GDPOCombineRewards", "GDPOTrain", "GDPOPlotConvergence"]
INTO_SUBGRAPH = """(types) => {
  const chosen = new Set(app.graph._nodes.filter((node) => types.includes(node.type)));
  app.graph.convertToSubgraph(chosen) }"""
SHOWN_RUNS = """() => {
  const all = (graph) => (graph._nodes ?? []).flatMap((n) => [n, ...(n.subgraph ? all(n.subgraph) : [])]);
  return all(app.rootGraph).flatMap((n) => n.widgets ?? []).filter((w) => w.name === "chart")
    .flatMap((w) => w.element.view.runs).map(({ name, steps }) => ({ name, steps })) }"""
SPY = """const fill = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (text, ...more) {
    window.written.push(String(text)); return fill.call(this, text, ...more) };"""


@pytest.fixture(params=[False, True], ids=["canvas", "dom"])
def page(request):
    with pictures.open_page(dom=request.param) as opened:
        yield opened


def start_training(page, steps: int, **changes) -> None:
    pictures.load(page, pictures.QUICK_START)
    page.evaluate(ONLY_TRAIN)
    # A seed of its own, or the server answers from its cache.
    pictures.set_train(
        page, steps=steps, rng_seed=time.time_ns() // 1_000_000, **{**SMALL, **changes}
    )
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


def test_a_reload_in_mid_run_brings_the_chart_back_and_shows_no_other_run(page):
    start_training(page, steps=1)
    assert pictures.wait_end(page, 120) == "execution_success"
    start_training(page, steps=60)
    wait_for_step(page, 2)
    page.wait_for_timeout(2000)  # the page saves its workflow for the reload
    page.reload()
    pictures.settle(page)
    wait_for_step(page, 3)
    assert page.evaluate("() => window.ended") is None, "the training is still going on"
    (text, _), *_ = page.evaluate(CHARTS)
    assert "of 60" in text
    records = page.evaluate(f"() => {{ {pictures.TRAIN} return {RECORDS} }}")
    assert records[:3] == [0, 1, 2], "what was before the reload"
    pictures.stop(page)


def test_another_page_follows_the_run_and_another_workflow_does_not_show_it(page):
    start_training(page, steps=60)
    wait_for_step(page, 1)
    saved = page.evaluate("() => app.graph.serialize()")
    other = page.context.browser.new_page()
    other.goto(pictures.SERVER, wait_until="commit")
    pictures.settle(other)
    other.evaluate("graph => app.loadGraphData(graph)", saved)
    pictures.show_graph(other, *pictures.ASIDE)
    wait_for_step(other, 2)
    other.evaluate("graph => app.loadGraphData(graph)", {**saved, "id": OTHER_ID})
    other.wait_for_timeout(2000)
    assert all("of 60" not in text for text, _ in other.evaluate(CHARTS))
    pictures.stop(page)


def test_cancel_before_the_first_step_is_quick(page):
    start_training(page, steps=50, max_new_tokens=64)
    page.wait_for_function(f"""() => [...document.querySelectorAll('{pictures.CHART}')].some((one) =>
      /reading|checking|asking|estimating/.test(one.parentElement.innerText))""")
    page.evaluate(STOPWATCH)
    page.evaluate("() => { document.body.click(); app.api.interrupt(null) }")
    assert pictures.wait_end(page, 60) == "execution_interrupted"
    assert page.evaluate("() => window.stopped - window.clicked") / 1000 < 3
    page.wait_for_timeout(500)
    assert any("stopped at step 0" in text for text, _ in page.evaluate(CHARTS))


@pytest.mark.parametrize("inside", [REWARD_TYPES, TRAINING_TYPES], ids=["rewards", "training"])
def test_a_training_with_a_subgraph_is_drawn(page, inside):
    pictures.load(page, pictures.QUICK_START)
    page.evaluate(ONLY_TRAIN)
    pictures.set_train(page, steps=2, rng_seed=time.time_ns() // 1_000_000, **SMALL)
    page.evaluate(INTO_SUBGRAPH, inside)
    queued = page.evaluate(QUEUED)
    assert any(":" in place for place in queued)
    page.locator(pictures.QUEUE).first.click()
    assert pictures.wait_end(page, 120) == "execution_success"
    page.wait_for_timeout(1000)
    shown = page.evaluate(SHOWN_RUNS)
    assert [(run["name"].startswith("page-test"), run["steps"]) for run in shown] == [(True, 2)] * 2
    assert page.troubles == []


def test_results_come_back_after_a_reload(page):
    pictures.load(page, pictures.QUICK_START)
    page.evaluate(ONLY_TRAIN.replace('"GDPOCompare"', '"none"'))
    page.evaluate(
        "() => { for (const w of byType('GDPOCompare').widgets) if (w.name === 'count') w.value = 2 }".replace(
            "byType", BY_TYPE
        )
    )
    pictures.set_train(page, steps=1, rng_seed=time.time_ns() // 1_000_000, **SMALL)
    page.locator(pictures.QUEUE).first.click()
    assert pictures.wait_end(page, 180) == "execution_success"
    page.wait_for_timeout(2000)
    told = page.evaluate(f"() => ({BY_TYPE})('GDPOCompare').widgets.at(-1).element.value")
    assert "politeness" in told
    page.reload()
    pictures.settle(page)
    page.wait_for_timeout(1000)
    again = page.evaluate(f"() => ({BY_TYPE})('GDPOCompare').widgets.at(-1).element.value")
    assert again == told


def test_a_small_picture_stands_where_the_page_shows_no_elements(page):
    if page.evaluate("() => LiteGraph.vueNodesMode"):
        pytest.skip("the newer rendering shows elements at every size")
    start_training(page, steps=1)
    assert pictures.wait_end(page, 120) == "execution_success"
    page.evaluate(
        f"() => {{ window.written = []; {SPY} app.canvas.ds.scale = 0.3;"
        " app.canvas.setDirty(true, true) }"
    )
    page.wait_for_timeout(1000)
    assert any("page-test" in words for words in page.evaluate("() => window.written"))


@pytest.mark.parametrize("light", [False, True], ids=["dark", "light"])
def test_the_charts_words_can_be_read_on_their_ground(light):
    with pictures.open_page(light=light) as opened:
        pictures.load(opened, pictures.QUICK_START)
        colours = opened.evaluate(f"""() => {{ const style =
          getComputedStyle(document.querySelector('{pictures.CHART}').parentElement);
          return [style.color, style.backgroundColor] }}""")
    ink, ground = (sum(map(float, re.findall(r"[0-9.]+", c)[:3])) / 3 for c in colours)
    assert abs(ink - ground) > 120
    assert (ink < ground) == light


def test_settings_are_hidden_and_come_with_their_button(page):
    pictures.load(page, pictures.QUICK_START)
    count = f"""() => ({BY_TYPE})('GDPOTrain').widgets.filter((one) => !one.hidden).length"""
    few = page.evaluate(count)
    if not page.evaluate("() => LiteGraph.vueNodesMode"):
        button = f"({BY_TYPE})('GDPOTrain').widgets.find((one) => one.type === 'button')"
        page.evaluate(f"() => {button}.callback()")
        assert page.evaluate(count) == few + 13
        page.evaluate(f"() => {button}.callback()")
        assert page.evaluate(count) == few
    queued = page.evaluate(QUEUED)
    (train,) = (node for node in queued.values() if node["class_type"] == "GDPOTrain")
    assert train["inputs"]["learning_rate"] == pytest.approx(1e-4)


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
