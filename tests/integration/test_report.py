"""The report in a real browser: quiet, without a network, accessible, and deaf to injections."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page
from support.browser import opened_page, running_browser
from support.command_line import invoke
from support.object_store import CREDENTIALS, object_store
from support.report_results import (
    CAMERA,
    CONTRADICTION,
    FINDING,
    Made,
    ResultRow,
    report_results,
)
from support.source_forms import FORMS, pairs, write_form

from aigid.progress_bar import SilentProgress
from aigid.report import ReportConfig, write_report

pytestmark = pytest.mark.integration

# Each would set window.broken, ask for something, or leave its place.
INJECTIONS = (
    "<script>window.broken=1</script>",
    "</script><script>window.broken=1</script>",
    "</title><script>window.broken=1</script>",
    "</style><script>window.broken=1</script>",
    "</textarea></template><script>window.broken=1</script>",
    "--><script>window.broken=1</script><!--",
    "]]><script>window.broken=1</script>",
    "<img src=x onerror=window.broken=1>",
    '"><img src=x onerror=window.broken=1>',
    "'><img src=x onerror=window.broken=1>",
    '" onmouseover="window.broken=1" autofocus onfocus="window.broken=1',
    "' onmouseover='window.broken=1' autofocus onfocus='window.broken=1",
    "` onmouseover=window.broken=1 `",
    "x onpointerenter=window.broken=1 style=position:fixed",
    "<svg onload=window.broken=1><animate onbegin=window.broken=1>",
    "<iframe srcdoc='<script>parent.broken=1</script>'></iframe>",
    "<object data='data:text/html,<script>parent.broken=1</script>'></object>",
    "<base href='http://127.0.0.1:9/'><a href=x>",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
    "<link rel=stylesheet href=http://127.0.0.1:9/x.css>",
    "</style><style>@import url(http://127.0.0.1:9/x.css); body{display:none}</style>",
    "<form action=http://127.0.0.1:9/><button formaction=javascript:window.broken=1>",
    "javascript:window.broken=1",
    '<a href="javascript:window.broken=1" target="x">a</a><b>b</b>',
    "{{ 7 * 7 }}{% include '/etc/passwd' %}${window.broken=1}%{x}",
    "&lt;script&gt;window.broken=1&lt;/script&gt;&#60;img src=x onerror=window.broken=1&#62;",
    "\\u003cscript\\u003ewindow.broken=1\\u003c/script\\u003e\\x3cimg src=x\\x3e",
    "\u2028\u2029\u202e\ufeff<\u0000script>window.broken=1</script>",
    "+ADw-script+AD4-window.broken=1+ADw-/script+AD4-",
    "$\\href{javascript:window.broken=1}{x}$<sup>x</sup><br><extra>x</extra>",
)
ALL = " ".join(INJECTIONS)
STRUCTURE = """() => ({
    scripts: document.scripts.length,
    handlers: [...document.querySelectorAll("*")].filter((one) =>
        [...one.attributes].some((attribute) => attribute.name.startsWith("on"))).length,
    foreign: document.querySelectorAll("iframe, object, embed, base, form, textarea").length +
        document.querySelectorAll("animate, .chart a, link:not([rel=icon])").length,
    links: [...document.querySelectorAll("a")].map((one) => one.getAttribute("href"))
        .filter((href) => !href.startsWith("#")),
    images: [...document.images].map((one) => one.getAttribute("src"))
        .filter((source) => !source.startsWith("data:image/webp;base64,")),
    refresh: document.querySelectorAll("meta[http-equiv=refresh]").length,
    broken: window.broken ?? null,
    text: document.body.textContent,
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as found:
        yield found


def written(results: Path, **settings: object) -> Path:
    config = ReportConfig(str(results), **settings)  # type: ignore[arg-type]
    return Path(write_report(config, SilentProgress()).page)


@pytest.fixture(scope="module")
def full_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with something in each of its sections."""
    folder = tmp_path_factory.mktemp("report")
    rows = [
        ResultRow(
            (row % 20) / 19,
            verdict="unsure" if 9 <= row % 20 <= 10 else None,
            source=("sdxl", "sd21", "other")[row % 3] if row % 20 > 9 else "real",
            prompt=f"a long prompt of row {row}, " * 8,
            kept={"camera": f"camera {row % 30}", "label": int(row % 20 > 8)},
            evidence=("ai", "camera", "none", "edited")[row % 4],
            findings=[[FINDING], [CAMERA, CONTRADICTION], [], [FINDING | {"says": "edited"}]][
                row % 4
            ],
            hash=f"{row // 2:064x}",
            perceptual_hash=row // 4,
        )
        for row in range(200)
    ]
    rows += [ResultRow(None, kept=rows[0].kept, evidence=None, error="missing")] * 3
    rows += [ResultRow(1.0, image="gone/" * 30 + "gone.png", kept=rows[0].kept)]
    made = Made(evidence=True, hashes=True, shard_rows=50, row_group_rows=50)
    results = report_results(folder, rows, made)
    return written(results, by="camera", label_column="label")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1400])
def test_a_report_is_quiet_fetches_nothing_and_is_accessible(
    browser: Browser, full_page: Path, width: int, dark: bool
) -> None:
    with opened_page(browser, full_page, width=width, dark=dark) as (page, seen):
        for details in page.locator("details").all():
            details.evaluate("one => { one.open = true; }")
        page.locator(".face").first.focus()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        violations = Axe().run(page).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"][:200]) for one in violations] == []
        assert page.locator(".chart .main-svg").count() >= 4
    assert (seen.messages, seen.requests) == ([], [])


def test_details_of_a_row_come_by_hover_by_keyboard_and_by_tap(
    browser: Browser, full_page: Path
) -> None:
    with opened_page(browser, full_page) as (page, _):
        first, second = page.locator(".card").first, page.locator(".card").nth(1)
        panel = first.locator(".panel")
        assert not panel.is_visible()
        first.hover()
        assert panel.is_visible()
        page.keyboard.press("Escape")
        assert not panel.is_visible()
        page.mouse.move(0, 0)
        first.locator(".face").focus()
        assert panel.is_visible()
        assert first.locator(".face").get_attribute("aria-expanded") == "true"
        page.keyboard.press("Enter")
        assert not panel.is_visible()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        assert not panel.is_visible() and second.locator(".panel").is_visible()
        assert "comfyui" in panel.text_content().lower()


def test_a_report_prints_in_light_colours_without_what_is_for_the_screen(
    browser: Browser, full_page: Path
) -> None:
    with opened_page(browser, full_page, dark=True) as (page, seen):
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)"
        )
        assert not page.locator("nav").is_visible()
        assert page.pdf().startswith(b"%PDF")
        assert chart_height(page, "scores") == 280
    assert seen.messages == []


def chart_height(page: Page, name: str) -> float:
    box = page.locator(f"[data-chart={name}] .main-svg").first.bounding_box()
    assert box is not None
    return box["height"]


def test_charts_fit_a_window_whose_size_changes(browser: Browser, full_page: Path) -> None:
    with opened_page(browser, full_page, width=1400) as (page, seen):
        heights = [chart_height(page, name) for name in ("scores", "findings")]
        drawn = page.locator("[data-chart=scores] .main-svg").first
        width = drawn.get_attribute("width")
        page.set_viewport_size({"width": 500, "height": 900})
        page.locator(f"[data-chart=scores] .main-svg:not([width='{width}'])").first.wait_for()
        assert [chart_height(page, name) for name in ("scores", "findings")] == heights
        assert page.evaluate("document.documentElement.scrollWidth") <= 500
    assert seen.messages == []


@pytest.mark.parametrize("rows", [[ResultRow(None, error="missing")] * 3, [ResultRow(1.0)]])
def test_a_page_about_next_to_nothing_is_in_order(
    browser: Browser, tmp_path: Path, rows: list[ResultRow]
) -> None:
    page_file = written(report_results(tmp_path, rows))
    with opened_page(browser, page_file) as (page, seen):
        violations = Axe().run(page).response["violations"]
        assert [one["id"] for one in violations] == []
        assert "No row has a score" in check_structure(page) or rows[0].p_ai
    assert (seen.messages, seen.requests) == ([], [])


def check_structure(page: Page) -> str:
    """Check that the page has its own elements only; return its text."""
    found = page.evaluate(STRUCTURE)
    text = str(found.pop("text"))
    assert found == {
        "scripts": 3, "handlers": 0, "foreign": 0, "links": [], "images": [], "refresh": 0,
        "broken": None,
    }  # fmt: skip
    return text


def as_shown(text: str) -> str:
    """What hides or turns text is shown as escapes."""
    return text.replace("\u202e", "\\u202e").replace("\u0000", "\\x00")


def hostile_rows(names: list[str]) -> list[ResultRow]:
    """A row for each injection, with it in every place of a row."""
    return [
        ResultRow(
            place / len(INJECTIONS),
            source=text,
            prompt=text,
            image=text if place % 2 else None,
            kept=dict.fromkeys(names, text),
            evidence="ai",
            findings=[
                {
                    **dict.fromkeys(("kind", "says", "source", "strength", "found_in"), text),
                    "details": {text: text},
                }
            ],
        )
        for place, text in enumerate(INJECTIONS)
    ]


def test_what_strangers_wrote_stays_text(browser: Browser, tmp_path: Path) -> None:
    names = list(INJECTIONS[:15])
    made = Made(
        model=ALL, notice=ALL, evidence=True, manifest="<img src=x onerror=window.broken=1>.parquet"
    )
    results = report_results(tmp_path, hostile_rows(names), made)
    page_file = written(results, by=names[0])
    with opened_page(browser, page_file, width=360) as (page, seen):
        for face in page.locator(".face").all()[:12]:
            face.focus()
        page.mouse.move(100, 400)
        text = check_structure(page)
        for injection in INJECTIONS:
            assert as_shown(injection) in text, injection
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert (seen.messages, seen.requests) == ([], [])


@pytest.mark.parametrize("place", range(3))
def test_injections_in_names_of_columns_change_no_element(
    browser: Browser, tmp_path: Path, place: int
) -> None:
    names = list(INJECTIONS[10 * place : 10 * place + 10])
    rows = [ResultRow(kept=dict.fromkeys(names, "1")) for _ in range(3)]
    page_file = written(report_results(tmp_path, rows), by=names[-1], label_column=names[0])
    with opened_page(browser, page_file) as (page, seen):
        assert as_shown(names[-1]) in check_structure(page)
    assert (seen.messages, seen.requests) == ([], [])


@pytest.mark.parametrize("form", FORMS)
def test_images_and_prompts_come_from_every_form_of_a_manifest(
    tmp_path: Path, tiny_repository: Path, form: str
) -> None:
    source, out = write_form(form, tmp_path, 20), tmp_path / "results"
    scan = invoke("scan", source, "--out", out, "--model", tiny_repository)
    assert scan.exit_code == 0, scan.output
    page = written(out).read_text(encoding="utf-8")
    assert page.count("data:image/webp;base64,") == page.count('<li class="card">') >= 20
    by = "manifest file" if form == "tars" else "rows of the manifest"
    assert f"Drift by {by}</h2>" in page
    if form != "folder with metadata":
        # Captions in a table would need the whole folder to be listed.
        for _, _, prompt in pairs(20):
            assert prompt is None or f">{prompt}<" in page


def test_results_and_images_may_be_in_an_object_store(
    tmp_path: Path, tiny_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with object_store() as store:
        for file in write_form("folder", tmp_path, 12).iterdir():
            store.put(f"in/{file.name}", file.read_bytes())
        out = store.uri("results")
        scan = invoke("scan", store.uri("in"), "--out", out, "--model", tiny_repository)
        assert scan.exit_code == 0, scan.output
        found = invoke("report", out)
        assert found.exit_code == 0, found.output
        with store.files.open_input_stream("data/results/report.html") as stream:
            page = bytes(stream.read()).decode()
    assert page.count("data:image/webp;base64,") == page.count('<li class="card">') >= 12
