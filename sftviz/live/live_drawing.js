// A drawing that shows an SVG and reports what was done to it.
//
// Elements that show a value carry data-key: `grad[1,3]` is that of a token, `grad[1,:]` those of a
// row, `loss` stands alone. The kernel says in `actions` which quantities may be changed and how,
// and in `values` what they are. What a hand changes goes into `edits` as the new value, never as a
// difference, so that of a burst only the last need arrive. They go by a number, which the kernel
// writes into `answered` when the picture has them in it or it has refused them. Until then the next
// edits hold them as well. What was set before all values were replaced, which `loads` counts, is
// void. All views of a drawing share edits, since they share the model.

/**
 * What the page shares with the kernel, as live_drawing.py tells it; null is what JSON can't write.
 * @typedef {{svg: string, alt: string, selected: string, columns: number,
 *   actions: Record<string, "toggle" | "move">, limits: Record<string, number>,
 *   values: Record<string, number | null>, answered: number, loads: number,
 *   edits: {at: number, loads: number, values: Record<string, number>},
 *   error: {message: string, traceback: string}}} State
 * @typedef {(event: string, callback: () => void) => void} Listen
 * @typedef {{get: <K extends keyof State>(name: K) => State[K], on: Listen, off: Listen,
 *   set: <K extends keyof State>(name: K, value: State[K]) => void, save_changes: () => void}} Model
 *
 * A pointer held down: where it was, and the value that it paints or started to drag from.
 * @typedef {{pointer: number, x: number, y: number, key: string, value: number, drags: boolean}} Hold
 */

const CELL_WIDTH = 8; // px, as in the SVG
const FRAMED = "g[data-key]:has(> rect)"; // the cells: what one can go to
const PER_PIXEL = 0.01; // what a drag adds
const SLACK = 3; // px by which a hand trembles that only wants to click
const STILL = window.matchMedia("(prefers-reduced-motion: reduce)");
const SETTLED = 700; // ms without a change, after which what is new has been seen, and is told
const PATIENCE = 5000; // ms for an answer
const SILENCE = "The kernel has not answered for 5 seconds. It may be busy with another cell. " +
  "If it was restarted or stopped, run this cell again.";
/** @type {Record<string, number>} */
const NUDGES = { "+": 0.1, "=": 0.1, "-": -0.1, _: -0.1 }; // what a key press adds
/** @type {Record<string, number[]>} */
const WAYS = {
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
  Home: [-1, 0], End: [1, 0], // as far as that goes
};
/** @type {Record<string, string>} */
const WORDS = { // for what a token has
  policy_log_probs: "log-prob", masked_log_probs: "masked log-prob", response_mask: "mask",
  logits: "logit", labels: "label", probs: "probability",
  grad: "gradient", logits_grad: "gradient of the logit",
};

/** @param {string} key */
function parse(key) {
  const [quantity, index] = key.replace("]", "").split("[");
  return { quantity, index: index ? index.split(",") : [] };
}

/**
 * Whether two keys are about the same token, or without a token about the same quantity. An entry
 * of a token belongs to that token, and `:` stands for all.
 * @param {string} one @param {string} other
 */
function areLinked(one, other) {
  const [a, b] = [parse(one), parse(other)];
  if (!a.index.length || !b.index.length) return a.quantity === b.quantity;
  return a.index.every((at, i) => at === ":" || [at, ":", undefined].includes(b.index[i]));
}

/** @param {Element | null | undefined} element */
const keyOf = (element) => element?.getAttribute("data-key") ?? "";
/** @param {EventTarget | null} target @param {string} selector */
const around = (target, selector) =>
  target instanceof Element ? /** @type {SVGGElement | null} */ (target.closest(selector)) : null;

/** The right and the upper edge of a frame, without its stroke, which focus makes broader. */
function cornerOf(/** @type {SVGGElement} */ cell) {
  const { x, y, width } = /** @type {SVGRectElement} */ (cell.querySelector("rect")).getBBox();
  return [x + width, y];
}

