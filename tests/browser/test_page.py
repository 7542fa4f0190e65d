"""The pages in a browser: at two widths, in both colour schemes, with the mouse and with the keyboard alone."""

import re
import time
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select
from support.made_runs import EPOCHS, SCRIPT, loss

from seqjax.report.finding import Finding
from seqjax.report.page.findings import write_html

pytestmark = pytest.mark.slow

FULL, SHORT = "full (3 seeds)", "long & short (3 seeds)"


@pytest.fixture
def findings(tmp_path) -> Path:
    """The page of one script, with a wide table and a result that is not as expected."""
    script = tmp_path / "wide.py"
    script.write_text('"""How wide is it?   python wide.py\n\nAs wide as `it` is.\n"""\n')
    columns = [f"a_long_name_{n}" for n in range(30)]
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, ["---:"] * 30, ["1.25"] * 30)]
    table = "| what | got | expected | met |\n| --- | --- | --- | --- |\n| sum | 4 | = 3 | no |"
    head = "# How wide is it?\n\n    python wide.py\n\nAs wide as `it` is.\n"
    (tmp_path / "report.md").write_text(head + "\n" + table + "\n\n" + "\n".join(lines) + "\n")
    write_html([Finding(script, tmp_path, head, 0.0, 1.0, "one core")], tmp_path / "findings.html", "Findings")
    return tmp_path / "findings.html"


def buttons(browser):
    """The buttons of the legend by their text."""
    found = browser.find_elements(By.CSS_SELECTOR, "#legend button")
    return {button.text: button for button in found}


def drawn(browser) -> list[int]:
    """The indices of the variants whose curves are drawn."""
    return [
        int(group.get_attribute("data-variant")) for group in browser.find_elements(By.CSS_SELECTOR, "#chart .curve")
    ]


def shown_range(browser) -> tuple[float, float]:
    found = re.fullmatch(r"epoch ([\d.]+) to ([\d.]+)", browser.find_element(By.ID, "range").text)
    return float(found[1]), float(found[2])


def press(browser, *keys):
    ActionChains(browser).send_keys(*keys).perform()


