"""The report in a real Chromium without a screen; skipped where there is none."""

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from report_samples import EVIL_CASE, SHAPE, make_comparison, make_evaluation, make_training

from gdmunet.evaluation.report.cases import load_case
from gdmunet.evaluation.report.page import PageOptions, write_page
from gdmunet.evaluation.report.server import ReportServer
from gdmunet.evaluation.report.sources import read_content

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("needs Chromium (apt-get install chromium)", allow_module_level=True)

NAMES = {"case_1": 20.0, EVIL_CASE: -60.0, "case_3": 40.0}
# WebGL in software: machines without a screen have no other.
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


class Watched:
    """A page and everything that went wrong in it."""

    def __init__(self, browser, address: str, **options):
        self.page = browser.new_page(viewport={"width": 1000, "height": 700}, **options)
        self.page.set_default_timeout(120_000)  # WebGL in software on a busy machine takes its time
        self.problems: list[str] = []
        self.page.on("console", lambda message: self.problems.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", lambda dialog: self.problems.append(f"dialog {dialog.message}"))
        self.page.on("request", lambda request: self.check(request.url))
        self.address = address
        self.page.goto(address)

    def check(self, url: str) -> None:
        if not url.startswith((self.address, "blob:", "data:")):
            self.problems.append(f"asked for {url}")

    def wait_for_slices(self):
        # Slices are decoded only near what is seen.
        self.page.evaluate("document.getElementById('pictures').scrollIntoView()")
        self.page.locator(".case .row canvas").first.wait_for()

    def grey(self, case: str, row: int, panel: int) -> np.ndarray:
        """What a canvas shows, (rows, columns, 3)."""
        article = self.page.locator(f"article[aria-label={quoted('case ' + case)}]")
        article.scroll_into_view_if_needed()
        canvas = article.locator(".row").nth(row).locator("canvas")
        # Read from a copy: Chromium warns of a canvas that is read several times.
        width, height, pixels = canvas.nth(panel).evaluate(
            """async canvas => {
                for (let k = 0; k < 2; k++) await new Promise(requestAnimationFrame);
                const copy = new OffscreenCanvas(canvas.width, canvas.height);
                const context = copy.getContext("2d", { willReadFrequently: true });
                context.drawImage(canvas, 0, 0);
                return [copy.width, copy.height, [...context.getImageData(0, 0, copy.width, copy.height).data]];
            }"""
        )
        return np.array(pixels).reshape(height, width, 4)[..., :3]


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def check_grey(found: np.ndarray, values: np.ndarray, low: float, high: float) -> None:
    """Every channel is the value's place in the window; half a grey level may be rounded either way."""
    expected = np.clip((values - low) * 255 / (high - low), 0, 255)
    assert np.abs(found - expected[..., None]).max() <= 0.51


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=120_000)
        yield found
        found.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_evaluation(tmp_path_factory.mktemp("browsed"), NAMES)[0]


@pytest.fixture(scope="module")
def report(folder) -> Path:
    write_page(read_content(folder), folder / "report.html", PageOptions(show_progress=False))
    return folder / "report.html"


@pytest.fixture
def opened(browser, report):
    watched = Watched(browser, report.as_uri())
    yield watched
    assert watched.problems == []
    watched.page.close()


def test_the_page_opens_without_a_problem_and_shows_every_case(opened):
    opened.wait_for_slices()
    assert opened.page.locator("article.case").count() == 3
    assert opened.page.locator("article.case h3").first.inner_text() == EVIL_CASE
    assert opened.page.locator("b").count() == 0


def test_paper_shows_the_slices_of_every_case(opened):
    drawn = "document.querySelectorAll('.case .row canvas').length"
    opened.page.set_viewport_size({"width": 1200, "height": 300})
    opened.page.evaluate("scrollTo(0, 0)")
    opened.page.wait_for_timeout(300)
    before = opened.page.evaluate(drawn)
    opened.page.evaluate(f"window.print = () => {{ window.printed = {drawn}; }}")
    opened.page.keyboard.press("Control+p")
    opened.page.wait_for_function("window.printed !== undefined")
    assert before < opened.page.evaluate("window.printed") == 3 * 3 * 4


def test_a_head_sorts_its_column(opened):
    column = opened.page.locator("table.sortable").first
    head = column.get_by_role("button", name="MAE (HU)", exact=True)
    cells = column.locator("tbody tr th")
    head.click()
    assert cells.all_inner_texts() == ["case_1", "case_3", EVIL_CASE]
    head.press("Enter")
    assert cells.all_inner_texts() == [EVIL_CASE, "case_3", "case_1"]


def test_window_presets_and_sliders_act_on_hounsfield_units(opened, folder):
    opened.wait_for_slices()
    case = load_case(next(files for files in read_content(folder).files if files.identifier == "case_1"))
    axial = case.target[5]
    check_grey(opened.grey("case_1", 0, 2), axial, -160, 240)
    for name, low, high in (("bone", -500, 1300), ("lung", -1350, 150), ("soft tissue", -160, 240)):
        opened.page.get_by_role("radio", name=name).check(force=True)
        check_grey(opened.grey("case_1", 0, 2), axial, low, high)
    opened.page.get_by_role("slider", name="width").fill("1000")
    opened.page.get_by_role("slider", name="level").fill("100")
    check_grey(opened.grey("case_1", 0, 1), axial + 20, -400, 600)
    assert opened.page.get_by_role("radio", checked=True).count() == 0


