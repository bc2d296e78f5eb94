// @ts-check
// Gives nodes what was made by their last run: from the page after a change of tabs, from the server after a reload.

import * as page from "./comfy_page.mjs";
import { HISTORY, entriesOf, newestResult } from "./past_results.mjs";
import { locator, placesOf } from "./places.mjs";

/**
 * @typedef {object} Shown a node that can show a result
 * @property {() => boolean} isEmpty whether it shows none so far
 * @property {(result: any, isOld: boolean) => boolean} show tells whether there was something to show; an old result
 *   was not made since the page was opened
 */

/** @type {Map<any, Shown>} */
const nodes = new Map();

/** @param {any} node @param {Shown} shown */
export function addShown(node, shown) {
  nodes.set(node, shown);
}

/** @param {any} node */
export function removeShown(node) {
  nodes.delete(node);
}

/** Fills all that is empty. */
export async function restoreAll() {
  const root = page.rootGraph();
  const empty = [...nodes].filter(
    ([node, shown]) => shown.isEmpty() && !shown.show(page.outputsAt(locator(root, node)), false),
  );
  if (!empty.length || !root?.id) return;
  const entries = entriesOf(await page.ask(HISTORY), root.id);
  if (root !== page.rootGraph()) return; // another workflow was opened meanwhile
  for (const [node, shown] of empty)
    if (shown.isEmpty())
      shown.show(newestResult(entries, placesOf(root, node), node.comfyClass), true);
}
