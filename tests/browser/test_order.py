"""Lines that are put in order, on a page of their own with the problem as its kernel."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from sftviz.explorers.order import PutInOrder
from sftviz.live.line_order import LineOrder

from .alone import PAGE, SCRIPT

SHARED = ("text", "lines", "deepest", "placed", "asked", "answer")
RIGHT = (
    *("for window in windows:", "    optimizer.zero_grad()", "    for batch in window:"),
    *(
        "        log_probs = get_response",
        "        scaled_loss, metadata =",
        "    optimizer.step()",
    ),
)


class Shown:
    """A problem on a page."""

    def __init__(self, page: Page, problem: PutInOrder) -> None:
        self.page, self.problem = page, problem
        self.pool, self.order = page.locator("fieldset").all()
        self.answer = page.locator(".answer")

    def receive(self, message: dict) -> list[dict]:
        """Pass a message from the page to the problem, and return those that it sends back."""
        news: list[dict] = []
        self.problem._send = lambda message, buffers=None: news.append(message)
        self.problem.set_state(message)
        del self.problem._send
        return [message["state"] for message in news if message["method"] == "update"]

    def line(self, beginning: str) -> Locator:
        return self.page.locator("li button").filter(has_text=beginning.strip())

    @property
    def placed(self) -> list[str]:
        """The lines of the order, as the kernel has it."""
        self.page.wait_for_function("!model.isWaiting && !Object.keys(model.unsent).length")
        return self.problem.order.arrange(self.problem.placed).splitlines()

    def check(self) -> Locator:
        self.page.get_by_role("button", name="check").click()
        return self.answer


@pytest.fixture
def shown(page):
    """The loop on a page; there must be no error on it."""
    errors = []
    page.on("pageerror", lambda error: errors.append(error.message))
    problem = PutInOrder("loop")
    page.set_content(PAGE)
    page.add_style_tag(content=LineOrder._css)
    page.add_script_tag(content=SCRIPT)
    state = {name: getattr(problem, name) for name in SHARED}
    page.expose_function("kernel", lambda message: shown.receive(message))
    page.evaluate(
        """async ([state, code]) => {
            window.model = new Model(state, kernel);
            window.dispose = await show(model, "<div class='drawing'></div>", code);
        }""",
        [state, str(LineOrder._esm)],
    )
    shown = Shown(page, problem)
    yield shown
    assert errors == []


def box_of(line: Locator) -> tuple[float, float]:
    box = line.bounding_box()
    return box["x"], box["y"] + box["height"] / 2


def drag(line: Locator, x: float, y: float) -> None:
    """Pull a line by its left edge to a point of the page."""
    mouse = line.page.mouse
    left, middle = box_of(line)
    mouse.move(left + 5, middle)
    mouse.down()
    mouse.move(x + 5, y, steps=4)


def test_the_right_loop_is_built_with_keys(shown):
    page = shown.page
    for beginning in RIGHT:
        shown.line(beginning).focus()
        page.keyboard.press("ArrowRight")  # at the end, as deep as an editor would put it
    page.keyboard.press("ArrowLeft")
    expect(shown.line("optimizer.step()")).to_be_focused()
    said = page.get_by_role("status")
    expect(said).to_have_text("optimizer.step(): line 6 of 6, level 1")
    assert [line.startswith(start) for line, start in zip(shown.placed, RIGHT, strict=True)]
    expect(shown.check()).to_contain_text("✓ correct")
    expect(said).to_contain_text("correct. Each time that the optimizer steps")

    shown.line("optimizer.zero_grad()").focus()
    page.keyboard.press("ArrowDown")
    expect(shown.answer).to_be_hidden()  # it was about another order
    page.keyboard.press("ArrowRight")
    assert shown.placed[2] == "        optimizer.zero_grad()"
    expect(shown.check()).to_contain_text("✗ wrong: zero_grad after each microbatch")
    expect(shown.answer.get_by_role("row", name="grad[step 1]")).to_contain_text("0.9404")
    shown.line("optimizer.zero_grad()").focus()
    page.keyboard.press("Delete")
    assert len(shown.placed) == 5
    expect(said).to_have_text("optimizer.zero_grad(): not placed")
    assert page.evaluate("received") == []


def test_lines_are_put_in_order_by_mouse(shown):
    page = shown.page
    for beginning in RIGHT[:3]:
        shown.line(beginning).click()
    step = shown.line("optimizer.step()")
    left, top = box_of(shown.line("for window"))
    drag(step, left + 60, top + 60)
    page.mouse.up()
    assert shown.placed[2] == "        optimizer.step()"
    drag(step, left, top - 12)  # above the first line
    expect(shown.order.locator("li").first).to_contain_text("optimizer.step()")
    page.keyboard.press("Escape")
    page.mouse.up()
    assert shown.placed[2] == "        optimizer.step()"
    drag(step, *box_of(shown.pool.locator("li").first))
    page.mouse.up()
    assert [each.strip() for each in shown.placed] == [each.strip() for each in RIGHT[:3]]

    shown.line("optimizer.zero_grad()").click()
    page.get_by_role("button", name="→ in").click()
    assert shown.placed[1] == "        optimizer.zero_grad()"
    page.get_by_role("button", name="↑ up").click()
    assert shown.placed[0] == "        optimizer.zero_grad()"
    page.get_by_role("button", name="reset").click()
    assert shown.placed == []
    expect(shown.order.locator("li")).to_have_count(0)


def test_a_line_is_dragged_by_its_grip_on_a_touch_screen(shown):
    shown.page.set_viewport_size({"width": 420, "height": 1000})  # the lists are below each other
    touch = shown.page.context.new_cdp_session(shown.page)
    grip = shown.line("optimizer.step()").locator(".grip").bounding_box()
    x, y = grip["x"] + 8, grip["y"] + 8
    down = shown.order.bounding_box()["y"] + 30 - y
    moves = [{"x": x + 56 * part / 10, "y": y + down * part / 10} for part in range(11)]
    for kind, points in (
        ("touchStart", moves[:1]),
        *(("touchMove", [move]) for move in moves),
        ("touchEnd", []),
    ):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert shown.placed == ["        optimizer.step()"]


@pytest.mark.parametrize(("width", "is_light"), [(1280, "true"), (420, "false")])
def test_it_keeps_nobody_out(shown, width, is_light):
    page = shown.page
    page.set_viewport_size({"width": width, "height": 1200})
    page.evaluate(f"document.body.dataset.jpThemeLight = '{is_light}'")
    lines = shown.problem.lines
    placed = [[lines.index(each), 0] for each in ("optimizer.zero_grad()", "optimizer.step()")]
    page.evaluate("placed => model.take({ placed })", placed)  # as if it was set from Python
    expect(shown.order.locator("li")).to_have_count(2)
    expect(shown.check()).to_contain_text("The optimizer steps 1 time; there are 2 windows.")
    found = Axe().run(page, ".sftviz-order").response["violations"]
    assert [(rule["id"], node["html"]) for rule in found for node in rule["nodes"]] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_without_python_a_sentence_says_so(shown):
    page = shown.page
    page.clock.install(time=0)
    page.evaluate("model.isDead = true")
    page.get_by_role("button", name="check").click()
    page.clock.run_for(5000)
    expect(shown.answer).to_contain_text("Python has not answered for 5 seconds.")
