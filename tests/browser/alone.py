"""A live drawing on a page of its own: the module as it ships, with an explorer as its kernel.

Without Jupyter: messages go directly from the page to the explorer and back.
"""

from dataclasses import dataclass, field

from playwright.sync_api import Locator, Page

from sftviz.explorers.widget import LiveWidget
from sftviz.live.widget import LiveDrawing

# The traits that the kernel writes or restores; `edits` are written by the page alone.
SHARED = (
    *("svg", "alt", "actions", "values", "limits", "names"),
    *("acknowledged", "generation", "selected", "columns", "error"),
)

# The surroundings of a drawing in a notebook: controls above it, a notebook that listens for keys.
PAGE = """
<body data-jp-theme-light="true">
<style>body { margin: 0; } .widget-slider { display: flex; gap: 1em; }</style>
<button id="before">before</button>
<div id="notebook"></div>
<button id="after">after</button>
"""
EXPLORER = """
<div class="sftviz-explorer">
  <div class="widget-slider"><label>G</label>
    <div class="noUi-handle" role="slider" aria-valuenow="2" tabindex="0">o</div></div>
  <div class="widget-text"><label>c</label> <input type="number"></div>
  <div class="drawing"></div>
</div>
"""
SCRIPT = """
// The keys that reach a notebook: Notebook 7 listens before the explorer, JupyterLab after it. Both
// ignore elements with the attribute.
window.received = [];
const receive = (event) =>
  event.target.closest("[data-lm-suppress-shortcuts]") || received.push(event.key);
document.addEventListener("keydown", receive, { capture: true });
// Other listeners do not know the attribute.
document.addEventListener("keydown", (event) => received.push(event.key));

// Like the front end's model: one message is sent at a time. Of later changes of a trait only the
// last is sent, and until then the kernel's values of it are ignored as out of date.
window.Model = class {
  listeners = []; unsent = {}; isWaiting = false; isDead = false;
  constructor(state, kernel) { Object.assign(this, { state, kernel }); }
  get(name) { return this.state[name]; }
  set(name, value) {
    if (JSON.stringify(value) === JSON.stringify(this.state[name])) return;
    this.state[name] = this.unsent[name] = value;
  }
  async save_changes() {
    if (this.isWaiting || this.isDead) return;
    this.isWaiting = true;
    while (Object.keys(this.unsent).length) {
      const message = this.unsent;
      this.unsent = {};
      for (const state of await this.kernel(message)) this.take(state);
    }
    this.isWaiting = false;
  }
  take(state) {
    const isNew = ([name, value]) =>
      !(name in this.unsent) && JSON.stringify(value) !== JSON.stringify(this.state[name]);
    const news = Object.entries(state).filter(isNew);
    Object.assign(this.state, Object.fromEntries(news));
    for (const [name] of news)
      for (const [event, callback] of [...this.listeners])
        if (event === `change:${name}`) callback();
  }
  on(...listener) { this.listeners.push(listener); }
  off(...gone) {
    const isGone = (listener) => gone.every((part, i) => part === listener[i]);
    this.listeners = this.listeners.filter((listener) => !isGone(listener));
  }
};
window.show = async (model, explorer, code) => {
  document.querySelector("#notebook").insertAdjacentHTML("beforeend", explorer);
  const module = await import(`data:text/javascript;charset=utf-8,${encodeURIComponent(code)}`);
  const el = [...document.querySelectorAll(".drawing")].at(-1);
  return module.default.render({ model, el });
};
"""


@dataclass
class Alone:
    """A drawing shown on a page. `messages` are those that the page has sent."""

    page: Page
    explorer: LiveWidget
    place: Locator
    name: str  # of the model, in the page
    messages: list[dict] = field(default_factory=list)

    def cell(self, key: str) -> Locator:
        """The frame of a value."""
        return self.place.locator(f'g[data-key="{key}"]:has(> rect)')

    @property
    def linked(self) -> set[str]:
        """What is marked as linked, by key; a stage by its number."""
        return set(
            self.place.locator(".linked").evaluate_all(
                "all => all.map(one => one.dataset.key ?? one.textContent)"
            )
        )

    @property
    def edits(self) -> list[dict]:
        """The values that were changed on the page, one dictionary per message."""
        edits = [message["edits"]["values"] for message in self.messages if "edits" in message]
        return [values for values in edits if values]  # none: acknowledged edits were dropped

    def push(self) -> None:
        """Send the page the state of the kernel, as it is after a change from elsewhere."""
        self.page.evaluate(f"state => {self.name}.take(state)", self.state())

    def settled(self) -> None:
        """Wait until the page has nothing more to send."""
        self.page.wait_for_function(
            f"{self.name}.get('columns') > 0 && !{self.name}.isWaiting"
            f" && !Object.keys({self.name}.unsent).length"
        )

    def receive(self, message: dict) -> list[dict]:
        """Pass a message from the page to the explorer, and return the messages it sends back."""
        self.messages.append(message)
        live, news = self.explorer.live, []
        live._send = lambda message, buffers=None: news.append(message)
        live.set_state(message)
        del live._send
        return [message["state"] for message in news if message["method"] == "update"]

    def state(self) -> dict:
        return {name: getattr(self.explorer.live, name) for name in SHARED}


def prepare(page: Page) -> None:
    """Make a page that drawings can be shown in, like a notebook."""
    page.set_content(PAGE)
    page.add_style_tag(content=LiveDrawing._css)
    page.add_script_tag(content=SCRIPT)


def show(page: Page, explorer: LiveWidget, code: str) -> Alone:
    """Show an explorer's drawing below what the page shows already."""
    count = page.locator(".drawing").count()
    alone = Alone(page, explorer, page.locator(".drawing").nth(count), f"model{count}")
    page.expose_function(f"kernel{count}", alone.receive)
    page.evaluate(
        f"""async ([state, explorer, code]) => {{
            window.model{count} = new Model(state, kernel{count});
            window.dispose{count} = await show(model{count}, explorer, code);
        }}""",
        [alone.state() | {"edits": explorer.live.edits}, EXPLORER, code],
    )
    alone.settled()
    return alone