def tab_to(browser, element):
    """Presses Tab until an element has the focus."""
    for _ in range(100):
        press(browser, Keys.TAB)
        if browser.switch_to.active_element == element:
            return
    raise AssertionError(f"Tab does not reach {element.text!r}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["page", "findings"])
def test_the_page_fits_the_window(visit, request, name, width, scheme):
    browser = visit(request.getfixturevalue(name), width, scheme)
    browser.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
    inner, scroll = browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
    assert scroll <= inner == width
    back, text = browser.execute_script(
        "const found = getComputedStyle(document.body); return [found.backgroundColor, found.color]"
    )
    is_dark = [sum(map(int, re.findall(r"\d+", colour)[:3])) < 300 for colour in (back, text)]
    assert is_dark == [scheme == "dark", scheme == "light"]


def test_the_curves_are_drawn_and_a_name_is_not_run(visit, page):
    browser = visit(page)
    assert drawn(browser) == [0, 1, 2]
    assert list(buttons(browser)) == [FULL, f"{SCRIPT} (3 seeds)", SHORT]
    assert len(browser.find_elements(By.CSS_SELECTOR, "script")) == 2
    label = browser.find_element(By.ID, "chart").get_attribute("aria-label")
    assert label.startswith("held-out perplexity by epoch: 3 of 3 variants, epoch 2 to 12.")


def test_a_script_that_was_not_escaped_would_not_run(visit, page, tmp_path):
    """The second line of defence: the policy of the page."""
    text = page.read_text("utf-8").replace("</main>", "<script>document.title = 'run'</script></main>")
    (tmp_path / "planted.html").write_text(text)
    browser = visit(tmp_path / "planted.html")
    assert browser.title == "9 runs of rnn on Text"
    (entry,) = browser.get_log("browser")
    assert "Content Security Policy" in entry["message"]


def test_a_variant_is_hidden_by_the_keyboard(visit, page):
    browser = visit(page)
    button = buttons(browser)[FULL]
    tab_to(browser, button)
    assert browser.execute_script("return getComputedStyle(arguments[0]).outlineStyle", button) == "solid"
    press(browser, Keys.ENTER)
    assert drawn(browser) == [1, 2]
    assert button.get_attribute("aria-pressed") == "false"
    press(browser, Keys.SPACE)
    assert drawn(browser) == [0, 1, 2]
    assert button.get_attribute("aria-pressed") == "true"
    browser.find_element(By.ID, "none").click()
    assert drawn(browser) == []
    browser.find_element(By.ID, "all").click()
    assert drawn(browser) == [0, 1, 2]


def test_the_keyboard_zooms(visit, page):
    browser = visit(page)
    assert shown_range(browser) == (2, EPOCHS)
    tab_to(browser, browser.find_element(By.ID, "from"))
    press(browser, *[Keys.PAGE_UP] * 5)
    low, high = shown_range(browser)
    assert 6 < low < 8
    assert high == EPOCHS
    browser.find_element(By.ID, "whole").click()
    assert shown_range(browser) == (2, EPOCHS)


def test_dragging_zooms_and_a_point_has_its_values(visit, page):
    browser = visit(page)
    chart = browser.find_element(By.ID, "chart")
    width = chart.size["width"]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    ActionChains(browser).move_to_element(chart).click_and_hold().move_by_offset(width // 4, 0).release().perform()
    low, high = shown_range(browser)
    assert 6.5 < low < 7.5
    assert 9 < high < 10.5
    ActionChains(browser).double_click(chart).perform()
    assert shown_range(browser) == (2, EPOCHS)
    # The last points are at the right end of the figure; that of "long & short" is the highest.
    x, y = browser.execute_script(
        "const box = document.querySelector('[data-variant=\"2\"] .points').getBoundingClientRect();"
        "const all = arguments[0].getBoundingClientRect();"
        "return [box.right - all.left - all.width / 2, box.bottom - all.top - all.height / 2]",
        chart,
    )
    ActionChains(browser).move_to_element_with_offset(chart, round(x) - 2, round(y) - 2).perform()
    assert re.match(
        r"long & short, epoch 12: \d\.\d+ \(\d\.\d+ to \d\.\d+\)$", browser.find_element(By.ID, "readout").text
    )


def test_the_metric_and_the_axis_are_chosen_and_the_table_has_the_values(visit, page):
    browser = visit(page)
    Select(browser.find_element(By.ID, "metric")).select_by_visible_text("training loss (nats), mean during the epoch")
    Select(browser.find_element(By.ID, "along")).select_by_visible_text("tokens")
    assert not browser.find_element(By.ID, "log").is_selected(), "a loss is drawn on a linear axis"
    label = browser.find_element(By.ID, "chart").get_attribute("aria-label")
    assert label.startswith(
        "training loss (nats), mean during the epoch by tokens: 3 of 3 variants, tokens 123.5K to 1.481M."
    )
    browser.find_element(By.XPATH, "//summary[contains(., 'as a table')]").click()
    deadline = time.monotonic() + 10
    while not (rows := browser.find_elements(By.CSS_SELECTOR, "#values tbody tr")):
        assert time.monotonic() < deadline
    assert len(rows) == EPOCHS
    cells = [cell.text for cell in rows[3].find_elements(By.CSS_SELECTOR, "th, td")]
    assert cells[0] == "4"
    for variant, cell in enumerate(cells[1:]):
        losses = sorted(loss(variant, seed, 4) for seed in range(3))
        assert [float(number) for number in re.findall(r"[\d.]+", cell)] == pytest.approx(
            [losses[1], losses[0], losses[2]], rel=1e-3
        )


def test_a_table_is_sorted_by_the_keyboard(visit, page):
    browser = visit(page)
    rows = "#result tbody tr"
    before = [row.text for row in browser.find_elements(By.CSS_SELECTOR, rows)]
    heading = browser.find_elements(By.CSS_SELECTOR, "#result thead th")[2]
    tab_to(browser, heading.find_element(By.TAG_NAME, "button"))
    press(browser, Keys.ENTER)
    assert heading.get_attribute("aria-sort") == "ascending"
    press(browser, Keys.ENTER)
    assert heading.get_attribute("aria-sort") == "descending"
    after = [row.text for row in browser.find_elements(By.CSS_SELECTOR, rows)]
    assert after == before[::-1] != before, "the loss grows from variant to variant"


def test_fields_that_are_compared_side_by_side_are_not_sorted(visit, page):
    browser = visit(page)
    assert browser.find_elements(By.CSS_SELECTOR, "#runs thead button")
    assert not browser.find_elements(By.CSS_SELECTOR, "#experiments > .wide thead button")
