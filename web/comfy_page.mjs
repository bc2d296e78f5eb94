// @ts-check
// Everything of ComfyUI's page that this pack uses, and nothing else in `web` knows. Each has the version of the
// frontend in which it was first seen to work here; all of them were tried in 1.49.6 and 1.58.1, in both renderings.
//
//   app.registerExtension, its hooks init, nodeCreated, beforeRegisterNodeDef, afterConfigureGraph   1.35
//   onNodeCreated, onConfigure, onExecuted, onRemoved, onConnectionsChange, onDrawForeground of nodes   1.35
//   addDOMWidget(name, type, element, {serialize, getValue, setValue, getMinHeight})                   1.35
//   addWidget("button", ...) with canvasOnly; hidden of widgets, options.advanced of widgets            1.49
//   computeSize, setSize, addInput, removeInput, isInputConnected, widgets, inputs, graph of nodes     1.35
//   app.rootGraph, before it app.graph; _nodes, id and subgraph.                                        1.35
//   app.nodeOutputs, by locator: "3", or "<id of the subgraph>:3"                                       1.35
//   app.canvas: processMouseWheel, low_quality, default_connection_color_byType, setDirty              1.35
//   LGraphCanvas.link_type_colors, LGraphCanvas.SHAPE_HOLLOW, LiteGraph.vueNodesMode                    1.35
//   api.addEventListener, also for our own events and "reconnecting"; api.fetchApi                      1.35
//   GET /history, GET /object_info/NODE                                                                 ComfyUI 0.8

// @ts-ignore: ComfyUI serves these modules; they are no files of this pack.
import { app } from "../../scripts/app.js";
// @ts-ignore
import { api } from "../../scripts/api.js";

/** @param {any} extension its name and hooks */
export function register(extension) {
  app.registerExtension(extension);
}

/** @returns {any} the graph that holds all others; undefined while the page opens */
export function rootGraph() {
  return app.rootGraph ?? app.graph;
}

/**
 * What the page keeps of the last run of a node.
 *
 * @param {string} locator
 * @returns {any} the node's `ui`, or undefined
 */
export function outputsAt(locator) {
  return app.nodeOutputs?.[locator];
}

/**
 * @param {string} event one of the page's own or of ours
 * @param {(detail: any) => void} told
 */
export function listen(event, told) {
  api.addEventListener(event, (/** @type {{detail: any}} */ { detail }) => told(detail));
}

/**
 * @param {string} path
 * @returns {Promise<any>} what the server answers; null where it refuses
 */
export async function ask(path) {
  const answer = await api.fetchApi(path);
  return answer.ok ? await answer.json() : null;
}

/**
 * An element at the end of a node. Neither saved workflows nor the queued graph contain it.
 *
 * @param {any} node
 * @param {string} name
 * @param {HTMLElement} element
 * @param {[number, number]} least width of the node and height of the element, in pixels
 */
export function addElement(node, name, element, [width, height]) {
  const options = { serialize: false, getValue: () => "", setValue: () => {} };
  const widget = node.addDOMWidget(name, `gdpo_${name}`, element, {
    ...options,
    getMinHeight: () => height,
  });
  widget.serialize = false;
  const whole = node.computeSize();
  node.setSize([Math.max(node.size[0], width || whole[0]), Math.max(node.size[1], whole[1])]);
}

/**
 * A button at the end of a node, on the canvas alone, that is not saved.
 *
 * @param {any} node
 * @param {string} label
 * @param {() => void} pressed
 * @returns {any} its widget
 */
export function addCanvasButton(node, label, pressed) {
  const widget = node.addWidget("button", label, null, pressed, { canvasOnly: true });
  widget.serialize = false;
  return widget;
}

/** @param {WheelEvent} event that the canvas gets instead of the element; the DOM rendering does it by itself */
export function giveWheelToCanvas(event) {
  if (!(/** @type {any} */ (globalThis).LiteGraph?.vueNodesMode))
    app.canvas.processMouseWheel(event);
}

/** @returns {boolean} whether the canvas is so small that it shows no elements */
export function hidesElements() {
  return Boolean(app.canvas?.low_quality);
}

/** Has all nodes drawn again. */
export function redraw() {
  app.canvas?.setDirty(true, true);
}

/** @returns {number} the shape of a socket that may stay empty */
export function hollow() {
  return app.canvas.constructor.SHAPE_HOLLOW ?? 7;
}

/** @param {Record<string, string>} colours of the links, by type; a new palette takes them away */
export function colourLinks(colours) {
  Object.assign(app.canvas.default_connection_color_byType ?? {}, colours);
  Object.assign(app.canvas.constructor.link_type_colors ?? {}, colours);
  for (const [type, colour] of Object.entries(colours)) {
    document.body.style.setProperty(`--color-datatype-${type}`, colour); // for the DOM rendering
  }
}
