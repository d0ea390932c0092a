// A drawing that shows an SVG and reports what was done to it.
//
// Elements that show a value carry data-key, `grad[1,3]`. The kernel says in `actions` which
// quantities may be changed and how, and in `values` what they are; a change is written back into
// `values` as the new value, never as a difference, so that of a burst only the last need arrive.

/**
 * @typedef {{quantity: string, index: string[]}} Key `grad[1,3]` is grad and ["1", "3"]
 * @typedef {{pointer: number, action: string, key: string, from: number, y: number}} Gesture
 */

const CELL_WIDTH = 8; // px, as in the SVG
const STEP = 0.1; // nats, of a key press
const PER_PIXEL = 0.01; // nats, of a drag
const SETTLED = 700; // ms without a change, after which a screen reader is told
const WORDS = { policy_log_probs: "log-prob", response_mask: "mask" };

/** @param {string} key @returns {Key} */
function parse(key) {
  const [quantity, index] = key.replace("]", "").split("[");
  return { quantity, index: index ? index.split(",") : [] };
}

/**
 * Whether two keys are about the same token, or without a token about the same quantity. The entry
 * of a longer index belongs to the token of the shorter, and `:` stands for all.
 * @param {Key} one @param {Key} other
 */
function areLinked(one, other) {
  if (!one.index.length || !other.index.length) return one.quantity === other.quantity;
  return one.index.every((at, i) => [at, ":", undefined].includes(other.index[i]) || at === ":");
}

