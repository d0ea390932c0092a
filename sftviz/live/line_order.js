// Lines of code that are put in order: by drag and drop, with the arrow keys, or with buttons.
//
// A line is named by its place in `lines`. The page writes `placed`, the lines of the order from
// top to bottom, each [line, level], and `asked` when a person wants an answer; the kernel writes
// `answer`. A drag changes only what is shown, and is sent when it ends.

/**
 * @typedef {[line: number, level: number][]} Placed
 * @typedef {{id: number, outcome: string, mistake: string | null, message: string, where: string,
 *   numbers: {name: string, yours: string, right: string, same: boolean}[]}} Answer
 * @typedef {{text: string, lines: string[], deepest: number, placed: Placed,
 *   asked: {id: number, placed: Placed}, answer: Answer}} State
 * @typedef {(event: string, callback: () => void) => void} Listen
 * @typedef {{get: <K extends keyof State>(name: K) => State[K], on: Listen, off: Listen,
 *   set: <K extends keyof State>(name: K, to: State[K]) => void, save_changes: () => void}} Model
 */

const STEP = 28; // px of a level of indentation
const DRAG_THRESHOLD = 4; // px, below which a drag is a click
const ANSWER_TIMEOUT = 5000; // ms
const NO_ANSWER = "Python has not answered for 5 seconds. It may be busy with another cell. " +
  "If it was stopped, or if this page has none, open the notebook in JupyterLab and run this cell.";
/** @type {Record<string, string>} */
const SIGNS = { correct: "✓", wrong: "✗", error: "!", "not attempted": "…" };
/** The keys and buttons that move a line, and by how many lines and levels.
 * @type {Record<string, [name: string, down: number, deeper: number]>} */
const MOVES = {
  ArrowUp: ["↑ up", -1, 0],
  ArrowDown: ["↓ down", 1, 0],
  ArrowLeft: ["← out", 0, -1],
  ArrowRight: ["→ in", 0, 1],
};
const PAGE = `
  <p></p>
  <p class="hint">Drag a line to its place, to the right for a deeper block. Or choose a line with
    Tab, and move it with the arrow keys: → puts it into your order.</p>
  <div class="lists">
    <fieldset><legend>Lines</legend><ol data-empty="All lines are placed."></ol></fieldset>
    <fieldset><legend>Your order</legend><ol data-empty="Put lines here."></ol></fieldset>
  </div>
  <div class="buttons"></div>
  <div class="answer" hidden></div>
  <div class="said" role="status"></div>`;

/** @param {number} value @param {number} most */
const clamp = (value, most) => Math.max(0, Math.min(most, value));

/** @template {keyof HTMLElementTagNameMap} K @param {K} tag @param {string} text
 * @param {Partial<HTMLElementTagNameMap[K]>} rest */
const make = (tag, text, rest = {}) =>
  Object.assign(document.createElement(tag), { textContent: text, ...rest });

