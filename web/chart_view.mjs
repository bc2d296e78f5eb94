// @ts-check
// The live chart as an element of a page. It knows nothing of ComfyUI but its CSS variables.
// Names, findings and completions come from strangers and models: they enter the page as text, never as HTML.

import * as data from "./chart_data.mjs";
import { crosshair, drawChart, recordAt } from "./chart.mjs";
import { GREY, INK, cut, shape } from "./chart_frame.mjs";
import * as text from "./chart_text.mjs";
import { finite } from "./record.mjs";

/** @typedef {import("./chart_data.mjs").Run} Run */
/** @typedef {import("./chart_frame.mjs").Shape} Shape */
/** @typedef {import("./chart.mjs").Drawing} Drawing */

const SVG = "http://www.w3.org/2000/svg";
const WORDS_SHARE = 0.25; // of the height, for findings and sample
const ENOUGH_STEPS = 5; // below, nothing is looked for
const WHOLE_ZOOM = "1.7"; // of letters and lines where the chart has the whole screen

const STYLE = {
  "--gdpo-ground": "var(--comfy-menu-bg, #1b1b1b)",
  "--gdpo-ink": "var(--input-text, #ddd)",
  "--gdpo-grey": "color-mix(in srgb, var(--gdpo-ink) 62%, var(--gdpo-ground))",
  "--gdpo-pale": "color-mix(in srgb, var(--gdpo-ink) 13%, var(--gdpo-ground))",
  position: "relative",
  display: "flex",
  "flex-direction": "column",
  "box-sizing": "border-box",
  width: "100%",
  height: "100%",
  padding: "6px 8px",
  overflow: "hidden auto",
  border: "1px solid var(--border-color, #4e4e4e)",
  "border-radius": "6px",
  background: "var(--gdpo-ground)",
  color: "var(--gdpo-ink)",
  font: "11px/1.4 system-ui, sans-serif",
};
const TIP = {
  position: "absolute",
  "z-index": "1",
  "pointer-events": "none",
  padding: "4px 7px",
  border: "1px solid var(--gdpo-grey)",
  "border-radius": "4px",
  background: "var(--gdpo-ground)",
  "box-shadow": "0 2px 8px rgb(0 0 0 / 35%)",
  "font-size": "10.5px",
  "max-width": "75%",
};

/**
 * @param {string} tag
 * @param {Record<string, string>} [style]
 * @param {...(Node | string)} children strings become text
 * @returns {HTMLElement}
 */
function element(tag, style = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(style)) made.style.setProperty(name, value);
  made.append(...children);
  return made;
}

/** @param {Shape} plan @returns {SVGElement} */
function render(plan) {
  const made = /** @type {SVGElement} */ (document.createElementNS(SVG, plan.tag));
  for (const [name, value] of Object.entries(plan.attrs)) made.setAttribute(name, String(value));
  made.append(...plan.children.map((child) => (typeof child === "string" ? child : render(child))));
  return made;
}

/** One chart: head, curves, and below what they say in words. */
export class ChartView {
  /**
   * @param {string} waiting what it says while there is nothing to draw
   * @param {(stop: AbortSignal) => Node} [makeTool] for what stands above it
   */
  constructor(waiting, makeTool) {
    /** @type {Run[]} */
    this.runs = [];
    this.waiting = waiting;
    this.head = element("div", {
      display: "flex",
      gap: "8px",
      "flex-wrap": "wrap",
      "margin-bottom": "4px",
    });
    this.svg = render(
      shape("svg", { "font-size": 10.5, role: "img", "aria-label": "training chart" }),
    );
    this.svg.style.flex = "none";
    this.words = element("div", {
      flex: "1 1 0",
      "min-height": "3em",
      overflow: "auto",
      "margin-top": "4px",
    });
    this.words.tabIndex = 0; // so that keys can scroll it
    this.tip = element("div", { ...TIP, display: "none" });
    this.stop = new AbortController();
    const tools = makeTool ? [makeTool(this.stop.signal)] : [];
    this.element = element("div", STYLE, ...tools, this.head, this.svg, this.words, this.tip);
    Object.assign(this.element, { view: this }); // for who looks at the page from outside
    /** @type {Drawing | null} */
    this.drawing = null;
    this.waitingFrame = 0;
    /** @type {PointerEvent | null} where the pointer is, for a chart that changes below it */
    this.pointer = null;
    const when = { signal: this.stop.signal };
    this.whole = wholeScreenButton(() => this.toggleWhole(), when);
    this.element.addEventListener("fullscreenchange", () => this.magnify(), when);
    this.svg.addEventListener("pointermove", (event) => this.hover(event), when);
    this.svg.addEventListener("pointerleave", () => this.hover(null), when);
    this.element.addEventListener("pointerenter", () => this.redraw(), when); // the palette may have changed
    this.resized = new ResizeObserver(() => this.redraw());
    this.resized.observe(this.element);
  }

