// A live drawing: shows an SVG and sends the kernel what a person changes in it.
//
// An element that shows a value has a `data-key`: `grad[1,3]` for one token, `grad[1,:]` for a row,
// `loss` for a scalar, `lens` for the frame around what is shown of a large batch. The page and the
// kernel share the traits of `LiveDrawing` in widget.py:
//
// - The kernel writes `actions`, `limits` and `names` once: what can be changed, how, up to where,
//   and what it is called, where its key does not say that. It writes `svg`, `alt`, `values` and `acknowledged` in one message for each new picture, and
//   `error` when an exception was raised or no longer applies.
// - The page writes `selected` when a cell gets focus, `columns` when the width changes, and
//   `edits` {id, generation, values} when a person changes a value.
// - `edits.values` has absolute values, not differences, of all changes not acknowledged yet:
//   of several messages in quick succession, only the last one is sure to arrive.
// - `edits.id` is random, because several pages can be connected to one kernel. The kernel copies
//   it to `acknowledged` when the picture includes the edits or they were rejected. Then the page
//   drops them; until then they take precedence over `values`.
// - Edits without values ask whether the kernel is there. The page sends them when another control
//   of the explorer is used: that one would move without a kernel, and the picture would not.
// - Where the lens is, is a value as all others: `lens[row]` and `lens[column]` in `values` and in
//   `edits` are the first ones that are shown, from 0. In `values` there are also how many are
//   shown, `lens[rows]` and `lens[columns]`, and of how many: `lens[all rows]`, `lens[all columns]`.
// - Of what is typed, the value is the text. Of what is chosen, the cells `option[0,0]`,
//   `option[0,1]`, ... share the value `option[0]`: the place of the chosen one, or −1. Enter in the
//   last empty box sets the value `commit` to 1.
// - `generation` counts how often the kernel has replaced all values, as a reset does. Both sides
//   ignore edits of an earlier generation, because they can arrive after the reset.

/**
 * The shared traits. JSON has no NaN and no infinity: such a value is null.
 * @typedef {"toggle" | "move" | "type" | "choose"} Action
 * @typedef {{svg: string, alt: string, selected: string, columns: number,
 *   actions: Record<string, Action>, limits: Record<string, number>, names: Record<string, string>,
 *   values: Record<string, number | string | null>, acknowledged: number, generation: number,
 *   edits: {id: number, generation: number, values: Record<string, number | string>},
 *   error: {message: string, traceback: string}}} State
 * @typedef {(event: string, callback: () => void) => void} Listen
 * @typedef {{get: <K extends keyof State>(name: K) => State[K], on: Listen, off: Listen,
 *   set: <K extends keyof State>(name: K, to: State[K]) => void, save_changes: () => void}} Model
 * @typedef {ReturnType<typeof createEdits>} Edits
 * @typedef {ReturnType<typeof createLens>} Lens
 * @typedef {ReturnType<typeof createPicture>} Picture
 * @typedef {ReturnType<typeof createBoxes>} Boxes
 */

const CELL = "g[data-key]:has(> rect)"; // selects the framed values, which can have focus
const CELL_WIDTH = 8; // px of one character, as in the SVG
const LENS = "lens";
const DRAG_STEP = 0.01; // change per px
const DRAG_THRESHOLD = 3; // px, below which a drag is a click
const SETTLE_DELAY = 700; // ms after the last picture until it is announced and highlights fade
const ANSWER_TIMEOUT = 5000; // ms
const REDUCED_MOTION = window.matchMedia("(prefers-reduced-motion: reduce)");
const NO_ANSWER = { traceback: "", message: "The kernel has not answered for 5 seconds. " +
  "It may be busy with another cell. If it was restarted or stopped, run this cell again." };
const NO_PYTHON = { traceback: "", message: "This page has no Python behind it, so the picture " +
  "can't follow the controls. To change it, open the notebook in JupyterLab and run it." };
// An exported page has the state of its widgets in this element; a page with a kernel has none.
const EXPORT = "script[type='application/vnd.jupyter.widget-state+json']";
const CONTROL = "input, select, button, .widget-slider";
/** @type {Record<string, number>} */
const KEY_STEPS = { "+": 0.1, "=": 0.1, "-": -0.1, _: -0.1 };
const LENS_HINT = "To see other tokens, click in the overview, drag its frame, or press Page Up or " +
  "Page Down; with Shift, other rows.";
