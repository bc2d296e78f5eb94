// @ts-check
// The live chart on GDPO Train and Plot Convergence: drawn from events while a training runs, and from the
// node's result afterwards.

// @ts-ignore: ComfyUI serves these modules; they are no files of this pack.
import { app } from "../../scripts/app.js";
// @ts-ignore
import { api } from "../../scripts/api.js";
import { emptyRun, finished, told } from "./chart_data.mjs";
import { ChartView } from "./chart_view.mjs";
import { savedRunsMenu } from "./saved_runs.mjs";

/** @typedef {import("./chart_data.mjs").Run} Run */

/** Our nodes with a chart: what it says before the first run, its size in pixels, and its field of saved runs. */
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
const MARGIN = 24; // that the canvas keeps around an element
const HISTORY_URL = "/history?max_items=12";
const NO_ID = /^[0-]*$/; // of a graph that came from an API file
const UNFINISHED = { execution_interrupted: "stopped", execution_error: "failed" };

/** @type {Map<any, ChartView>} the charts of all nodes there are */
const views = new Map();
/** @type {Map<string, {graph: string, run: Run}>} what is running or was not finished, by the node's id in the queue */
const live = new Map();

/** @returns {any} the graph that holds all others */
const root = () => app.rootGraph ?? app.graph;

/**
 * The id that a node has in the queue: "3", or "7:3" in a subgraph.
 *
 * @param {any} node
 * @param {any} [graph]
 * @param {string} [prefix]
 * @returns {string | null}
 */
function queueId(node, graph = root(), prefix = "") {
  if (!graph || node.graph === graph) return graph ? `${prefix}${node.id}` : null;
  for (const holder of graph._nodes ?? []) {
    const found = holder.subgraph && queueId(node, holder.subgraph, `${prefix}${holder.id}:`);
    if (found) return found;
  }
  return null;
}

/** @param {string} id @returns {ChartView | undefined} */
function viewOf(id) {
  for (const [node, view] of views) if (queueId(node) === id) return view;
  return undefined;
}

/** @param {{detail: any}} event */
function onMessage({ detail }) {
  const id = String(detail?.node);
  const known = live.get(id);
  const run = told(known?.run ?? emptyRun(), detail);
  const graph = known && !Array.isArray(detail.past) ? known.graph : root()?.id;
  live.set(id, { graph, run });
  if (graph === root()?.id) viewOf(id)?.show([run]);
}

/** @param {string} word how the running trainings ended */
function onEnd(word) {
  for (const [id, { graph, run }] of live) {
    if (run.ended) continue;
    const ended = { ...run, phase: word, ended: true };
    live.set(id, { graph, run: ended });
    if (graph === root()?.id) viewOf(id)?.show([ended]);
  }
}

/**
 * @param {any} node
 * @param {any} result a node's `ui`
 * @returns {boolean} whether there was something to show
 */
function showResult(node, result) {
  const view = views.get(node);
  const shown = Array.isArray(result?.gdpo_runs) ? result.gdpo_runs : [];
  if (!view || !shown.length) return false;
  view.show(shown.map(finished));
  return true;
}

/** Charts that came back empty, with another tab or a reload, get what is known of their runs. */
async function restore() {
  const lost = [...views].filter(([node, view]) => !view.runs.length && !showKnown(node));
  if (!lost.length || NO_ID.test(root()?.id ?? "")) return;
  const answer = await api.fetchApi(HISTORY_URL);
  const entries = answer.ok ? Object.values(await answer.json()) : [];
  const ours = entries.filter(
    (entry) => entry.prompt?.[3]?.extra_pnginfo?.workflow?.id === root()?.id,
  );
  ours.sort((one, other) => other.prompt[0] - one.prompt[0]); // the newest first
  for (const [node, view] of lost) {
    const id = queueId(node) ?? "";
    const made = ours.filter((entry) => entry.prompt[2]?.[id]?.class_type === node.comfyClass);
    if (!view.runs.length) made.some((entry) => showResult(node, entry.outputs?.[id]));
  }
}

/** @param {any} node @returns {boolean} */
function showKnown(node) {
  const running = live.get(queueId(node) ?? "");
  if (running && running.graph === root()?.id) {
    views.get(node)?.show([running.run]);
    return true;
  }
  return showResult(node, app.nodeOutputs?.[node.id]);
}

/**
 * A chart at the end of the node. Neither saved workflows nor the queued graph contain it.
 *
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
  const widget = node.addDOMWidget("chart", "gdpo_chart", view.element, {
    serialize: false,
    getValue: () => "",
    setValue: () => {},
    getMinHeight: () => look.size[1],
  });
  widget.serialize = false;
  views.set(node, view);
  const least = node.computeSize();
  node.setSize([Math.max(node.size[0], look.size[0]), Math.max(node.size[1], least[1])]);
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
      const answer = await api.fetchApi(`/object_info/${node.comfyClass}`);
      return (await answer.json())[node.comfyClass]?.input?.optional?.[name]?.[1]?.saved;
    },
    get: () => String(widget()?.value ?? ""),
    set: (names) => {
      widget().value = names;
      widget().callback?.(names);
      node.graph?.setDirtyCanvas(true, true);
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
  if (scrolls) event.stopPropagation();
  else if (!(/** @type {any} */ (globalThis).LiteGraph?.vueNodesMode))
    app.canvas.processMouseWheel(event);
}

app.registerExtension({
  name: "gdpo.chart",

  init() {
    api.addEventListener("gdpo.step", onMessage);
    api.addEventListener("gdpo.phase", onMessage);
    for (const [event, word] of Object.entries(UNFINISHED))
      api.addEventListener(event, () => onEnd(word));
  },

  afterConfigureGraph() {
    setTimeout(() => restore().catch((error) => console.warn("gdpo: no history", error)));
  },

  /**
   * @param {any} nodeType
   * @param {{name: string}} nodeData
   */
  beforeRegisterNodeDef(nodeType, nodeData) {
    const look = NODES.get(nodeData.name);
    if (!look) return;
    const { onNodeCreated, onExecuted, onRemoved } = nodeType.prototype;

    nodeType.prototype.onNodeCreated = function (/** @type {unknown[]} */ ...args) {
      const returned = onNodeCreated?.apply(this, args);
      addChart(this, look);
      return returned;
    };

    nodeType.prototype.onExecuted = function (/** @type {any} */ result) {
      onExecuted?.call(this, result);
      if (showResult(this, result)) live.delete(queueId(this) ?? "");
    };

    nodeType.prototype.onRemoved = function (/** @type {unknown[]} */ ...args) {
      views.get(this)?.remove();
      views.delete(this);
      return onRemoved?.apply(this, args);
    };
  },
});
