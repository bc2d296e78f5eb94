// @ts-check
// Where a node is. A graph may hold subgraphs, and one subgraph may be used twice: its nodes then have two places, and
// work twice in a queue, but the page has each of them once.

/**
 * The places of a node, as a queue names them: "3", or "7:3" in a subgraph that node 7 holds.
 *
 * @param {any} root the graph that holds all others
 * @param {any} node
 * @returns {string[]}
 */
export function placesOf(root, node) {
  return root ? [...below(root, node.graph, "")].map((prefix) => `${prefix}${node.id}`) : [];
}

/** @param {any} graph @param {any} wanted @param {string} prefix @returns {Iterable<string>} */
function* below(graph, wanted, prefix) {
  if (graph === wanted) yield prefix;
  for (const holder of graph._nodes ?? [])
    if (holder.subgraph) yield* below(holder.subgraph, wanted, `${prefix}${holder.id}:`);
}

/**
 * The node at a place.
 *
 * @param {any} root
 * @param {string} place
 * @returns {any} undefined where there is none
 */
export function nodeAt(root, place) {
  /** @type {any} */
  let graph = root;
  const ids = place.split(":");
  const last = ids.pop();
  for (const id of ids) graph = find(graph, id)?.subgraph;
  return find(graph, last);
}

/** @param {any} graph @param {string | undefined} id @returns {any} */
function find(graph, id) {
  return (graph?._nodes ?? []).find((/** @type {any} */ node) => String(node.id) === id);
}

/**
 * By what the page keeps a node's outputs: "3", or "<id of the subgraph>:3".
 *
 * @param {any} root
 * @param {any} node
 * @returns {string}
 */
export function locator(root, node) {
  return !node.graph || node.graph === root ? String(node.id) : `${node.graph.id}:${node.id}`;
}