/** @type {Record<string, number>} */
const PAGES = { PageUp: -1, PageDown: 1 };
/** @type {Record<string, number[]>} */
const DIRECTIONS = {
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
  Home: [-1, 0], End: [1, 0], // to the last cell in that direction
};
/** @type {Record<string, string>} */
const LABELS = { // of quantities that have a value for each token
  policy_log_probs: "log-prob", masked_log_probs: "masked log-prob", response_mask: "mask",
  logits: "logit", labels: "label", probs: "probability",
  grad: "gradient", logits_grad: "gradient of the logit",
};

/** @type {Record<Action, string>} */
const ROLES = { toggle: "checkbox", move: "button", choose: "radio", type: "presentation" };

/** @param {string} key */
function parse(key) {
  const [quantity, index] = key.replace("]", "").split("[");
  return { quantity, index: index ? index.split(",") : [] };
}

/** Whether two keys are about the same token; about the same quantity, if one has no index.
 * The entries of a token's vector belong to the token, and `:` matches every index.
 * @param {string} one @param {string} other */
function areLinked(one, other) {
  const [a, b] = [parse(one), parse(other)];
  if (!a.index.length || !b.index.length) return a.quantity === b.quantity;
  return a.index.every((at, i) => at === ":" || [at, ":", undefined].includes(b.index[i]));
}

/** @param {Element | null | undefined} element */
const keyOf = (element) => element?.getAttribute("data-key") ?? "";
/** @param {EventTarget | null} target @param {string} selector @returns {SVGGElement | null} */
const closest = (target, selector) => (target instanceof Element ? target.closest(selector) : null);
/** @param {HTMLElement} el */
const explorerOf = (el) => el.closest(".sftviz-explorer") ?? el;
/** @param {Model} model @param {string} key */
const actionOf = (model, key) => model.get("actions")[parse(key).quantity];

/** Which of several a cell stands for, and the key of the value that they share.
 * @param {string} key */
function choiceOf(key) {
  const { quantity, index } = parse(key);
  return { key: `${quantity}[${index.slice(0, -1)}]`, place: Number(index.at(-1)) };
}

/** All values sent in one event go in one message. @template {keyof State} K
 * @param {Model} model @param {K} name @param {State[K]} value */
function send(model, name, value) {
  model.set(name, value);
  queueMicrotask(() => model.save_changes());
}

/** Edits: the values that a person has changed and the kernel has not acknowledged. They are in the
 * model, which all views share. Sends `edits`; calls `onStatus` when `isOverdue` may have changed.
 * @param {Model} model @param {() => void} onStatus @param {AbortSignal} signal */
function createEdits(model, onStatus, signal) {
  let timer = 0, isOverdue = false;

  /** @returns {Record<string, number | string>} */
  const pending = () =>
    model.get("edits").generation === model.get("generation") ? model.get("edits").values : {};
  /** @param {string} key */
  const find = (key) => pending()[key] ?? model.get("values")[key];

  /** Change a value, to a hundredth and up to its limit. @param {string} key @param {number} to */
  function set(key, to) {
    const limit = model.get("limits")[parse(key).quantity] ?? Infinity;
    put(key, Math.min(limit, Math.round(to * 100) / 100));
  }

  /** @param {string} key @param {number | string} value */
  function put(key, value) {
    if (value !== find(key)) submit({ ...pending(), [key]: value });
  }

  /** Send edits; without values, ask whether the kernel is there. Edits that it has not acknowledged
   * yet ask the same: sent again, they could undo what a control did since.
   * @param {Record<string, number | string>} values */
  function submit(values) {
    if (Object.keys({ ...values, ...pending() }).length === Object.keys(values).length)
      send(model, "edits", { id: Math.random(), generation: model.get("generation"), values });
    clearTimeout(timer);
    timer = setTimeout(setOverdue, ANSWER_TIMEOUT, true);
  }

  /** @param {boolean} value */
  function setOverdue(value) {
    isOverdue = value;
    onStatus();
  }

  function onAcknowledged() {
    const { id, generation } = model.get("edits");
    if (id !== model.get("acknowledged")) return;
    model.set("edits", { id, generation, values: {} });
    clearTimeout(timer);
    setOverdue(false);
  }

  signal.addEventListener("abort", () => clearTimeout(timer));
  const get = (/** @type {string} */ key) => Number(find(key) ?? 0);
  const text = (/** @type {string} */ key) => String(find(key) ?? "");
  return { get, set, text, put, ask: () => submit({}), onAcknowledged, isOverdue: () => isOverdue };
}

