// @ts-check
// What the server still knows of earlier runs: a reload of the page forgets what its nodes showed.

import { idOf } from "./running.mjs";

export const HISTORY = "/history?max_items=12";

/**
 * The entries of a history that are of one workflow, the newest first.
 *
 * @param {any} history as the server answers
 * @param {unknown} workflow its id; a graph without one has no entries
 * @returns {any[]}
 */
export function entriesOf(history, workflow) {
  const wanted = idOf(workflow);
  const all = Object.values(history ?? {});
  return all
    .filter((entry) => wanted && idOf(entry?.prompt?.[3]?.extra_pnginfo?.workflow?.id) === wanted)
    .sort((one, other) => other.prompt[0] - one.prompt[0]);
}

/**
 * The newest result of a node.
 *
 * @param {any[]} entries from `entriesOf`
 * @param {string[]} places of the node
 * @param {string} kind its class: another node may have had its place
 * @returns {any} its `ui`, or undefined
 */
export function newestResult(entries, places, kind) {
  for (const entry of entries)
    for (const place of places)
      if (entry.prompt[2]?.[place]?.class_type === kind && entry.outputs?.[place])
        return entry.outputs[place];
  return undefined;
}