  /** @param {Run[]} runs */
  show(runs) {
    this.runs = runs;
    this.redraw();
  }

  /** Draws once before the next frame, however often it is asked for. */
  redraw() {
    this.waitingFrame ||= requestAnimationFrame(() => {
      this.waitingFrame = 0;
      if (this.element.clientWidth > 60) this.draw();
    });
  }

  /** @returns {boolean} whether it has the whole screen */
  isWhole() {
    return document.fullscreenElement === this.element;
  }

  /** Takes the whole screen, or gives it back. */
  toggleWhole() {
    const done = this.isWhole() ? document.exitFullscreen() : this.element.requestFullscreen?.();
    done?.catch((error) => console.warn("gdpo: no whole screen", error));
  }

  magnify() {
    this.element.style.setProperty("zoom", this.isWhole() ? WHOLE_ZOOM : "1");
    this.redraw();
  }

  /** Ends all that goes on behind it, and lets go of its runs: the page may keep the element itself. */
  remove() {
    this.runs = [];
    this.drawing = null;
    this.stop.abort();
    this.resized.disconnect();
    cancelAnimationFrame(this.waitingFrame);
  }

  draw() {
    const empty = !this.runs.some((run) => run.records.length);
    this.head.replaceChildren(...this.heading(), ...(empty ? [] : [this.whole]));
    this.words.replaceChildren(...(empty ? [] : [...this.findings(), ...this.sample()]));
    this.clear();
    this.drawing = null;
    this.svg.style.display = empty ? "none" : "block";
    if (empty) {
      if (!this.runs.length) this.words.append(element("div", { color: GREY }, this.waiting));
      return;
    }
    const width = this.element.clientWidth - 16;
    const ground = getComputedStyle(this.element).backgroundColor;
    const free = this.element.clientHeight - this.svgTop() - 10;
    this.drawing = drawChart(this.runs, width, free * (1 - WORDS_SHARE), ground);
    this.svg.setAttribute("width", String(width));
    this.svg.setAttribute("height", String(this.drawing.height));
    this.svg.replaceChildren(render(this.drawing.shape));
    this.hover(this.pointer);
  }

  /** @returns {HTMLElement[]} */
  heading() {
    if (this.runs.length > 1)
      return [
        element("span", { "font-weight": "600" }, `${this.runs.length} runs laid over each other`),
      ];
    return this.runs.flatMap((run) => [
      element("span", { "font-weight": "600" }, cut(run.name, 40)),
      element("span", {}, text.standing(run)),
      element("span", { color: GREY, "margin-left": "auto" }, text.pace(run)),
    ]);
  }

  /** @returns {HTMLElement[]} */
  findings() {
    const many = this.runs.length > 1;
    const found = this.runs.flatMap((run) =>
      run.findings.map((finding) =>
        element("div", { "margin-bottom": "3px" }, `⚠ ${many ? `${run.name}: ` : ""}${finding}`),
      ),
    );
    const looked = this.runs.every(
      (run) => run.records.filter((one) => one.rewards).length >= ENOUGH_STEPS,
    );
    const fine = element("div", { color: GREY, "margin-bottom": "3px" }, "✓ Nothing looks wrong.");
    return found.length || !looked ? found : [fine];
  }

  /** @returns {HTMLElement[]} */
  sample() {
    const sample = this.runs.length === 1 ? this.runs[0].sample : null;
    if (!sample) return [];
    const scores = Object.entries(sample.rewards ?? {}).map(
      ([name, score]) => `${name} ${text.formatNumber(finite(score))}`,
    );
    const grey = { color: GREY };
    const breaking = { "white-space": "pre-wrap", "overflow-wrap": "anywhere" };
    return [
      element("div", grey, `A completion of step ${sample.step ?? "–"} · ${scores.join(" · ")}`),
      element("div", breaking, element("span", grey, "Prompt  "), String(sample.prompt ?? "")),
      element("div", breaking, element("span", grey, "Answer  "), String(sample.completion ?? "")),
    ];
  }