/** Lens: moves the frame over the overview. It is moved by edits, so the kernel keeps it inside.
 * @param {Model} model @param {Edits} edits */
function createLens(model, edits) {
  /** @param {string} name @returns {number} */
  const read = (name) => edits.get(`${LENS}[${name}]`);
  const isThere = () => `${LENS}[row]` in model.get("values");

  /** Show others from a row or a column on. @param {"row" | "column"} name @param {number} to */
  function put(name, to) {
    const last = read(`all ${name}s`) - read(`${name}s`);
    edits.set(`${LENS}[${name}]`, Math.max(0, Math.min(last, Math.round(to))));
  }

  /** Move by a number of rows or columns. @param {"row" | "column"} name @param {number} by */
  const move = (name, by) => put(name, read(name) + by);
  /** Move by all that is shown. @param {"row" | "column"} name @param {number} sign */
  const turn = (name, sign) => move(name, sign * read(`${name}s`));

  /** Put its middle at a point of the page. @param {Element} area the overview
   * @param {number} x @param {number} y */
  function centre(area, x, y) {
    const box = area.getBoundingClientRect();
    put("column", (x - box.left) / box.width * read("all columns") - read("columns") / 2);
    put("row", (y - box.top) / box.height * read("all rows") - read("rows") / 2);
  }
  return { isThere, put, move, turn, centre };
}

/** Picture: the SVG, with focus, highlights and names for screen readers; the panel for errors.
 * Changes only the content of `el`, and sends `selected`.
 * @param {Model} model @param {HTMLElement} el @param {AbortSignal} signal */
