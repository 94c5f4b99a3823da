"""The service's pages in a real browser: verdicts, by mouse and keyboard, and nothing leaves."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page
from support.browser import opened_site, running_browser
from support.evidence_files import A1111, png_with_text
from support.http_service import Running, pair, running_service
from support.manifests import encoded_image

pytestmark = pytest.mark.integration

KEY = "a-key-of-this-test-0001"
INJECTION = "<img src=x onerror=window.broken=1><script>window.broken=1</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as found:
        yield found


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with running_service() as running:
        yield running


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A photograph, an image with prompts in its metadata that are an injection, and no image."""
    folder = tmp_path_factory.mktemp("images")
    contents = {
        "photo.jpg": encoded_image(1, side=64),
        "render.png": png_with_text(parameters=A1111.replace("sd_xl_base_1.0", INJECTION)),
        "<b>notes<b>.jpg": b"a text",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def violations(page: Page) -> list[str]:
    """What axe-core finds fault with."""
    return [found["id"] for found in Axe().run(page).response["violations"]]


def check_images(page: Page, images: list[Path]) -> None:
    """Choose the images, ask, and wait for the answers."""
    page.set_input_files("#files", images)
    page.fill("#prompt", INJECTION)
    page.click("#check")
    page.locator(".verdict").nth(len(images) - 1).wait_for()
    page.locator("#status", has_text=":").wait_for()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_shows_verdicts_evidence_and_the_notice_and_is_accessible(
    browser: Browser, service: Running, images: list[Path], width: int, dark: bool
) -> None:
    with opened_site(browser, f"{service.url}/", width=width, dark=dark) as (page, seen):
        page.wait_for_selector("#notice:not([hidden])")
        assert "not for real decisions" in page.inner_text("#notice")
        assert not violations(page)
        check_images(page, images)
        answers = page.locator(".answer")
        asked = httpx.post(
            f"{service.url}/v1/detect",
            json={"pairs": [pair(image.read_bytes(), INJECTION) for image in images]},
        ).json()["detections"]
        words = {"ai": "AI-generated", "real": "Not AI-generated", None: "No verdict"}
        for number, answer in enumerate(asked):
            assert answers.nth(number).locator(".verdict").inner_text() == words[answer["verdict"]]
        assert f"{100 * asked[0]['p_ai']:.1f} %" in answers.nth(0).inner_text()
        assert "parameters, in PNG parameters" in answers.nth(1).inner_text()
        assert "undecodable: not an image" in answers.nth(2).inner_text()
        assert images[2].name in answers.nth(2).inner_text()
        assert page.inner_text("#status").startswith("3 images: ")
        assert not violations(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("window.broken ?? null") is None
        assert not seen.messages
        assert not seen.requests


def test_the_page_works_with_the_keyboard_alone(
    browser: Browser, service: Running, images: list[Path]
) -> None:
    with opened_site(browser, f"{service.url}/") as (page, seen):
        # Playwright begins to catch choosers at some time after somebody listens to them.
        page.on("filechooser", lambda chooser: None)
        page.wait_for_selector("#notice:not([hidden])")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "files"
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Space")
        chooser.value.set_files(images[0])
        page.keyboard.press("Tab")
        page.keyboard.type("a red car")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector(".verdict")
        assert page.inner_text("#status").startswith("1 image: ")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.locator(".answer").count() == 0
        assert not seen.messages


DROP = """async ({name, bytes, kind}) => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array(bytes)], name, {type: "image/jpeg"}));
    const event = kind === "paste"
        ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true})
        : new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
    document.body.dispatchEvent(event);
}"""


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_images_can_be_dropped_and_pasted(
    browser: Browser, service: Running, images: list[Path], kind: str
) -> None:
    with opened_site(browser, f"{service.url}/") as (page, seen):
        page.wait_for_selector("#notice:not([hidden])")
        page.evaluate(DROP, {"name": "a.jpg", "bytes": list(images[0].read_bytes()), "kind": kind})
        assert page.inner_text(".file") == "a.jpg"
        page.click("#check")
        page.wait_for_selector(".verdict")
        assert not seen.messages


def test_the_page_asks_for_a_key_and_does_not_keep_it(browser: Browser, images: list[Path]) -> None:
    with (
        running_service(api_keys=frozenset({KEY})) as service,
        opened_site(browser, f"{service.url}/") as (page, _),
    ):
        page.wait_for_selector("#key-field:not([hidden])")
        assert "no valid key" in page.inner_text("#status")
        page.fill("#key", KEY)
        page.keyboard.press("Tab")
        page.wait_for_selector("#notice:not([hidden])")
        check_images(page, images[:1])
        assert page.inner_text("#status").startswith("1 image: ")
        stores = "[{...localStorage}, {...sessionStorage}, document.cookie]"
        assert KEY not in page.evaluate(f"JSON.stringify({stores})")


def test_the_page_tells_when_the_service_is_gone(browser: Browser, images: list[Path]) -> None:
    with running_service() as service, opened_site(browser, f"{service.url}/") as (page, _):
        page.wait_for_selector("#notice:not([hidden])")
        page.route(f"{service.url}/v1/detect", lambda route: route.abort())
        page.set_input_files("#files", images[:1])
        page.click("#check")
        page.locator("#status.bad", has_text="The service cannot be reached.").wait_for()
        assert page.is_enabled("#check")


def test_the_documents_page_has_all_paths_and_is_accessible(
    browser: Browser, service: Running
) -> None:
    paths = httpx.get(f"{service.url}/openapi.json").json()["paths"]
    with opened_site(browser, f"{service.url}/docs", width=360) as (page, seen):
        page.wait_for_selector(".operation")
        shown = page.locator(".operation code").all_inner_texts()
        assert [one.split()[1] for one in shown] == list(paths)
        assert service.url in page.inner_text("pre >> nth=0")
        assert not violations(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert not seen.messages
        assert all(url.startswith(service.url) for url in seen.requests)


def test_pages_have_a_policy_that_allows_their_own_files_alone(service: Running) -> None:
    for path in ("/", "/docs"):
        headers = httpx.get(f"{service.url}{path}").headers
        assert headers["content-security-policy"].startswith("default-src 'none'; ")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
