// @ts-check
// A menu of the saved runs, for the field that holds their names with commas between them.

/** @typedef {{list: () => Promise<unknown>, get: () => string, set: (names: string) => void}} Field */

const PROMPT = "Saved runs: add or remove one …";
const NONE = "No saved runs yet";
const STYLE = {
  flex: "none",
  width: "100%",
  "margin-bottom": "5px",
  padding: "2px 4px",
  border: "1px solid var(--border-color, #4e4e4e)",
  "border-radius": "4px",
  background: "var(--comfy-input-bg, #222)",
  color: "var(--input-text, #ddd)",
  font: "inherit",
};

/** @param {string} text @returns {string[]} the names in it, each once */
export function namesIn(text) {
  return [...new Set(text.split(",").map((name) => name.trim()))].filter(Boolean);
}

/**
 * The names with one more, or without it if it was among them.
 *
 * @param {string} text
 * @param {string} name
 * @returns {string}
 */
export function toggled(text, name) {
  const names = namesIn(text);
  const others = names.filter((one) => one !== name);
  return (others.length < names.length ? others : [...names, name]).join(", ");
}

/**
 * What the menu offers: the saved runs, and those that were typed; `on` if the field holds it.
 *
 * @param {unknown} saved names, from the server
 * @param {string} text of the field
 * @returns {{name: string, on: boolean}[]}
 */
export function choices(saved, text) {
  const chosen = namesIn(text);
  const known = Array.isArray(saved) ? saved.map(String) : [];
  return [...new Set([...known, ...chosen])].map((name) => ({ name, on: chosen.includes(name) }));
}

/**
 * The menu. Names come from folders of this machine, and enter the page as text.
 *
 * @param {Field} field
 * @param {AbortSignal} signal ends it
 * @returns {HTMLSelectElement}
 */
export function savedRunsMenu(field, signal) {
  const menu = document.createElement("select");
  menu.setAttribute("aria-label", "saved runs");
  for (const [name, value] of Object.entries(STYLE)) menu.style.setProperty(name, value);
  /** @type {unknown} */
  let saved = null; // not asked for yet
  const fill = () => {
    const offered = choices(saved, field.get());
    const title = new Option(saved && !offered.length ? NONE : PROMPT, "", true, true);
    title.disabled = true;
    const options = offered.map(({ name, on }) => new Option(`${on ? "✓ " : ""}${name}`, name));
    menu.replaceChildren(title, ...options);
  };
  const refresh = async () => {
    saved = await field.list();
    fill();
  };
  const look = () => refresh().catch((error) => console.warn("gdpo: no saved runs", error));
  // Before it is opened, by pointer or keys: an open menu must not change.
  for (const event of ["pointerenter", "focus"]) menu.addEventListener(event, look, { signal });
  menu.addEventListener(
    "change",
    () => {
      field.set(toggled(field.get(), menu.value));
      fill();
    },
    { signal },
  );
  fill();
  return menu;
}
