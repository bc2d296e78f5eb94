// @ts-check
// Shows the text results of our nodes in a box on the node, which the page does not do by itself,
// and gives our links their colours.
// A language model wrote some of these texts, so they enter the page as plain text, never as HTML.

// @ts-ignore: ComfyUI serves this module; it is no file of this pack.
import { app } from "../../scripts/app.js";

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

/** Tells the page our links' colours; a new palette takes them away until the next node is made. */
function colourLinks() {
  Object.assign(app.canvas.default_connection_color_byType ?? {}, LINK_COLOURS);
  Object.assign(app.canvas.constructor.link_type_colors ?? {}, LINK_COLOURS);
  for (const [type, colour] of Object.entries(LINK_COLOURS)) {
    document.body.style.setProperty(`--color-datatype-${type}`, colour); // for the DOM rendering
  }
}

/**
 * The result of one run as one text.
 *
 * @param {{text?: unknown, answers?: unknown}} result What the node put into its `ui`.
 * @returns {string}
 */
export function resultText(result) {
  const texts = Array.isArray(result?.text) ? result.text : [];
  const answers = Array.isArray(result?.answers) ? result.answers : [];
  const blocks = answers.map((answer) =>
    Object.entries(answer ?? {})
      .map(([column, text]) => `${column}: ${text ?? "-"}`)
      .join("\n"),
  );
  return [...texts.map(String), ...blocks].join("\n\n");
}

/**
 * A read-only box at the end of the node. Neither saved workflows nor the queued graph contain it.
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
  const widget = node.addDOMWidget("result", "gdpo_text", box, {
    serialize: false,
    getValue: () => "",
    setValue: () => {},
    getMinHeight: () => look.height,
  });
  widget.serialize = false;
  const least = node.computeSize();
  node.setSize([Math.max(node.size[0], least[0]), Math.max(node.size[1], least[1])]);
  return box;
}

app.registerExtension({
  name: "gdpo.page",

  /** @param {any} node */
  nodeCreated(node) {
    if (node.comfyClass?.startsWith("GDPO")) colourLinks();
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
      if (box && result) box.textContent = resultText(result);
    };
    const { onNodeCreated, onConfigure, onExecuted } = nodeType.prototype;

    nodeType.prototype.onNodeCreated = function (/** @type {unknown[]} */ ...args) {
      const returned = onNodeCreated?.apply(this, args);
      boxes.set(this, addBox(this, look));
      return returned;
    };

    nodeType.prototype.onExecuted = function (/** @type {any} */ result) {
      onExecuted?.call(this, result);
      show(this, result);
    };

    nodeType.prototype.onConfigure = function (/** @type {unknown[]} */ ...args) {
      onConfigure?.apply(this, args);
      // Coming back to a tab makes its nodes anew; only then does the page restore its results.
      setTimeout(() => show(this, app.nodeOutputs?.[this.id]));
    };
  },
});
