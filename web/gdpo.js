// @ts-check
// Shows the text results of our nodes in a box on the node, which the page does not do by itself,
// and gives our links their colours.
// A language model wrote some of these texts, so they enter the page as plain text, never as HTML.

import * as page from "./comfy_page.mjs";
import { resultText } from "./result_text.mjs";
import { addShown, removeShown } from "./results.mjs";

/** Our nodes with texts: what the box says before the first run, and its least height in pixels. */
const NODES = new Map([
  ["GDPOExportGGUF", { waiting: "After a run: does the file hold what was trained?", height: 110 }],
  ["GDPOChat", { waiting: "After a run: the answer.", height: 80 }],
  ["GDPOCompare", { waiting: "After a run: all rewards side by side, and answers.", height: 150 }],
]);

/** The page draws links of types that it does not know all alike. */
const LINK_COLOURS = {
  GDPO_MODEL: "#b39ddb",
  GDPO_PROMPTS: "#4fc3f7",
  GDPO_REWARD: "#81c784",
  GDPO_REWARDS: "#d4e157",
  GDPO_RUN: "#ffb74d",
  GDPO_GGUF: "#f06292",
};

const STYLE = {
  boxSizing: "border-box",
  width: "100%",
  height: "100%",
  margin: "0",
  padding: "6px 8px",
  border: "1px solid var(--border-color, #4e4e4e)",
  borderRadius: "6px",
  background: "var(--comfy-input-bg, #222)",
  color: "var(--input-text, #ddd)",
  fontFamily: "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace",
  fontSize: "var(--comfy-textarea-font-size, 10px)",
  lineHeight: "1.5",
  resize: "none",
};

/**
 * A read-only box at the end of the node.
 *
 * @param {any} node
 * @param {{waiting: string, height: number}} look
 * @returns {HTMLTextAreaElement}
 */
function addBox(node, look) {
  // A text area, because the page leaves Ctrl+C to it instead of copying the node.
  const box = document.createElement("textarea");
  box.readOnly = true;
  box.placeholder = look.waiting;
  box.setAttribute("aria-label", "result");
  Object.assign(box.style, STYLE, { minHeight: `${look.height}px` });
  page.addElement(node, "result", box, [0, look.height]);
  return box;
}

page.register({
  name: "gdpo.page",

  /** @param {any} node */
  nodeCreated(node) {
    if (node.comfyClass?.startsWith("GDPO")) page.colourLinks(LINK_COLOURS);
  },

  /**
   * @param {any} nodeType
   * @param {{name: string}} nodeData
   */
  beforeRegisterNodeDef(nodeType, nodeData) {
    const look = NODES.get(nodeData.name);
    if (!look) return;
    /** @type {WeakMap<object, HTMLTextAreaElement>} each node's box, gone with the node */
    const boxes = new WeakMap();
    const show = (/** @type {any} */ node, /** @type {any} */ result) => {
      const box = boxes.get(node);
      if (!box || !result) return false;
      box.value = resultText(result);
      return true;
    };
    const { onNodeCreated, onExecuted, onRemoved } = nodeType.prototype;

    nodeType.prototype.onNodeCreated = function (/** @type {unknown[]} */ ...args) {
      const returned = onNodeCreated?.apply(this, args);
      const box = addBox(this, look);
      boxes.set(this, box);
      addShown(this, { isEmpty: () => !box.value, show: (result) => show(this, result) });
      return returned;
    };

    nodeType.prototype.onExecuted = function (/** @type {any} */ result) {
      onExecuted?.call(this, result);
      show(this, result);
    };

    nodeType.prototype.onRemoved = function (/** @type {unknown[]} */ ...args) {
      removeShown(this);
      return onRemoved?.apply(this, args);
    };
  },
});