function createPicture(model, el, signal) {
  el.classList.add("sftviz-live");
  el.innerHTML = `<div class="sftviz-error" role="alert" hidden>
      <p></p><details><summary>Traceback</summary><pre></pre></details></div>
    <p class="sftviz-hint" hidden>${LENS_HINT}</p>
    <div class="sftviz-picture" role="group" tabindex="-1"></div><div class="sftviz-status" role="status"></div>`;
  /** @type {HTMLElement[]} */
  const [alert, message, details, , trace, hint, element, status] =
    Array.from(el.querySelectorAll("*"));

  let current = ""; // key of the only cell in the tab order; another may have the same key
  let hovered = ""; // key under the pointer
  let announced = model.get("alt");
  let timer = 0;
  let lensAt = ""; // where the lens was in the picture that is shown
  /** @type {string[]} */ let shown = []; // the SVG: its opening tag, then its groups

  /** @param {string} selector @returns {SVGGElement[]} */
  const all = (selector) => Array.from(element.querySelectorAll(selector));
  const cells = () => all(CELL).filter((cell) => actionOf(model, keyOf(cell)) !== "type");
  /** @param {string} key */
  const cellOf = (key) => cells().find((cell) => keyOf(cell) === key);
  const hasFocus = () => element.querySelector("svg")?.contains(document.activeElement) ?? false;

  /** Mark what is linked to the value under the pointer, or else in focus; and its stages. */
  function markLinked() {
    const key = hovered || (hasFocus() ? current : "");
    /** @type {Element | undefined} */ let badge;
    for (const part of all(".badge, [data-key]")) {
      const isLinked = key !== "" && keyOf(part) !== "" && areLinked(key, keyOf(part));
      part.classList.toggle("linked", isLinked);
      if (isLinked) badge?.classList.add("linked");
      if (part.matches(".badge")) badge = part;
    }
  }

  /** @param {Element | null} part */
  function hover(part) {
    hovered = keyOf(part);
    markLinked();
  }

  /** @param {SVGGElement | null} cell */
  function select(cell) {
    if (!cell) return;
    cell.focus({ preventScroll: true });
    for (const stop of all("[tabindex='0']")) stop.setAttribute("tabindex", "-1");
    cell.setAttribute("tabindex", "0");
    current = keyOf(cell);
    markLinked();
    send(model, "selected", current);
  }

  /** Set what screen readers and the stylesheet need. @param {SVGGElement} cell */
  function describe(cell) {
    const key = keyOf(cell);
    if (!cell.hasAttribute("tabindex")) cell.setAttribute("tabindex", "-1");
    if (key === LENS) return describeLens(cell);
    const { quantity, index } = parse(key);
    const action = actionOf(model, key);
    const axes = ["row", quantity in LABELS ? "token" : "column", "entry"];
    const place = index.map((at, axis) => `${axes[axis]} ${Number(at) + 1}, `).join("");
    const name = `${LABELS[quantity] ?? quantity.replaceAll("_", " ")} ${cell.textContent}`;
    const isMasked = quantity !== "response_mask" && cell.matches(".masked");
    const choice = choiceOf(key);
    const isChecked = action === "choose" ? model.get("values")[choice.key] === choice.place
      : model.get("values")[key] === 1;
    cell.setAttribute("aria-label",
      model.get("names")[key] ?? place + name + (isMasked ? ", masked" : ""));
    cell.setAttribute("role", action ? ROLES[action] : "img");
    if (action) cell.setAttribute("data-action", action);
    if (action === "toggle" || action === "choose")
      cell.setAttribute("aria-checked", String(isChecked));
    if (action === "move") cell.setAttribute("aria-keyshortcuts", "Plus -");
  }

  /** @param {SVGGElement} lens */
  function describeLens(lens) {
    const values = model.get("values");
    const [rows, columns] = ["row", "column"].map((name) => {
      const [first, count, most] =
        [name, `${name}s`, `all ${name}s`].map((at) => Number(values[`${LENS}[${at}]`] ?? 0));
      return { first: first + 1, last: first + count, most };
    });
    const text = `tokens ${columns.first} to ${columns.last} of ${columns.most}, ` +
      `rows ${rows.first} to ${rows.last} of ${rows.most}`;
    const attributes = {
      role: "slider", "aria-label": "lens", "aria-valuetext": text, "data-action": "slide",
      "aria-valuemin": 1, "aria-valuemax": columns.most, "aria-valuenow": columns.first,
      "aria-keyshortcuts": "PageUp PageDown Shift+PageUp Shift+PageDown",
    };
    for (const [name, value] of Object.entries(attributes)) lens.setAttribute(name, String(value));
  }

  /** Replace a group; highlight a new value. @param {Element} group @param {string} markup */
  function replace(group, markup) {
    const template = document.createElement("template");
    template.innerHTML = `<svg>${markup}`;
    const next = /** @type {Element} */ (template.content.querySelector("g"));
    const isSameKey = keyOf(next) !== "" && keyOf(next) === keyOf(group);
    const isNew = isSameKey && next.textContent !== group.textContent;
    const isValue = !["", "…"].includes(next.textContent ?? ""); // which stand for one to come
    next.classList.toggle("lit", isNew && isValue && !REDUCED_MOTION.matches);
    if (isSameKey && group.matches("[tabindex='0']")) next.setAttribute("tabindex", "0");
    group.replaceWith(next);
  }

  /** Show the new SVG. Equal groups stay in the page, because layout and paint are slow. */
  function draw() {
    const parts = model.get("svg").split(/(?=<g )/);
    const isAlike = parts.length === shown.length && parts[0] === shown[0];
    const hadFocus = hasFocus();
    const place = cells().findIndex((cell) => cell.matches("[tabindex='0']"));
    if (!isAlike) {
      element.querySelector("svg")?.remove();
      element.insertAdjacentHTML("afterbegin", model.get("svg"));
    } else all("g").forEach((group, i) => {
      if (parts[i + 1] !== shown[i + 1]) replace(group, parts[i + 1]);
    });
    shown = parts;
    const { "lens[row]": row, "lens[column]": column } = model.get("values");
    hint.hidden = row === undefined;
    // When the lens moves, the focus stays at its place, and so it is on another token.
    if (lensAt !== `${row},${column}` && current !== LENS && isAlike)
      current = keyOf(cells()[place]) || current;
    lensAt = `${row},${column}`;
    if (!cellOf(current))
      current = keyOf(cells().find((cell) => actionOf(model, keyOf(cell))) ?? cells()[0]);
    cells().filter((cell) => !cell.matches("[role]")).forEach(describe);
    const cell = all("[tabindex='0']")[0] ?? cellOf(current);
    cell?.setAttribute("tabindex", "0");
    if (hadFocus) cell?.focus({ preventScroll: true });
    markLinked();
    element.setAttribute("aria-label", model.get("alt"));
    clearTimeout(timer);
    timer = setTimeout(onSettled, SETTLE_DELAY);
  }

  /** Announce what is new, if the focus is in this explorer, and let highlights fade. */
  function onSettled() {
    const isNew = announced !== model.get("alt");
    announced = model.get("alt");
    if (isNew && explorerOf(el).contains(document.activeElement)) status.textContent = announced;
    for (const part of all(".lit")) part.classList.replace("lit", "fading");
  }

  /** @param {State["error"]} error @param {boolean} isStale whether the picture is out of date */
  function showError(error, isStale) {
    alert.hidden = error.message === "";
    message.textContent = error.message;
    trace.textContent = error.traceback;
    details.hidden = error.traceback === "";
    element.classList.toggle("stale", isStale);
  }

  element.addEventListener("focusout", markLinked);
  element.addEventListener("pointerover", ({ target }) => hover(closest(target, "[data-key]")));
  element.addEventListener("pointerleave", () => hover(null));
  signal.addEventListener("abort", () => clearTimeout(timer));
  return { element, all, cells, cellOf, select, draw, showError, current: () => current };
}

