// @ts-check
// Which settings a node shows. Those that few people change are hidden until they are asked for, which the DOM
// rendering does by itself and a button does on the canvas; a gate's threshold is there where there is a gate.

import * as page from "./comfy_page.mjs";

const MORE = "more settings";
const FEWER = "fewer settings";

/**
 * Shows or hides widgets; the node becomes as much higher or lower, so that what else is on it keeps its size.
 *
 * @param {any} node
 * @param {any[]} widgets
 * @param {boolean} shown
 * @param {boolean} [everywhere] in the DOM rendering too
 */
function show(node, widgets, shown, everywhere = false) {
  const before = node.computeSize()[1];
  for (const widget of widgets) {
    // Not the page's own mark `advanced`, for which the canvas leaves gaps. The DOM rendering looks at the options.
    widget.hidden = !shown;
    if (everywhere) widget.options.hidden = !shown;
  }
  node.setSize([node.size[0], node.size[1] + node.computeSize()[1] - before]);
  page.redraw();
}

/** @param {any} node a new one of ours */
function addButton(node) {
  const advanced = (node.widgets ?? []).filter((/** @type {any} */ one) => one.options?.advanced);
  if (!advanced.length) return;
  const button = page.addCanvasButton(node, MORE, () => {
    button.label = button.label === FEWER ? MORE : FEWER;
    show(node, advanced, button.label === FEWER);
  });
  show(node, advanced, false);
}

/** @param {any} node one of ours whose links may have changed */
function followGate(node) {
  const threshold = node.widgets?.find((/** @type {any} */ one) => one.name === "gate_threshold");
  const slot = node.inputs?.findIndex((/** @type {any} */ one) => one.name === "gate") ?? -1;
  if (!threshold || slot < 0) return;
  const wanted = node.isInputConnected(slot);
  if (Boolean(threshold.hidden) === wanted) show(node, [threshold], wanted, true);
}

page.register({
  name: "gdpo.widgets",

  /**
   * @param {any} nodeType
   * @param {{name: string}} nodeData
   */
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith("GDPO")) return;
    const { onNodeCreated, onConfigure, onConnectionsChange } = nodeType.prototype;
    nodeType.prototype.onNodeCreated = function (/** @type {unknown[]} */ ...args) {
      const returned = onNodeCreated?.apply(this, args);
      addButton(this);
      followGate(this);
      return returned;
    };
    nodeType.prototype.onConfigure = function (/** @type {unknown[]} */ ...args) {
      onConfigure?.apply(this, args);
      setTimeout(() => followGate(this)); // once all links of the file are there
    };
    nodeType.prototype.onConnectionsChange = function (/** @type {unknown[]} */ ...args) {
      onConnectionsChange?.apply(this, args);
      followGate(this);
    };
  },
});