/** @param {{model: any, el: HTMLElement}} context */
function render({ model, el }) {
  el.classList.add("sftviz-live");
  const alert = Object.assign(document.createElement("div"), { className: "sftviz-error" });
  alert.setAttribute("role", "alert");
  const picture = Object.assign(document.createElement("div"), { className: "sftviz-picture" });
  const status = Object.assign(document.createElement("div"), { className: "sftviz-status" });
  status.setAttribute("role", "status");
  el.append(alert, picture, status);

  /** @type {Gesture | null} */ let gesture = null;
  /** @type {string} */ let current = ""; // the key of the one element that Tab reaches
  let settling = 0;

  /** @returns {SVGGElement[]} the elements that frame a value */
  const cells = () => [...picture.querySelectorAll("g[data-key]:has(> rect)")];
  /** @param {string} key */
  const cellOf = (key) => cells().find((cell) => cell.dataset.key === key);
  /** @param {EventTarget | null} target */
  const keyAt = (target) => /** @type {Element} */ (target)?.closest?.("[data-key]")?.dataset.key;
  /** @param {string} key */
  const actionOf = (key) => key in model.get("values") && model.get("actions")[parse(key).quantity];

  /** Set a value to the hundredth, as far as its quantity may go. @param {string} key @param {number} value */
  function move(key, value) {
    const limit = model.get("limits")[parse(key).quantity] ?? Infinity;
    change(key, Math.min(limit, Math.round(value * 100) / 100));
  }

  /** @param {string} key @param {number} value */
  function change(key, value) {
    model.set("values", { ...model.get("values"), [key]: value });
    model.save_changes();
  }

  /** @param {string} key */
  function select(key) {
    if (model.get("selected") === key) return;
    model.set("selected", key);
    model.save_changes();
  }

  /** Light up a token wherever it appears, or a quantity. @param {string | undefined} key */
  function link(key) {
    for (const element of picture.querySelectorAll("[data-key]")) {
      const isLinked = key !== undefined && areLinked(parse(key), parse(element.dataset.key));
      element.classList.toggle("linked", isLinked);
    }
  }

  /** @param {SVGGElement} cell */
  function describe(cell) {
    const { quantity, index } = parse(cell.dataset.key);
    const action = actionOf(cell.dataset.key);
    const text = cell.textContent;
    const [row, token, entry] = index.map((at) => Number(at) + 1);
    const place = (row ? `row ${row}, token ${token}, ` : "") + (entry ? `entry ${entry}, ` : "");
    const masked = row && quantity !== "response_mask" && cell.classList.contains("masked") ? ", masked" : "";
    cell.setAttribute("aria-label", `${place}${WORDS[quantity] ?? quantity} ${text}${masked}`);
    cell.setAttribute("role", { toggle: "checkbox", move: "button" }[action] ?? "img");
    if (action === "toggle") cell.setAttribute("aria-checked", String(text === "1"));
    if (action) cell.dataset.action = action;
    cell.setAttribute("tabindex", cell.dataset.key === current ? "0" : "-1");
  }

  function draw() {
    const before = new Map(cells().map((cell) => [cell.dataset.key, cell.textContent]));
    const hadFocus = picture.contains(document.activeElement);
    const linked = picture.querySelector(".linked")?.getAttribute("data-key");
    picture.innerHTML = model.get("svg");
    if (!cellOf(current)) current = cells().find((cell) => actionOf(cell.dataset.key))?.dataset.key ?? "";
    for (const cell of cells()) {
      describe(cell);
      const was = before.get(cell.dataset.key);
      if (was !== undefined && was !== cell.textContent) cell.classList.add("flash");
    }
    const svg = picture.querySelector("svg");
    svg?.setAttribute("role", "group");
    svg?.setAttribute("aria-label", model.get("alt"));
    if (hadFocus) cellOf(current)?.focus({ preventScroll: true });
    if (linked) link(linked);
    clearTimeout(settling);
    if (before.size) settling = setTimeout(() => (status.textContent = model.get("alt")), SETTLED);
  }

  function showError() {
    const { message, traceback } = model.get("error");
    picture.classList.toggle("stale", Boolean(message));
    alert.replaceChildren();
    if (!message) return;
    const details = document.createElement("details");
    const summary = Object.assign(document.createElement("summary"), { textContent: "Traceback" });
    details.append(summary, Object.assign(document.createElement("pre"), { textContent: traceback }));
    alert.append(Object.assign(document.createElement("p"), { textContent: message }), details);
  }

  /** Move the focus to the nearest cell in a direction. @param {number} dx @param {number} dy */
  function go(dx, dy) {
    const from = cellOf(current)?.getBoundingClientRect();
    if (!from) return;
    const gap = (/** @type {DOMRect} */ to) => ({
      along: dx ? (to.left - from.left) * dx : (to.top - from.top) * dy,
      across: Math.abs(dx ? to.top - from.top : to.right - from.right),
    });
    const next = cells()
      .map((cell) => ({ cell, ...gap(cell.getBoundingClientRect()) }))
      .filter(({ along, across }) => along > 1 && (dy || across < 1))
      .sort((a, b) => a.along - b.along || a.across - b.across)[0];
    if (next) focus(next.cell);
  }

  /** @param {SVGGElement} cell */
  function focus(cell) {
    cellOf(current)?.setAttribute("tabindex", "-1");
    current = cell.dataset.key;
    cell.setAttribute("tabindex", "0");
    cell.focus({ preventScroll: false });
  }

  /** @param {number} difference */
  function nudge(difference) {
    if (actionOf(current) === "move") move(current, model.get("values")[current] + difference);
  }

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    const row = () => {
      const top = cellOf(current)?.getBoundingClientRect().top;
      return cells().filter((cell) => cell.getBoundingClientRect().top === top);
    };
    const moves = {
      ArrowLeft: () => go(-1, 0),
      ArrowRight: () => go(1, 0),
      ArrowUp: () => (event.shiftKey ? nudge(STEP) : go(0, -1)),
      ArrowDown: () => (event.shiftKey ? nudge(-STEP) : go(0, 1)),
      Home: () => focus(row()[0]),
      End: () => focus(row().at(-1)),
      "+": () => nudge(STEP),
      "=": () => nudge(STEP),
      "-": () => nudge(-STEP),
      _: () => nudge(-STEP),
      " ": () => actionOf(current) === "toggle" && change(current, 1 - model.get("values")[current]),
    };
    const act = moves[event.key === "Enter" ? " " : event.key];
    if (!act || !cellOf(current) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  }

  /** @param {PointerEvent} event */
  function onDown(event) {
    const key = keyAt(event.target);
    const cell = key && cellOf(key);
    if (!cell || event.button) return;
    event.preventDefault(); // no text is selected while dragging
    focus(cell);
    const action = actionOf(key);
    if (!action) return;
    const value = model.get("values")[key];
    const from = action === "toggle" ? 1 - value : value;
    gesture = { pointer: event.pointerId, action, key, from, y: event.clientY };
    picture.setPointerCapture(event.pointerId);
    if (action === "toggle") change(key, from);
  }

  /** @param {PointerEvent} event */
  function onMove(event) {
    if (gesture?.pointer !== event.pointerId) return link(keyAt(event.target));
    if (gesture.action === "move")
      return move(gesture.key, gesture.from + (gesture.y - event.clientY) * PER_PIXEL);
    const key = keyAt(document.elementFromPoint(event.clientX, event.clientY));
    if (key && actionOf(key) === "toggle" && model.get("values")[key] !== gesture.from) change(key, gesture.from);
  }

  const root = () => el.closest(".sftviz-explorer") ?? el;

  /** JupyterLab would take a key pressed here for a command: `b` inserts a cell. @param {KeyboardEvent} event */
  function keepKey(event) {
    if (event.key === "Enter" || !(event.ctrlKey || event.metaKey)) event.stopPropagation();
  }

  /** Sliders of the front end have a label beside them, but no name. */
  function nameSliders() {
    for (const handle of root().querySelectorAll(".noUi-handle"))
      handle.setAttribute("aria-label", handle.closest(".jupyter-widgets")?.querySelector("label")?.textContent ?? "");
  }

  picture.addEventListener("keydown", onKey);
  picture.addEventListener("pointerdown", onDown);
  picture.addEventListener("pointermove", onMove);
  picture.addEventListener("pointerleave", () => link(undefined));
  for (const end of ["pointerup", "pointercancel"]) picture.addEventListener(end, () => (gesture = null));
  picture.addEventListener("focusin", (event) => {
    const key = keyAt(event.target);
    link(key);
    if (key) select(key);
  });
  picture.addEventListener("focusout", () => link(undefined));
  model.on("change:svg", draw);
  model.on("change:error", showError);
  const sizes = new ResizeObserver(([entry]) => {
    if (!entry.contentRect.width) return; // hidden
    model.set("columns", Math.floor(entry.contentRect.width / CELL_WIDTH) - 2);
    model.save_changes();
  });
  const frame = requestAnimationFrame(() => {
    root().addEventListener("keydown", keepKey);
    nameSliders();
    sizes.observe(el);
  });
  draw();
  showError();
  return () => {
    cancelAnimationFrame(frame);
    clearTimeout(settling);
    sizes.disconnect();
    model.off("change:svg", draw);
    model.off("change:error", showError);
  };
}

export default { render };
