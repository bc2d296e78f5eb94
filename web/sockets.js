// @ts-check
// Combine Rewards shows the sockets in use and one more. Only those with the highest numbers come and go, so
// no reward ever changes its number, and the node takes all of them whatever the page shows.

import * as page from "./comfy_page.mjs";
import { socketsWanted } from "./socket_count.mjs";

const NODE = "GDPOCombineRewards";
const TYPE = "GDPO_REWARD";
const NAME = /^reward_(\d+)$/;

/** @param {any} input @returns {number} its number; 0 for other inputs */
const numberOf = (input) => Number(NAME.exec(input?.name ?? "")?.[1] ?? 0);

/**
 * @param {any} node
 * @param {Map<string, any>} declared all optional sockets with their tooltips
 */
function adjust(node, declared) {
  if (!node.graph || !node.inputs) return;
  /** @type {number[]} */
  const numbers = node.inputs.map(numberOf);
  const linked = numbers.filter((number, slot) => number && node.isInputConnected(slot));
  const count = socketsWanted(linked, declared.size + 1);
  const spare = node.size[1] - node.computeSize()[1];
  const before = node.inputs.length;
  for (let slot = before - 1; slot >= 0; slot--)
    if (numberOf(node.inputs[slot]) > count) node.removeInput(slot);
  const shown = Math.max(0, ...node.inputs.map(numberOf));
  for (let number = shown + 1; number <= count; number++) {
    const name = `reward_${number}`;
    node.addInput(name, TYPE, {
      shape: page.hollow(),
      tooltip: declared.get(name)?.[1]?.tooltip,
    });
  }
  if (node.inputs.length === before) return;
  node.setSize([node.size[0], node.computeSize()[1] + Math.max(0, spare)]);
  page.redraw();
}

page.register({
  name: "gdpo.sockets",

  /**
   * @param {any} nodeType
   * @param {{name: string, input?: {optional?: Record<string, any>}}} nodeData
   */
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== NODE) return;
    const optional = Object.entries(nodeData.input?.optional ?? {});
    const declared = new Map(optional.filter(([name]) => NAME.test(name)));
    /** @type {WeakSet<object>} */
    const waiting = new WeakSet();
    // Later, because a file being loaded links sockets by number and needs all of them until it is done.
    const later = (/** @type {any} */ node) => {
      if (waiting.has(node)) return;
      waiting.add(node);
      setTimeout(() => {
        waiting.delete(node);
        adjust(node, declared);
      });
    };
    for (const hook of ["onNodeCreated", "onConfigure", "onConnectionsChange"]) {
      const original = nodeType.prototype[hook];
      nodeType.prototype[hook] = function (/** @type {unknown[]} */ ...args) {
        const returned = original?.apply(this, args);
        later(this);
        return returned;
      };
    }
  },
});