/** @param {{model: Model, el: HTMLElement}} context */
function render({ model, el }) {
  const controller = new AbortController();
  const { signal } = controller;
  el.classList.add("sftviz-order");
  el.innerHTML = PAGE;
  /** @param {string} selector @returns {HTMLElement[]} */
  const all = (selector) => Array.from(el.querySelectorAll(selector));
  const [text] = all("p"), [pool, order] = all("ol");
  const [buttons, answer, said] = all(".buttons, .answer, .said");
  const lines = model.get("lines");
  text.textContent = model.get("text");

  let placed = model.get("placed"); // what is shown
  let current = -1; // the line that the buttons move
  let timer = 0;
  /** @type {{line: number, x: number, y: number, left: number, before: Placed, isDrag: boolean}
   *  | null} */
  let drag = null;

  const items = lines.map((line, at) => {
    const item = make("li", "");
    const button = make("button", "", { type: "button" });
    button.append(make("span", "⠿", { className: "grip", ariaHidden: "true" }), make("code", line));
    button.addEventListener("focus", () => choose(at), { signal });
    button.addEventListener("click", () => indexOf(at) < 0 && place(at), { signal });
    item.append(button);
    return item;
  });
  /** @param {number} line @returns {HTMLElement} */
  const buttonOf = (line) => /** @type {HTMLElement} */ (items[line].firstElementChild);
  /** @param {number} line */
  const indexOf = (line) => placed.findIndex(([each]) => each === line);
  const unplaced = () => [...lines.keys()].filter((line) => indexOf(line) < 0);

  function draw() {
    const focused = el.contains(document.activeElement) ? document.activeElement : null;
    pool.replaceChildren(...unplaced().map((line) => items[line]));
    order.replaceChildren(...placed.map(([line]) => items[line]));
    items.forEach((item, line) => {
      const at = indexOf(line), level = at < 0 ? 0 : placed[at][1];
      item.style.setProperty("--level", String(level));
      buttonOf(line).ariaLabel = `${lines[line]}, ${where(at, level)}`;
      item.classList.toggle("current", line === current);
      item.classList.toggle("dragged", Boolean(drag?.isDrag) && line === drag?.line);
    });
    if (focused instanceof HTMLElement) focused.focus({ preventScroll: true }); // moving takes it
  }

  /** @param {number} at @param {number} level */
  const where = (at, level) =>
    at < 0 ? "not placed" : `line ${at + 1} of ${placed.length}, level ${level}`;

  /** @param {number} line */
  function choose(line) {
    current = line;
    items.forEach((item, at) => item.classList.toggle("current", at === line));
  }

  /** @param {Placed} to @param {string} sentence */
  function change(to, sentence = "") {
    placed = to;
    model.set("placed", to);
    model.save_changes();
    answer.hidden = true; // it was about another order
    draw();
    const at = indexOf(current);
    said.textContent = sentence || `${lines[current]}: ${where(at, placed[at]?.[1])}`;
  }

  /** The order with a line at a place. @param {number} line @param {number} at
   * @param {number} level @returns {Placed} */
  function withLine(line, at, level) {
    const rest = placed.filter(([each]) => each !== line);
    rest.splice(clamp(at, rest.length), 0, [line, clamp(level, model.get("deepest"))]);
    return rest;
  }

  /** Put a line at the end, as deep as an editor would. @param {number} line */
  function place(line) {
    const [last, level] = placed.at(-1) ?? [-1, 0];
    change(withLine(line, placed.length, level + Number(lines[last]?.endsWith(":") ?? false)));
  }

  /** @param {number} line @param {number} down @param {number} deeper */
  function move(line, down, deeper) {
    if (line < 0) return;
    const at = indexOf(line), level = placed[at]?.[1];
    if (at < 0) {
      const others = unplaced();
      if (deeper > 0) place(line);
      else buttonOf(others[clamp(others.indexOf(line) + down, others.length - 1)]).focus();
    } else if (deeper < 0 && level === 0) change(placed.filter(([each]) => each !== line));
    else change(withLine(line, at + down, level + deeper));
  }

  // Pointer

  /** @param {HTMLElement} list @param {number} x @param {number} y */
  function isOver(list, x, y) {
    const box = /** @type {HTMLElement} */ (list.parentElement).getBoundingClientRect();
    return x >= box.left && x <= box.right && y >= box.top && y <= box.bottom;
  }

  /** @param {PointerEvent} event */
  function onDown({ target, button, clientX: x, clientY: y, pointerType }) {
    if (!(target instanceof Element)) return;
    const line = items.findIndex((item) => item.contains(target));
    const isGrip = target.matches(".grip");
    if (line < 0 || button || (pointerType !== "mouse" && !isGrip)) return; // touch scrolls
    const left = x - buttonOf(line).getBoundingClientRect().left;
    drag = { line, x, y, left, before: placed, isDrag: false };
  }

  /** @param {PointerEvent} event */
  function onMove({ pointerId, clientX: x, clientY: y }) {
    if (!drag) return;
    if (!drag.isDrag) {
      if (Math.hypot(x - drag.x, y - drag.y) < DRAG_THRESHOLD) return;
      drag.isDrag = true;
      el.setPointerCapture(pointerId); // not earlier: a click would be one on `el`
      choose(drag.line);
    }
    const { line, left } = drag;
    if (isOver(order, x, y)) {
      const boxes = placed.filter(([each]) => each !== line)
        .map(([each]) => items[each].getBoundingClientRect());
      const at = boxes.filter((box) => y > box.top + box.height / 2).length;
      const level = Math.round((x - left - order.getBoundingClientRect().left) / STEP);
      placed = withLine(line, at, level);
    } else if (isOver(pool, x, y)) placed = placed.filter(([each]) => each !== line);
    draw();
  }

  /** @param {boolean} isKept */
  function onEnd(isKept) {
    if (!drag) return;
    const { isDrag, before, line } = drag;
    drag = null;
    if (!isDrag) return; // drawn now, the line would not get its click
    if (isKept) change(placed);
    else placed = before;
    draw();
    buttonOf(line).focus({ preventScroll: true });
  }

  // Keys

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    const { key, target, ctrlKey, metaKey } = event;
    if (!(target instanceof Element && el.contains(target))) return;
    // Ctrl+S is the application's; `b` would insert a cell. Notebook 7 listens before this does,
    // but ignores elements with the attribute.
    const isKept = !(ctrlKey || metaKey) || !/^[^myz]$/i.test(key);
    target.toggleAttribute("data-lm-suppress-shortcuts", isKept);
    if (event.eventPhase === Event.CAPTURING_PHASE) return;
    if (isKept) event.stopPropagation();
    if (key === "Escape") return onEnd(false);
    const line = items.findIndex((item) => item.contains(target));
    if (line < 0 || event.altKey || ctrlKey || metaKey) return;
    if (key in MOVES) move(line, MOVES[key][1], MOVES[key][2]);
    else if (key === "Delete" || key === "Backspace")
      change(placed.filter(([each]) => each !== line));
    else return;
    event.preventDefault(); // the page would scroll
  }

  // Answers

  function ask() {
    const asked = { id: Math.random(), placed };
    model.set("asked", asked);
    model.save_changes();
    clearTimeout(timer);
    timer = setTimeout(show, ANSWER_TIMEOUT, [make("p", NO_ANSWER)], NO_ANSWER);
  }

  function onAnswer() {
    const { id, outcome, mistake, message, where, numbers } = model.get("answer");
    if (id !== model.get("asked").id) return;
    clearTimeout(timer);
    if (JSON.stringify(model.get("asked").placed) !== JSON.stringify(placed)) return; // changed
    const title = `${SIGNS[outcome]} ${outcome}${mistake ? `: ${mistake}` : ""}`;
    /** @type {HTMLElement[]} */
    const parts = [make("p", title, { className: `outcome ${outcome}` })];
    parts.push(...message.split("\n").map((line) => make("p", line)));
    if (numbers.length) {
      const table = make("table", "", { ariaLabel: where });
      for (const { name, yours, right, same } of [
        { name: "", yours: "yours", right: "right", same: true }, ...numbers]) {
        const row = table.insertRow();
        row.append(make(name ? "th" : "td", name),
          ...[yours, right].map((value) => make(name ? "td" : "th", value)),
          make("td", same ? "" : "≠"));
      }
      parts.push(make("p", where, { className: "hint" }), table);
    }
    show(parts, `${outcome}. ${message}`);
  }

  /** @param {HTMLElement[]} parts @param {string} sentence */
  function show(parts, sentence) {
    answer.replaceChildren(...parts);
    answer.hidden = false;
    said.textContent = sentence;
  }

  for (const [name, down, deeper] of Object.values(MOVES)) {
    const button = make("button", name, { type: "button" });
    button.addEventListener("click", () => move(current, down, deeper), { signal });
    buttons.append(button);
  }
  for (const [name, action] of /** @type {[string, () => void][]} */ ([
    ["check", ask], ["reset", () => change([], "All lines are back.")]])) {
    const button = make("button", name, { type: "button", className: name });
    button.addEventListener("click", action, { signal });
    buttons.append(button);
  }
  el.addEventListener("pointerdown", onDown, { signal });
  el.addEventListener("pointermove", onMove, { signal });
  el.addEventListener("pointerup", () => onEnd(true), { signal });
  el.addEventListener("pointercancel", () => onEnd(false), { signal });
  window.addEventListener("keydown", onKey, { capture: true, signal });
  el.addEventListener("keydown", onKey, { signal });
  function onPlaced() {
    placed = model.get("placed");
    draw();
  }
  /** @type {[string, () => void][]} */
  const changes = [["change:placed", onPlaced], ["change:answer", onAnswer]];
  for (const change of changes) {
    model.on(...change);
    signal.addEventListener("abort", () => model.off(...change));
  }
  signal.addEventListener("abort", () => clearTimeout(timer));
  draw();
  return () => controller.abort();
}

export default { render };