  /** @param {PointerEvent | null} event where the pointer is; null: elsewhere */
  hover(event) {
    this.pointer = event;
    this.clear();
    if (!event || !this.drawing) return;
    // The host may show the element enlarged.
    const box = this.svg.getBoundingClientRect();
    const zoom = box.width / Number(this.svg.getAttribute("width")) || 1;
    const [x, y] = [(event.clientX - box.left) / zoom, (event.clientY - box.top) / zoom];
    const { cells, plots } = this.drawing;
    const cell = cells.find(
      (one) => x >= one.x && x < one.x + one.w && y >= one.y && y < one.y + one.h,
    );
    const record = cell ? null : recordAt(plots, this.runs[0], x, y);
    // Beside the map, not over it.
    if (cell) this.tell(Math.min(...cells.map((one) => one.x)) - 20, y, this.aboutCell(cell));
    if (!record) return;
    const d = crosshair(plots, record.step);
    this.svg.append(
      render(shape("path", { d, stroke: INK, "stroke-width": 0.7, class: "crosshair" })),
    );
    this.tell(x, y, this.aboutStep(record));
  }

  clear() {
    this.svg.querySelector(".crosshair")?.remove();
    this.tip.style.display = "none";
  }

  /** @param {import("./chart_frame.mjs").Cell} cell @returns {HTMLElement} */
  aboutCell(cell) {
    const names = data.rewardNames(this.runs);
    const [one, other] = [names[cell.row], names[cell.column]];
    return element("div", { "max-width": "200px" }, text.aboutPair(one, other, cell.cosine));
  }

  /** @param {import("./record.mjs").StepRecord} record @returns {HTMLElement} */
  aboutStep(record) {
    const names = data.rewardNames(this.runs);
    const table = element("table", { "border-spacing": "6px 0", margin: "0 -6px" });
    for (const run of this.runs) {
      const near =
        run === this.runs[0] ? record : run.records.find((one) => one.step === record.step);
      if (!near) continue;
      const title =
        this.runs.length > 1 ? `${cut(run.name, 20)}, step ${near.step}` : `step ${near.step}`;
      table.append(row([title, ...text.columnsAt(near)], GREY));
      for (const { reward, cells } of text.rowsAt(near, names)) {
        if (reward === null && this.runs.length > 1) continue;
        table.append(row([cut(cells[0], 24), ...cells.slice(1)], INK));
      }
    }
    return table;
  }

  /** @param {number} x @param {number} y @param {HTMLElement} content */
  tell(x, y, content) {
    this.tip.replaceChildren(content);
    this.tip.style.display = "block";
    const left =
      x + 24 + this.tip.offsetWidth > this.element.clientWidth
        ? x - this.tip.offsetWidth - 4
        : x + 22;
    const top = Math.min(
      y + this.svgTop() + 10,
      this.element.clientHeight - this.tip.offsetHeight - 4,
    );
    this.tip.style.left = `${Math.max(2, left)}px`;
    this.tip.style.top = `${Math.max(2, top)}px`;
  }

  svgTop() {
    return this.head.offsetTop + this.head.offsetHeight + 4;
  }
}

/**
 * @param {() => void} pressed
 * @param {{signal: AbortSignal}} when
 * @returns {HTMLElement}
 */
function wholeScreenButton(pressed, when) {
  const style = { border: "none", padding: "0 2px", background: "none", cursor: "pointer" };
  const made = element("button", { ...style, color: GREY, font: "inherit" }, "⛶");
  made.title = "whole screen, and back";
  made.setAttribute("aria-label", made.title);
  made.addEventListener("click", pressed, when);
  return made;
}

/** @param {string[]} cells @param {string} colour @returns {HTMLElement} */
function row(cells, colour) {
  const made = cells.map((cell, n) =>
    element("td", { "text-align": n ? "right" : "left", padding: "0" }, cell),
  );
  return element("tr", { color: colour }, ...made);
}
