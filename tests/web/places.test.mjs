import assert from "node:assert/strict";
import { test } from "node:test";

import { locator, nodeAt, placesOf } from "../../web/places.mjs";

/** A root with node 3, and a subgraph with a node 3 that nodes 7 and 8 hold, and one in it that holds another. */
function graphs() {
  const inner = { id: "i", _nodes: [] };
  const middle = { id: "m", _nodes: [] };
  const root = { id: "r", _nodes: [] };
  const node = (graph, id, subgraph) => {
    const made = { id, graph, subgraph };
    graph._nodes.push(made);
    return made;
  };
  const found = { root, top: node(root, 3), shared: node(middle, 3), deep: node(inner, 5) };
  node(root, 7, middle);
  node(root, 8, middle);
  node(middle, 9, inner);
  return found;
}

test("a node of the root has its own number", () => {
  const { root, top } = graphs();
  assert.deepEqual(placesOf(root, top), ["3"]);
  assert.equal(locator(root, top), "3");
});

test("a node of a subgraph that is used twice has two places and one locator", () => {
  const { root, shared, deep } = graphs();
  assert.deepEqual(placesOf(root, shared), ["7:3", "8:3"]);
  assert.equal(locator(root, shared), "m:3");
  assert.deepEqual(placesOf(root, deep), ["7:9:5", "8:9:5"]);
  assert.equal(locator(root, deep), "i:5");
});

test("every place leads back to its node, and others to none", () => {
  const { root, top, shared, deep } = graphs();
  for (const node of [top, shared, deep])
    for (const place of placesOf(root, node)) assert.equal(nodeAt(root, place), node);
  for (const place of ["4", "3:3", "7:4", "7:9", "", ":", "7:9:5:1", "undefined"])
    assert.ok(![top, shared, deep].includes(nodeAt(root, place)), place);
});

test("before the page has a graph nothing has a place", () => {
  assert.deepEqual(placesOf(undefined, { id: 3 }), []);
  assert.equal(nodeAt(undefined, "3"), undefined);
});