/** Boxes: an input over each cell into which a number is typed. It has what a cell has not: a caret,
 * paste, the keyboard of a touch screen, a role that screen readers know.
 * Changes only the boxes in the picture; calls `edits`.
 * @param {Model} model @param {Picture} picture @param {Edits} edits @param {AbortSignal} signal */
function createBoxes(model, { element, all }, edits, signal) {
  /** @type {Map<string, HTMLInputElement>} */ const boxes = new Map(); // by the key of the cell

  /** @param {string} key */
  function create(key) {
    const box = document.createElement("input");
    // Not inputmode="decimal": on some touch screens that keyboard has no minus.
    Object.assign(box, { className: "sftviz-box", maxLength: 32, placeholder: "?" });
    box.autocomplete = "off";
    box.setAttribute("aria-label", model.get("names")[key] ?? key);
    /** @param {number} from @param {number} by */
    function change(from, by) {
      box.value = String(Math.round((from + by) * 100) / 100);
      edits.put(key, box.value);
    }
    const read = () => Number(box.value.replace("−", "-")) || 0;

    let press = { id: NaN, y: 0, value: 0, isDrag: false };
    box.addEventListener("input", () => edits.put(key, box.value));
    box.addEventListener("keydown", (event) => {
      if (event.key === "Enter") finish();
      if (event.key === "ArrowUp" || event.key === "ArrowDown") {
        event.preventDefault(); // or the caret would move
        change(read(), event.key === "ArrowUp" ? 0.1 : -0.1);
      }
    });
    box.addEventListener("pointerdown", ({ button, pointerId: id, clientY: y }) => {
      if (button) return;
      press = { id, y, value: read(), isDrag: false };
      box.setPointerCapture(id);
    });
    box.addEventListener("pointermove", ({ pointerId, clientY }) => {
      if (press.id !== pointerId) return;
      const up = press.y - clientY;
      press.isDrag ||= Math.abs(up) > DRAG_THRESHOLD;
      if (!press.isDrag) return; // but perhaps the selection of text
      change(press.value, up * DRAG_STEP);
      box.setSelectionRange(box.value.length, box.value.length);
    });
    box.addEventListener("lostpointercapture", () => { press.id = NaN; });
    element.append(box);
    return box;
  }

  /** Go to the next empty box; without one, commit. */
  function finish() {
    const empty = [...boxes.values()].find((box) => !box.value.trim());
    if (empty) empty.focus();
    else edits.put("commit", 1);
  }

  /** Put a box over each cell of the picture, and show its text. */
  function place() {
    const cells = all(CELL).filter((cell) => actionOf(model, keyOf(cell)) === "type");
    const keys = cells.map(keyOf);
    for (const [key, box] of boxes) {
      if (keys.includes(key)) continue;
      box.remove();
      boxes.delete(key);
    }
    if (!cells.length) return; // where things are is slow to ask
    const { left, top } = element.getBoundingClientRect();
    cells.forEach((cell, i) => {
      cell.setAttribute("data-action", "type");
      cell.setAttribute("aria-hidden", "true");
      const box = boxes.get(keys[i]) ?? create(keys[i]);
      boxes.set(keys[i], box);
      const frame = /** @type {Element} */ (cell.firstElementChild).getBoundingClientRect();
      box.style.left = `${frame.left - left + element.scrollLeft}px`;
      box.style.top = `${frame.top - top}px`;
      box.style.width = `${frame.width}px`;
      box.style.height = `${frame.height}px`;
      box.style.fontSize = `${13 / 18 * frame.height}px`; // as large as the letters of the picture
      box.value = edits.text(keys[i]); // an equal text leaves the caret where it is
    });
  }

  const sizes = new ResizeObserver(place);
  sizes.observe(element);
  signal.addEventListener("abort", () => sizes.disconnect());
  return { place };
}

