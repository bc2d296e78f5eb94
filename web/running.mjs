// @ts-check
// The trainings that the server tells of. A message belongs to the workflow that was queued, whichever the page shows
// when it comes: the page opens its connection before it has a graph, and may have several in tabs.

import { emptyRun, told } from "./chart_data.mjs";

/** @typedef {import("./chart_data.mjs").Run} Run */

const MOST = 40; // a page that stays open for weeks forgets the oldest
const NO_ID = /^[0-]*$/; // of a graph that came from an API file

export class Running {
  constructor() {
    /** @type {Map<string, {workflow: string, place: string, run: Run}>} the newest last */
    this.known = new Map();
  }

  /**
   * Takes in a message of the server, see `LiveRun` in `nodes/comfy/live.py`.
   *
   * @param {any} message
   * @returns {{workflow: string, place: string, run: Run}}
   */
  tell(message) {
    const workflow = idOf(message?.workflow);
    const place = String(message?.node);
    const key = `${workflow} ${place}`;
    const run = told(this.known.get(key)?.run ?? emptyRun(), message ?? {});
    const entry = { workflow, place, run };
    this.known.delete(key);
    this.known.set(key, entry);
    for (const oldest of this.known.keys()) if (this.known.size > MOST) this.known.delete(oldest);
    return entry;
  }

  /**
   * The run that was told of last, of a node in a workflow.
   *
   * @param {unknown} workflow its id
   * @param {string[]} places of the node
   * @returns {Run | null}
   */
  at(workflow, places) {
    const wanted = idOf(workflow);
    const found = [...this.known.values()].filter(
      (one) => one.workflow === wanted && places.includes(one.place),
    );
    return found.at(-1)?.run ?? null;
  }

  /**
   * Forgets a node's runs: its result says more.
   *
   * @param {unknown} workflow
   * @param {string[]} places
   */
  forget(workflow, places) {
    for (const place of places) this.known.delete(`${idOf(workflow)} ${place}`);
  }

  /** Says of all that still run that nobody knows how they are: the connection was lost. */
  lose() {
    for (const entry of this.known.values())
      if (!entry.run.ended) entry.run = { ...entry.run, phase: "no connection" };
  }
}

/**
 * One name for all graphs without an id of their own.
 *
 * @param {unknown} workflow
 * @returns {string}
 */
export function idOf(workflow) {
  const id = typeof workflow === "string" ? workflow : "";
  return NO_ID.test(id) ? "" : id;
}