def test_the_error_is_red_where_it_is_too_high_and_nothing_outside_the_mask(opened, folder):
    opened.wait_for_slices()
    mask = load_case(next(files for files in read_content(folder).files if files.identifier == "case_3")).mask[5]
    error = opened.grey("case_3", 0, 3)
    assert (error[mask][:, 0] > error[mask][:, 2]).all()
    assert len(np.unique(error[~mask], axis=0)) == 1
    opened.page.get_by_role("checkbox", name="error inside the mask only").uncheck()
    assert len(np.unique(opened.grey("case_3", 0, 3).reshape(-1, 3), axis=0)) == 1


def test_arrow_keys_move_one_crosshair_over_the_four_panels(opened, folder):
    opened.wait_for_slices()
    case = load_case(next(files for files in read_content(folder).files if files.identifier == EVIL_CASE))
    row = opened.page.locator("article.case").first.locator(".row").first
    row.focus()
    row.press("ArrowDown")
    row.press("ArrowRight")
    place = (5, SHAPE[1] // 2 + 1, SHAPE[2] // 2 + 1)
    said = opened.page.locator("article.case output").first.inner_text()
    assert f"target {case.target[place]:.0f} HU" in said
    assert "error -60 HU" in said
    assert f"row {place[1] + 1}, column {place[2] + 1}:" in said
    places = row.locator(".fit").evaluate_all("all => all.map(e => getComputedStyle(e, '::before').left)")
    assert len(places) == 4
    assert len(set(places)) == 1


def test_cases_can_be_ordered_and_found(opened):
    heads = opened.page.locator("article.case:not([hidden]) h3")
    assert heads.all_inner_texts() == [EVIL_CASE, "case_1", "case_3"]
    opened.page.get_by_label("order").select_option("best")
    assert heads.all_inner_texts() == ["case_1", "case_3", EVIL_CASE]
    opened.page.get_by_label("name contains").fill("SE_3")
    assert heads.all_inner_texts() == ["case_3"]


def test_a_comparison_shows_the_chosen_trainer(browser, tmp_path):
    folder = make_comparison(tmp_path, NAMES)
    write_page(read_content(folder), tmp_path / "report.html", PageOptions(show_progress=False))
    opened = Watched(browser, (tmp_path / "report.html").as_uri(), color_scheme="dark")
    opened.wait_for_slices()
    first = opened.grey("case_3", 1, 1)
    opened.page.locator("select[aria-label=trainer]").select_option("Second")
    second = opened.grey("case_3", 1, 1)
    case = load_case(next(files for files in read_content(folder).files if files.identifier == "case_3"))
    for found, label in ((first, "First"), (second, "Second")):
        check_grey(found, case.predictions[label][::-1, 9], -160, 240)
    assert opened.problems == []
    opened.page.close()


def test_a_training_opens_without_a_problem(browser, tmp_path):
    write_page(read_content(make_training(tmp_path)), tmp_path / "report.html", PageOptions(show_progress=False))
    opened = Watched(browser, (tmp_path / "report.html").as_uri())
    assert opened.page.locator("#curves svg").count() == 5
    assert opened.problems == []
    opened.page.close()


def check_viewer(opened: Watched, number: int) -> None:
    """Open a case in the viewer and move: all four crosshairs and values go along."""
    page = opened.page
    page.locator("article.case").nth(number).get_by_role("button", name="Open in the viewer").click()
    page.locator("#viewer [role=status]").filter(has_text="MAE").wait_for()
    page.get_by_role("slider", name="axial slice").fill("4")
    page.locator("#viewer canvas").nth(2).press("ArrowUp")
    page.locator("#viewer canvas").nth(1).press("PageUp")
    places = page.evaluate("VIEWER.screens.map(s => s.view.frac2vox([...s.view.scene.crosshairPos]).map(Math.round))")
    assert len(places) == 4
    assert all(place == places[0] for place in places)
    assert places[0][2] == 5
    captions = page.locator("#viewer figcaption").all_inner_texts()
    assert captions[3].endswith("-60.0 HU") or captions[3].endswith("-60 HU")
    # The picture itself is drawn: more than the black of an empty screen.
    assert len(np.unique(np.frombuffer(page.locator("#viewer canvas").nth(2).screenshot(), np.uint8))) > 100
    page.get_by_role("radio", name="bone").check(force=True)
    page.evaluate("async () => { for (let k = 0; k < 2; k++) await new Promise(requestAnimationFrame); }")
    windows = page.evaluate("VIEWER.screens.map(s => [s.view.volumes[0].cal_min, s.view.volumes[0].cal_max])")
    assert windows[1] == windows[2] == [-500, 1300]
    assert opened.problems == []


def test_the_viewer_of_the_page_links_four_volumes(opened):
    opened.wait_for_slices()
    check_viewer(opened, 0)


@pytest.mark.slow
def test_the_viewer_of_the_server_links_four_volumes(browser, folder):
    with ReportServer(read_content(folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        opened = Watched(browser, server.address)
        opened.wait_for_slices()
        check_viewer(opened, 0)
        opened.page.close()
        server.shutdown()


@pytest.mark.parametrize("make", [make_evaluation, make_comparison])
def test_no_column_is_cut_off_at_1200_pixels(browser, tmp_path, make):
    found = make(tmp_path, NAMES)
    folder = found[0] if isinstance(found, tuple) else found
    write_page(read_content(folder), tmp_path / "page.html", PageOptions(pictures=0, volumes=0, show_progress=False))
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.goto((tmp_path / "page.html").as_uri())
    wide = page.evaluate("[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).length")
    assert (page.locator(".scroll").count() > 0, wide) == (True, 0)
