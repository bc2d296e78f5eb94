// @ts-check
// The live chart on GDPO Train and Plot Convergence: drawn from what the server tells while a training runs, and from
// the node's result afterwards.

import * as page from "./comfy_page.mjs";
import { finished } from "./chart_data.mjs";
import { paintSmall } from "./chart_small.mjs";
import { ChartView } from "./chart_view.mjs";
import { nodeAt, placesOf } from "./places.mjs";
import { addShown, removeShown, restoreAll } from "./results.mjs";
import { Running, idOf } from "./running.mjs";
import { savedRunsMenu } from "./saved_runs.mjs";

/** Our nodes with a chart: what it says before the first run, its least size in pixels, and its field of saved runs. */
const NODES = new Map([
  [
    "GDPOTrain",
    {
      waiting:
        "Press Run: the training is drawn here while it goes on. " +
        "(Plot Convergence draws the runs of earlier days.)",
      size: [440, 600],
    },
  ],
  [
    "GDPOPlotConvergence",
    {
      waiting: "After a run: its curves. Hover them for values. Saved runs are drawn by the next Run.",
      size: [440, 520],
      saved: "saved_runs",
    },
  ],
]);
const NAME = "chart";
const MARGIN = 24; // that the canvas keeps around an element

/** @type {Map<any, ChartView>} the charts of all nodes there are */
const views = new Map();
const running = new Running();

/** @param {any} message */
function onMessage(message) {
  const { workflow, place, run } = running.tell(message);
  const root = page.rootGraph();
  if (!root || workflow !== idOf(root.id)) return;
  views.get(nodeAt(root, place))?.show([run]);
  page.redraw(); // for the small picture
}

/** Shows on all nodes of the open workflow what is known of their runs now. */
function showRunning() {
  for (const node of views.keys()) showRun(node);
}

/** @param {any} node @returns {boolean} whether its run is known */
function showRun(node) {
  const root = page.rootGraph();
  const run = running.at(root?.id, placesOf(root, node));
  if (run) views.get(node)?.show([run]);
  return run !== null;
}

/**
 * @param {any} node
 * @param {any} result a node's `ui`
 * @param {boolean} isOld whether it was made before the page was opened
 * @returns {boolean} whether there was something to show
 */
function showResult(node, result, isOld) {
  const view = views.get(node);
  const shown = Array.isArray(result?.gdpo_runs) ? result.gdpo_runs : [];
  if (!view || !shown.length) return false;
  view.show(shown.map((/** @type {any} */ run) => finished(run, isOld)));
  return true;
}

/**
 * @param {any} node
 * @param {{waiting: string, size: number[], saved?: string}} look
 */
function addChart(node, look) {
  const { saved } = look;
  /** @type {((stop: AbortSignal) => Node) | undefined} */
  const makeMenu = saved ? (stop) => savedRunsMenu(field(node, saved), stop) : undefined;
  const view = new ChartView(look.waiting, makeMenu);
  view.element.style.minHeight = `${look.size[1] - MARGIN}px`; // the DOM rendering asks for nothing else
  view.element.addEventListener("wheel", (event) => zoom(event, view), {
    signal: view.stop.signal,
  });
  node.hideOutputImages = true; // the figure is the same run once more; it is kept as an output and in the queue
  page.addElement(node, NAME, view.element, [look.size[0], look.size[1]]);
  views.set(node, view);
  addShown(node, {
    isEmpty: () => !view.runs.length,
    show: (result, isOld) => showRun(node) || showResult(node, result, isOld),
  });
}

/**
 * The widget of a node that holds names of saved runs, and where the server lists them.
 *
 * @param {any} node
 * @param {string} name
 * @returns {import("./saved_runs.mjs").Field}
 */
function field(node, name) {
  const widget = () => node.widgets.find((/** @type {any} */ one) => one.name === name);
  return {
    list: async () => {
      const answer = await page.ask(`/object_info/${node.comfyClass}`);
      return answer?.[node.comfyClass]?.input?.optional?.[name]?.[1]?.saved;
    },
    get: () => String(widget()?.value ?? ""),
    set: (names) => {
      widget().value = names;
      widget().callback?.(names);
      page.redraw();
    },
  };
}

/**
 * Over the curves the wheel zooms the graph, as beside them; long texts it scrolls.
 *
 * @param {WheelEvent} event
 * @param {ChartView} view
 */
function zoom(event, view) {
  const { words } = view;
  const scrolls =
    words.scrollHeight > words.clientHeight && words.contains(/** @type {Node} */ (event.target));
  if (scrolls || view.isWhole()) event.stopPropagation();
  else page.giveWheelToCanvas(event);
}

/**
 * The curves as the canvas draws them where it shows no elements.
 *
 * @param {any} node
 * @param {CanvasRenderingContext2D} context
 */
function drawSmall(node, context) {
  const view = views.get(node);
  const widget = node.widgets?.find((/** @type {any} */ one) => one.name === NAME);
  if (!view || !widget || node.flags?.collapsed || !page.hidesElements()) return;
  const top = widget.y ?? 0;
  paintSmall(context, view.runs, { x: 12, y: top, w: node.size[0] - 24, h: node.size[1] - top - 8 });
}

page.register({
  name: "gdpo.chart",

  init() {
    page.listen("gdpo.step", onMessage);
    page.listen("gdpo.phase", onMessage);
    page.listen("reconnecting", () => {
      running.lose();
      showRunning();
    });
  },

  afterConfigureGraph() {
    setTimeout(() => restoreAll().catch((error) => console.warn("gdpo: no history", error)));
  },

  /**
   * @param {any} nodeType
   * @param {{name: string}} nodeData
   */
  beforeRegisterNodeDef(nodeType, nodeData) {
    const look = NODES.get(nodeData.name);
    if (!look) return;
    const { onNodeCreated, onExecuted, onRemoved, onDrawForeground } = nodeType.prototype;

    nodeType.prototype.onNodeCreated = function (/** @type {unknown[]} */ ...args) {
      const returned = onNodeCreated?.apply(this, args);
      addChart(this, look);
      return returned;
    };

    nodeType.prototype.onExecuted = function (/** @type {any} */ result) {
      onExecuted?.call(this, result);
      const root = page.rootGraph();
      if (showResult(this, result, false)) running.forget(root?.id, placesOf(root, this));
    };

    nodeType.prototype.onDrawForeground = function (/** @type {any[]} */ ...args) {
      onDrawForeground?.apply(this, args);
      drawSmall(this, args[0]);
    };

    nodeType.prototype.onRemoved = function (/** @type {unknown[]} */ ...args) {
      views.get(this)?.remove();
      views.delete(this);
      removeShown(this);
      return onRemoved?.apply(this, args);
    };
  },
});
