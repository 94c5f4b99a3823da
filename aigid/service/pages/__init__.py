"""The pages for people: files without a build step, and a policy that keeps them to themselves."""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

# Scripts and styles of the service alone, images that the user chose, requests to the service.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_FILES = {
    "/": ("index.html", "text/html"),
    "/docs": ("docs.html", "text/html"),
    "/pages/page.css": ("page.css", "text/css"),
    "/pages/page.js": ("page.js", "text/javascript"),
    "/pages/docs.js": ("docs.js", "text/javascript"),
}


def page_routes() -> list[Route]:
    """Return the routes of the pages and of what they need."""
    return [_route(path, name, media_type) for path, (name, media_type) in _FILES.items()]


def _route(path: str, name: str, media_type: str) -> Route:
    content = files(__name__).joinpath(name).read_bytes()

    async def page(request: Request) -> Response:
        return Response(content, headers=_HEADERS, media_type=media_type)

    return Route(path, page)
