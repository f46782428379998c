"""``Dashboard``: the pages as routes, logging in and out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from ....exceptions import FunctionNotFound
from ..access import AdminIdentity, Refused, refuse_other_origins
from ..call import read_body
from ..session import comes_from_elsewhere, forget, keep
from .pages import PAGES, Page
from .render import HEADERS, HINT, render, static_file

if TYPE_CHECKING:
    from ..mount import Admin

_MOST_FORM = 4096
Endpoint = Callable[[Request], Awaitable[Response]]


class Dashboard:
    """Serves the pages to whoever the admin API knows: by the app's own session, or by a token in a cookie."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self.routes = [
            *(Route(page.path, _shown(self._endpoint(page)), methods=["GET"], name=page.name) for page in PAGES),
            Route("/ui/login", _shown(self._log_in), methods=["POST"], name="log_in"),
            Route("/ui/logout", _shown(self._log_out), methods=["POST"], name="log_out"),
            Route("/ui/static/{file}", _static, methods=["GET"], name="static"),
        ]

    def _endpoint(self, page: Page) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            try:
                identity = await self._admin.identify(request)
            except Refused as refused:
                if self._admin.gate.takes_tokens and comes_from_elsewhere(request):
                    return await render("again.html", 200, {"root": self._root(request), "title": "Dashboard"})
                return await self._login_page(request, refused.status, "")
            name = request.path_params.get("name") if "{name}" in page.path else None
            allowed = identity.may("read", name) if name or page.of_all else "read" in identity.scopes
            if not allowed:
                raise Refused(403, "you may not see this: the scope read is not granted for it")
            context = await page.context(self._admin.call(request, identity))
            return await render(page.template, 200, self._common(request, page, identity) | context)

        return endpoint

    @staticmethod
    def _root(request: Request) -> str:
        return str(request.scope.get("root_path", ""))

    def _common(self, request: Request, page: Page, identity: AdminIdentity) -> dict[str, Any]:
        """Return what every page shows around its own content."""
        shown = [each for each in PAGES if "{" not in each.path and (identity.may("read") or not each.of_all)]
        return {
            "root": self._root(request),
            "title": request.path_params.get("name", page.title),
            "current": page.path,
            "pages": [(each.path, each.title) for each in shown],
            "who": identity.name,
            "operates": identity.may("operate"),
            "may_operate": lambda name: identity.may("operate", name),
            "can_log_out": self._admin.gate.takes_tokens,
        }

    async def _log_in(self, request: Request) -> Response:
        refuse_other_origins(request)
        given = await _form(request)
        token = given.get("token", [""])[0].strip()
        if not self._admin.gate.takes_tokens or self._admin.gate.identity_of(token) is None:
            self._admin.count_failure(request)
            return await self._login_page(request, 401, "This token is not known here.")
        response = RedirectResponse(f"{self._root(request)}/", 303, HEADERS)
        keep(response, request, token)
        return response

    async def _log_out(self, request: Request) -> Response:
        refuse_other_origins(request)
        response = RedirectResponse(f"{self._root(request)}/", 303, HEADERS)
        forget(response, request)
        return response

    async def _login_page(self, request: Request, status: int, problem: str) -> Response:
        if status == 429:
            problem = "Too many attempts from your address. Wait a minute."
        context = {
            "root": self._root(request),
            "title": "Log in",
            "takes_tokens": self._admin.gate.takes_tokens,
            "problem": problem,
        }
        return await render("login.html", status, context)


def _shown(endpoint: Endpoint) -> Endpoint:
    """Return an endpoint whose refusals are pages."""

    async def shown(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Refused as refused:
            status, reason = refused.status, refused.reason
        except FunctionNotFound as error:
            status, reason = 404, str(error)
        except ImportError:
            return PlainTextResponse(f"{HINT}\n", 501)
        context = {"root": request.scope.get("root_path", ""), "title": f"Error {status}", "reason": reason}
        return await render("error.html", status, context)

    return shown


async def _form(request: Request) -> dict[str, list[str]]:
    """Return the fields of a small form. Raises Refused."""
    try:
        return parse_qs((await read_body(request, _MOST_FORM)).decode("ascii"), max_num_fields=8)
    except ValueError:
        raise Refused(422, "the form cannot be read") from None


async def _static(request: Request) -> Response:
    return static_file(request.path_params["file"]) or PlainTextResponse("Not Found\n", 404)