/** Pointer and keys: click, paint, drag, move from cell to cell, and move the lens.
 * Listens on the picture. Changes nothing itself: it calls `edits`, `lens` and `picture.select`.
 * @param {Model} model @param {Picture} picture @param {Edits} edits @param {Lens} lens */
function listenToInput(model, { element, all, cells, cellOf, select, current }, edits, lens) {
  // The pressed pointer (NaN: none), its last place, and the value to paint or to add a drag to.
  // Of a drag of the lens, the place is that of the press, relative to the middle of the frame.
  let gesture = { id: NaN, x: 0, y: 0, key: "", value: 0, isDrag: false };

  /** Select the nearest cell in a direction; beyond the last token, move the lens by one.
   * @param {string} key one of DIRECTIONS */
  function go(key) {
    const [x, y] = DIRECTIONS[key];
    if (current() === LENS && x) {
      if (key.startsWith("Arrow")) lens.move("column", x);
      else lens.put("column", x * Infinity);
      return;
    }
    const boxOf = (/** @type {Element} */ group) => { // without the stroke, wider with focus
      const rect = /** @type {SVGRectElement} */ (group.querySelector("rect"));
      return rect.getBBox();
    };
    const places = cells().map((cell) => {
      const box = boxOf(cell);
      return { cell, right: box.x + box.width, top: box.y };
    });
    const at = places.findIndex(({ cell }) => cell.matches("[tabindex='0']"));
    const from = places[at];
    if (!from) return;
    const card = all(".card").map(boxOf).find((box) =>
      from.right > box.x && from.right <= box.x + box.width &&
      from.top >= box.y && from.top < box.y + box.height);
    const isBeside = (/** @type {{right: number}} */ { right }) => // in another column of cards
      card !== undefined && (right <= card.x || right > card.x + card.width);
    const isArrow = key.startsWith("Arrow");
    const ahead = places
      .filter((place) => (x && isArrow) || !isBeside(place))
      .map(({ cell, right, top }) => ({ cell, across: right - from.right, down: top - from.top }))
      .filter(({ across, down }) => (y ? down * y > 0 : down === 0 && across * x > 0))
      .sort((a, b) => (a.down - b.down) * y || Math.abs(a.across) - Math.abs(b.across));
    // Above and below a column of cards, the one before it and after it go on.
    const beyond = y > 0 ? places.slice(at + 1).find(isBeside)
      : y < 0 ? places.slice(0, at).findLast(isBeside) : undefined;
    const next = (ahead.at(isArrow ? 0 : -1) ?? beyond)?.cell;
    const isToken = parse(current()).index.length > 0;
    if (!next && x && isToken && isArrow && lens.isThere()) lens.move("column", x);
    if (!next) return;
    select(next);
    next.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** @param {string} key */
  function choose(key) {
    const choice = choiceOf(key);
    edits.set(choice.key, choice.place);
  }

  /** The cell of an option whose text was clicked. @param {EventTarget | null} target */
  function optionOf(target) {
    const key = keyOf(closest(target, "[data-key]"));
    return actionOf(model, key) === "choose" ? cellOf(key) : undefined;
  }

  /** Where a point is, relative to the middle of the frame; in the middle, if it is outside.
   * @param {number} x @param {number} y */
  function fromMiddle(x, y) {
    const frame = element.querySelector(".area + rect");
    const box = /** @type {Element} */ (frame).getBoundingClientRect();
    const isInside = x >= box.left && x <= box.right && y >= box.top && y <= box.bottom;
    return isInside ? { x: x - (box.left + box.right) / 2, y: y - (box.top + box.bottom) / 2 }
      : { x: 0, y: 0 };
  }

  /** Move the lens to a pointer. @param {PointerEvent} event */
  function drag({ clientX, clientY }) {
    const area = element.querySelector(".area");
    if (area) lens.centre(area, clientX - gesture.x, clientY - gesture.y);
  }

  element.addEventListener("keydown", (event) => {
    const { key, ctrlKey, metaKey, altKey, shiftKey, target } = event;
    if (ctrlKey || metaKey || altKey || closest(target, "input")) return;
    const isTurn = key in PAGES && lens.isThere();
    if (isTurn) lens.turn(shiftKey ? "row" : "column", PAGES[key]);
    const [action, value] = [actionOf(model, current()), edits.get(current())];
    const isPress = key === " " || key === "Enter";
    if (key in KEY_STEPS && action === "move") edits.set(current(), value + KEY_STEPS[key]);
    if (isPress && action === "toggle") edits.set(current(), 1 - value);
    if (isPress && action === "choose") choose(current());
    if (key in DIRECTIONS) go(key);
    if (isPress || isTurn || key in DIRECTIONS) event.preventDefault(); // or the page would scroll
  });
  element.addEventListener("focusin", ({ target }) => select(closest(target, CELL)));
  element.addEventListener("pointerdown", (event) => {
    const { button, pointerId: id, clientX: x, clientY: y, target } = event;
    const cell = closest(target, CELL) ?? optionOf(target);
    if (!cell || button) return;
    event.preventDefault(); // or a drag would select text
    select(cell); // here too, because a window without focus has no focusin
    const key = current();
    const action = actionOf(model, key);
    if (key === LENS) {
      gesture = { ...gesture, id, ...fromMiddle(x, y), key };
      element.setPointerCapture(id);
      if (!gesture.x && !gesture.y) drag(event);
      return;
    }
    if (action === "choose") choose(key);
    if (!action || action === "choose") return;
    const value = action === "toggle" ? 1 - edits.get(key) : edits.get(key);
    gesture = { id, x, y, key, value, isDrag: false };
    element.setPointerCapture(id);
    if (action === "toggle") edits.set(key, value);
  });
  element.addEventListener("pointermove", (event) => {
    const { pointerId, clientX, clientY } = event;
    if (gesture.id !== pointerId) return;
    if (gesture.key === LENS) return drag(event);
    const { key, value, x, y } = gesture;
    const [across, down] = [clientX - x, clientY - y];
    if (actionOf(model, key) === "move") {
      gesture.isDrag ||= Math.abs(down) > DRAG_THRESHOLD;
      if (gesture.isDrag) edits.set(key, value - down * DRAG_STEP);
      return;
    }
    // A fast pointer skips cells: paint those on the line from its last place.
    const steps = Math.ceil(Math.hypot(across, down) / CELL_WIDTH);
    for (let step = 1; step <= steps; step++) {
      const part = step / steps;
      const target = document.elementFromPoint(x + across * part, y + down * part);
      const under = element.contains(target) ? keyOf(closest(target, CELL)) : "";
      if (actionOf(model, under) === "toggle") edits.set(under, value);
    }
    gesture = { ...gesture, x: clientX, y: clientY };
  });
  element.addEventListener("lostpointercapture", ({ pointerId }) => {
    if (gesture.id === pointerId) gesture.id = NaN;
  });
}

/** Front end: keep keys from the notebook, name and watch the controls, report the width, and keep
 * the focus. Changes attributes in the explorer around `el`, and sends `columns`. Calls `onControl`
 * when a control was used, with a sentence if it does not keep what was typed.
 * @param {Model} model @param {HTMLElement} el @param {HTMLElement} picture
 * @param {AbortSignal} signal @param {(note: string) => void} onControl */
function adaptFrontEnd(model, el, picture, signal, onControl) {
  /** @type {EventTarget | null} */ let focused = null; // what had focus last

  /** Keep a key from the notebook, where `b` inserts a cell; not Ctrl+S from the application. */
  function keepKey(/** @type {Event} */ event) {
    const { key, ctrlKey, metaKey, target } = /** @type {KeyboardEvent} */ (event);
    if (!(target instanceof Element) || !explorerOf(el).contains(target)) return;
    const isKept = !(ctrlKey || metaKey) || !/^[^myz]$/i.test(key);
    // Notebook 7 listens before the explorer does, but ignores elements with this attribute.
    target.toggleAttribute("data-lm-suppress-shortcuts", isKept);
    if (isKept && event.eventPhase === Event.BUBBLING_PHASE) event.stopPropagation();
  }

  /** Report the use of a control, and whether it keeps what was typed. */
  function watch(/** @type {Event} */ event) {
    const { type, key, target } = /** @type {KeyboardEvent} */ (event);
    if (key === "Tab" || !closest(target, CONTROL) || closest(target, ".sftviz-picture"))
      return;
    const box = /** @type {HTMLInputElement} */ (target);
    const read = () => box.value ?? box.textContent;
    const [typed, isEnd] = [read(), key === "Enter" || type === "change"];
    setTimeout(() => { // after the control's own reaction and message
      const name = box.parentElement?.querySelector("label")?.textContent;
      if (!isEnd) onControl("");
      else if (typed !== read() && Number(typed) !== Number(read()))
        onControl(`${name} can't be set to ${typed || "that"} here, so it is ${read()}. ` +
          "Every value that is allowed can be set from Python.");
    });
  }

  /** The front end does nothing when a number that was typed beside a slider is left. */
  function enter(/** @type {Event} */ { target }) {
    const key = { key: "Enter", keyCode: 13, bubbles: true };
    target?.dispatchEvent(new KeyboardEvent("keydown", key));
  }

  function onFocus(/** @type {Event} */ { target }) {
    focused = target;
  }

  /** Adapt the explorer, which is there only after `render`; to repeat this changes nothing. */
  function adapt() {
    const explorer = explorerOf(el);
    explorer.addEventListener("keydown", keepKey, { signal });
    explorer.addEventListener("focusin", onFocus, { signal });
    if (focused instanceof Element && !focused.isConnected) { // it was removed
      focused = null;
      if (document.activeElement === document.body) picture.focus({ preventScroll: true });
    }
    for (const type of ["pointerdown", "keydown", "input", "click", "change"])
      explorer.addEventListener(type, watch, { capture: true, signal });
    mutations.observe(explorer, { childList: true, subtree: true, attributeFilter: ["class"] });
    for (const slider of explorer.querySelectorAll(".widget-slider")) {
      // The front end shows a label beside it, but does not name what can have focus.
      const name = slider.querySelector("label")?.textContent ?? "";
      for (const part of slider.querySelectorAll(".noUi-handle, .widget-readout"))
        part.setAttribute("aria-label", name);
      const readout = slider.querySelector(".widget-readout");
      readout?.setAttribute("role", "textbox");
      readout?.addEventListener("blur", enter, { signal });
    }
    for (const button of explorer.querySelectorAll(".widget-toggle-button"))
      button.setAttribute("aria-pressed", String(button.classList.contains("mod-active")));
    for (const icon of explorer.querySelectorAll("button > .fa:only-child")) // `fa fa-play`
      icon.parentElement?.setAttribute("aria-label", icon.className.replaceAll(/fa[ -]/g, ""));
  }

  const mutations = new MutationObserver(adapt);
  const sizes = new ResizeObserver(([{ contentRect }]) => {
    if (!contentRect.width) return; // hidden
    adapt();
    send(model, "columns", Math.floor(contentRect.width / CELL_WIDTH) - 2);
  });
  sizes.observe(el);
  window.addEventListener("keydown", keepKey, { capture: true, signal });
  signal.addEventListener("abort", () => [mutations, sizes].forEach((all) => all.disconnect()));
}

/** @param {{model: Model, el: HTMLElement}} context */
function render({ model, el }) {
  const controller = new AbortController();
  const { signal } = controller;
  const noAnswer = document.querySelector(EXPORT) ? NO_PYTHON : NO_ANSWER;
  let note = ""; // about the control that was used last
  function showError() {
    const error = edits.isOverdue() ? noAnswer : model.get("error");
    const isError = error.message !== "";
    picture.showError(isError ? error : { message: note, traceback: "" }, isError);
  }
  const picture = createPicture(model, el, signal);
  const edits = createEdits(model, showError, signal);
  const boxes = createBoxes(model, picture, edits, signal);
  function draw() {
    picture.draw();
    boxes.place();
  }
  /** @type {Listen} */
  function on(event, callback) {
    model.on(event, callback);
    signal.addEventListener("abort", () => model.off(event, callback));
  }
  on("change:svg", draw);
  on("change:values", boxes.place);
  on("change:acknowledged", edits.onAcknowledged);
  on("change:error", showError);
  edits.onAcknowledged();
  draw();
  showError();
  listenToInput(model, picture, edits, createLens(model, edits));
  adaptFrontEnd(model, el, picture.element, signal, (text) => {
    note = text;
    showError();
    edits.ask();
  });
  return () => controller.abort();
}

export default { render };