/** @param {{model: Model, el: HTMLElement}} context */
function render({ model, el }) {
  el.classList.add("sftviz-live");
  el.innerHTML = `<div class="sftviz-error" role="alert" hidden>
      <p></p><details><summary>Traceback</summary><pre></pre></details></div>
    <div class="sftviz-picture" role="group"></div><div class="sftviz-status" role="status"></div>`;
  /** @type {HTMLElement[]} */
  const [alert, sentence, details, , trace, picture, status] = Array.from(el.querySelectorAll("*"));

  let current = ""; // the key of the one cell that Tab reaches
  let hovered = ""; // the key under the pointer
  let told = model.get("alt"); // to a screen reader
  let settling = 0, waiting = 0; // timers
  let isHeard = true; // by the kernel
  /** @type {string[]} */ let drawn = []; // the parts of the picture: what opens it, then its groups
  /** @type {Hold | undefined} */ let hold;

  /** @param {string} selector @returns {SVGGElement[]} */
  const all = (selector) => Array.from(picture.querySelectorAll(selector));
  const cells = () => all(FRAMED);
  /** @param {string} key */
  const cellOf = (key) => cells().find((cell) => keyOf(cell) === key);
  /** What hands have set that is neither answered nor void. @returns {Record<string, number>} */
  const unanswered = () =>
    model.get("edits").loads === model.get("loads") ? model.get("edits").values : {};
  /** @param {string} key */
  const known = (key) => unanswered()[key] ?? model.get("values")[key];
  /** @param {string} key */
  const valueOf = (key) => known(key) ?? 0;
  /** @param {string} key */
  const actionOf = (key) => model.get("actions")[parse(key).quantity];

  /** What one event brings is one message. @template {keyof State} K
   * @param {K} name @param {State[K]} value */
  function report(name, value) {
    model.set(name, value);
    queueMicrotask(() => model.save_changes());
  }

  /** @param {string} key @param {number} value */
  function change(key, value) {
    if (value === known(key)) return;
    const values = { ...unanswered(), [key]: value };
    report("edits", { at: Math.random(), loads: model.get("loads"), values }); // no other page's number
    clearTimeout(waiting);
    waiting = setTimeout(hear, PATIENCE, false);
  }

  /** Whether the kernel hears what hands do. @param {boolean} isSo */
  function hear(isSo) {
    isHeard = isSo;
    showError();
  }

  /** Once the last edits are answered, the kernel's word counts again. */
  function heed() {
    const { at, loads } = model.get("edits");
    if (at !== model.get("answered")) return;
    model.set("edits", { at, loads, values: {} });
    clearTimeout(waiting);
    hear(true);
  }

  /** Change to the hundredth, as far as the quantity may go. @param {string} key @param {number} to */
  function move(key, to) {
    const limit = model.get("limits")[parse(key).quantity] ?? Infinity;
    change(key, Math.min(limit, Math.round(to * 100) / 100));
  }

  /** Light up, wherever it appears, what is under the pointer, or else in focus; and its stages. */
  function light() {
    const key = hovered || (picture.contains(document.activeElement) ? current : "");
    /** @type {Element | undefined} */ let badge;
    for (const element of all(".badge, [data-key]")) {
      const isLinked = key !== "" && keyOf(element) !== "" && areLinked(key, keyOf(element));
      element.classList.toggle("linked", isLinked);
      if (isLinked) badge?.classList.add("linked");
      if (element.matches(".badge")) badge = element;
    }
  }

  /** @param {Element | null} element */
  function hover(element) {
    hovered = keyOf(element);
    light();
  }

  /** Say what a cell is to those who don't see it, and to the stylesheet. @param {SVGGElement} cell */
  function describe(cell) {
    const key = keyOf(cell);
    const { quantity, index } = parse(key);
    const action = actionOf(key);
    const axes = ["row", quantity in WORDS ? "token" : "column", "entry"];
    const place = index.map((at, axis) => `${axes[axis]} ${Number(at) + 1}, `).join("");
    const name = `${WORDS[quantity] ?? quantity.replaceAll("_", " ")} ${cell.textContent}`;
    const isMasked = quantity !== "response_mask" && cell.matches(".masked");
    cell.setAttribute("aria-label", place + name + (isMasked ? ", masked" : ""));
    cell.setAttribute("role", action ? { toggle: "checkbox", move: "button" }[action] : "img");
    cell.setAttribute("tabindex", key === current ? "0" : "-1");
    if (action) cell.setAttribute("data-action", action);
    if (action === "toggle") cell.setAttribute("aria-checked", String(model.get("values")[key] === 1));
    if (action === "move") cell.setAttribute("aria-keyshortcuts", "Plus -");
  }

  /** Put a part in the place of another; what tells another value is lit.
   * @param {Element} place @param {string} markup */
  function renew(place, markup) {
    const template = document.createElement("template");
    template.innerHTML = `<svg>${markup}`;
    const part = /** @type {Element} */ (template.content.querySelector("g"));
    const isSame = keyOf(part) !== "" && keyOf(part) === keyOf(place);
    part.classList.toggle("lit", isSame && part.textContent !== place.textContent && !STILL.matches);
    place.replaceWith(part);
  }

  /** Show a new picture. What is as it was stays in the page: to lay out and paint takes time. */
  function draw() {
    const parts = model.get("svg").split(/(?=<g )/);
    const isAlike = parts.length === drawn.length && parts[0] === drawn[0];
    const hadFocus = picture.contains(document.activeElement);
    if (!isAlike) picture.innerHTML = model.get("svg");
    else all("g").forEach((place, i) => {
      if (parts[i + 1] !== drawn[i + 1]) renew(place, parts[i + 1]);
    });
    drawn = parts;
    if (!cellOf(current))
      current = keyOf(cells().find((cell) => actionOf(keyOf(cell))) ?? cells()[0]);
    all(`${FRAMED}:not([role])`).forEach(describe);
    const cell = cellOf(current);
    cell?.setAttribute("tabindex", "0");
    if (hadFocus) cell?.focus({ preventScroll: true });
    light();
    picture.setAttribute("aria-label", model.get("alt"));
    clearTimeout(settling);
    settling = setTimeout(settle, SETTLED);
  }

  /** Say what the picture shows now, and let fade what has changed. */
  function settle() {
    const isNews = told !== model.get("alt");
    told = model.get("alt");
    if (isNews && root().contains(document.activeElement)) status.textContent = told;
    for (const part of all(".lit")) part.classList.replace("lit", "fading");
  }

  function showError() {
    const { message, traceback } = isHeard ? model.get("error") : { message: SILENCE, traceback: "" };
    alert.hidden = message === "";
    sentence.textContent = message;
    trace.textContent = traceback;
    details.hidden = traceback === "";
    picture.classList.toggle("stale", message !== "");
  }

  /** Go to another cell, as they lie on the page. @param {string} key one of WAYS */
  function go(key) {
    const [x, y] = WAYS[key];
    const from = cellOf(current);
    if (!from) return;
    const [right, top] = cornerOf(from);
    const ahead = cells()
      .map((cell) => ({ cell, across: cornerOf(cell)[0] - right, down: cornerOf(cell)[1] - top }))
      .filter(({ across, down }) => (y ? down * y > 0 : down === 0 && across * x > 0))
      .sort((a, b) => (a.down - b.down) * y || Math.abs(a.across) - Math.abs(b.across));
    const next = ahead.at(key.startsWith("Arrow") ? 0 : -1)?.cell;
    if (!next) return;
    enter(next);
    next.scrollIntoView({ block: "nearest", inline: "nearest" }); // all of it
  }

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    const { key, ctrlKey, metaKey, altKey } = event;
    if (ctrlKey || metaKey || altKey) return;
    const action = actionOf(current);
    const isClick = key === " " || key === "Enter";
    if (key in NUDGES && action === "move") move(current, valueOf(current) + NUDGES[key]);
    if (isClick && action === "toggle") change(current, 1 - valueOf(current));
    if (key in WAYS) go(key);
    if (isClick || key in WAYS) event.preventDefault(); // or the page would scroll
  }

  /** Go to a cell. In a window without focus nothing tells of it. @param {SVGGElement | null} cell */
  function enter(cell) {
    if (!cell) return;
    cell.focus({ preventScroll: true });
    cellOf(current)?.setAttribute("tabindex", "-1");
    cell.setAttribute("tabindex", "0");
    current = keyOf(cell);
    light();
    report("selected", current);
  }

  /** @param {PointerEvent} event */
  function onDown(event) {
    const cell = around(event.target, FRAMED);
    if (!cell || event.button) return;
    event.preventDefault(); // no text is selected while dragging
    enter(cell);
    const action = actionOf(current);
    if (!action) return;
    const value = action === "toggle" ? 1 - valueOf(current) : valueOf(current);
    const { pointerId: pointer, clientX: x, clientY: y } = event;
    hold = { pointer, x, y, key: current, value, drags: false };
    picture.setPointerCapture(pointer);
    if (action === "toggle") change(current, value);
  }

  /** @param {PointerEvent} event */
  function onMove(event) {
    if (hold?.pointer !== event.pointerId) return;
    const { key, value, x, y } = hold;
    const [across, down] = [event.clientX - x, event.clientY - y];
    if (actionOf(key) === "move") {
      hold.drags ||= Math.abs(down) > SLACK;
      if (hold.drags) move(key, value - down * PER_PIXEL);
      return;
    }
    // A quick hand skips cells: paint what lies on its way.
    const steps = Math.ceil(Math.hypot(across, down) / CELL_WIDTH);
    for (let step = 1; step <= steps; step++) {
      const part = step / steps;
      const under = document.elementFromPoint(x + across * part, y + down * part);
      const cell = picture.contains(under) ? around(under, FRAMED) : null;
      if (actionOf(keyOf(cell)) === "toggle") change(keyOf(cell), value);
    }
    hold = { ...hold, x: event.clientX, y: event.clientY };
  }

  function onUp(/** @type {PointerEvent} */ event) {
    if (hold?.pointer === event.pointerId) hold = undefined;
  }

  const root = () => el.closest(".sftviz-explorer") ?? el;

  /** Keep a key from the notebook, where `b` inserts a cell. The application may have its Ctrl+S. */
  function keepKey(/** @type {Event} */ event) {
    const { key, ctrlKey, metaKey, target } = /** @type {KeyboardEvent} */ (event);
    if (!(target instanceof Element) || !root().contains(target)) return;
    const isKept = !(ctrlKey || metaKey) || !/^[^myz]$/i.test(key);
    // Notebook 7 hears of a key before the explorer does, but leaves alone what is marked so.
    target.toggleAttribute("data-lm-suppress-shortcuts", isKept);
    if (isKept && event.eventPhase === Event.BUBBLING_PHASE) event.stopPropagation();
  }

  /** See to the explorer around the drawing, once there is one; to do so again changes nothing. */
  function settleIn() {
    root().addEventListener("keydown", keepKey, { signal: controller.signal });
    naming.observe(root(), { childList: true, subtree: true, attributeFilter: ["class"] });
    for (const slider of root().querySelectorAll(".widget-slider")) {
      // The front end puts a label beside it, but gives no name to what is focused.
      const name = slider.querySelector("label")?.textContent ?? "";
      for (const part of slider.querySelectorAll(".noUi-handle, .widget-readout"))
        part.setAttribute("aria-label", name);
      slider.querySelector(".widget-readout")?.setAttribute("role", "textbox");
    }
    for (const button of root().querySelectorAll(".widget-toggle-button"))
      button.setAttribute("aria-pressed", String(button.classList.contains("mod-active")));
    for (const icon of root().querySelectorAll("button > .fa:only-child")) // `fa fa-play`, `fa fa-pause`
      icon.parentElement?.setAttribute("aria-label", icon.className.replaceAll(/fa[ -]/g, ""));
  }

  const controller = new AbortController();
  const naming = new MutationObserver(settleIn);
  const sizes = new ResizeObserver(([{ contentRect }]) => {
    if (!contentRect.width) return; // hidden
    settleIn();
    report("columns", Math.floor(contentRect.width / CELL_WIDTH) - 2);
  });
  picture.addEventListener("keydown", onKey);
  picture.addEventListener("focusin", (event) => enter(around(event.target, FRAMED)));
  picture.addEventListener("focusout", light);
  picture.addEventListener("pointerdown", onDown);
  picture.addEventListener("pointermove", onMove);
  picture.addEventListener("lostpointercapture", onUp);
  picture.addEventListener("pointerover", (event) => hover(around(event.target, "[data-key]")));
  picture.addEventListener("pointerleave", () => hover(null));
  model.on("change:svg", draw);
  model.on("change:answered", heed);
  model.on("change:error", showError);
  heed();
  draw();
  showError();
  sizes.observe(el);
  window.addEventListener("keydown", keepKey, { capture: true, signal: controller.signal });
  return () => {
    model.off("change:svg", draw);
    model.off("change:answered", heed);
    model.off("change:error", showError);
    clearTimeout(settling);
    clearTimeout(waiting);
    sizes.disconnect();
    naming.disconnect();
    controller.abort();
  };
}

export default { render };
