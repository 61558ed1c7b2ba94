"""The pages: experiments, one experiment, one arm, predictions, and the login.

Each handler reads the store in a thread, fills a template and answers with an ETag, so that a page that polls costs
little while nothing changes. Who may see what is decided in `_experiment` and `_run`, and nowhere else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from ..errors import StoreError
from ..record.files import to_json
from ..report.arms import ArmQuery
from ..report.html import STATIC, render
from ..report.page import curves_page, experiment_page
from ..store.pages import Pages
from ..store.protocol import Record
from .arm_page import arm_charts, arm_page
from .keys import Member
from .list_page import SORTS, ListQuery, list_page
from .prediction_page import PredictionQuery, prediction_page
from .sessions import COOKIE, SECONDS, Sessions

LONGEST_FORM = 4096
FILES = {str(path.relative_to(STATIC)): path for path in STATIC.rglob("*") if path.is_file()}
Answer = Callable[[Request, Member], Response]


class Site:
    """The handlers over one store.

    Args:
        pages: reads the store.
        sessions: who a browser's cookie belongs to.
    """

    def __init__(self, pages: Pages, sessions: Sessions) -> None:
        self.pages = pages
        self.sessions = sessions

    @property
    def routes(self) -> list[Route]:
        """Every page."""
        return [
            Route("/", self._for_members(self.list)),
            Route("/experiments/{id}", self._for_members(self.experiment)),
            Route("/experiments/{id}/curves", self._for_members(self.experiment_curves)),
            Route("/arms/{id}", self._for_members(self.arm)),
            Route("/arms/{id}/curves", self._for_members(self.arm_curves)),
            Route("/arms/{id}/predictions", self._for_members(self.predictions)),
            Route("/login", self.login, methods=["GET", "POST"]),
            Route("/logout", self.logout, methods=["POST"]),
            Route("/static/{name:path}", static),
        ]

    # -- pages -----------------------------------------------------------------------------------------------------

    def list(self, request: Request, member: Member) -> Response:
        asked = request.query_params
        sort = asked.get("sort", "created")
        query = ListQuery(
            text=asked.get("q") or None,
            status=asked.get("status") or None,
            sort=sort if sort in SORTS else "created",
            descending=asked.get("desc", "1" if sort == "created" else "0") == "1",
            page=_whole(asked.get("page")),
        )
        seen = [record for record in self.pages.experiments() if _may_see(member, record)]
        return self._page(request, "experiments.html", page=list_page(seen, query))

    def experiment(self, request: Request, member: Member) -> Response:
        asked = request.query_params
        query = ArmQuery(
            sort=asked.get("sort", "rank"),
            descending=asked.get("desc") == "1",
            state=asked.get("state") or None,
            text=asked.get("q") or None,
            page=_whole(asked.get("page")),
        )
        record = self._experiment(request, member)
        page = experiment_page(self.pages, record, query, groups=self._groups(record))
        curves = f"/experiments/{request.path_params['id']}/curves"
        return self._page(request, "experiment.html", page=page, linked=True, curves=curves)

    def experiment_curves(self, request: Request, member: Member) -> Response:
        record = self._experiment(request, member)
        charts = curves_page(self.pages, record, groups=self._groups(record))
        return _cached(request, to_json(charts), "application/json")

    def arm(self, request: Request, member: Member) -> Response:
        page = arm_page(self.pages, self._run(request, member), request.query_params.get("against", ""))
        return self._page(request, "arm.html", page=page, curves=f"/arms/{request.path_params['id']}/curves")

    def arm_curves(self, request: Request, member: Member) -> Response:
        run = self._run(request, member)
        return _cached(request, to_json(arm_charts(self.pages, run["id"])), "application/json")

    def predictions(self, request: Request, member: Member) -> Response:
        asked = request.query_params
        words = {key: asked.get(key, "") for key in ("eval", "passed", "task", "slice", "against")}
        query = PredictionQuery(**words, page=_whole(asked.get("page")))
        page = prediction_page(self.pages, self._run(request, member), query)
        return self._page(request, "predictions.html", page=page)

    # -- sessions --------------------------------------------------------------------------------------------------

    async def login(self, request: Request) -> Response:
        """The form, and what it sends: a right key begins a session."""
        if self.sessions.open or self.sessions.member(request.cookies.get(COOKIE)):
            return RedirectResponse("/", 303)
        if request.method == "GET":
            return self._page(request, "login.html", wrong=False)
        form = await _form(request)
        token = self.sessions.begin(form.get("key", "").strip())
        if token is None:
            answer = self._page(request, "login.html", wrong=True)
            answer.status_code = 401
            return answer
        answer = RedirectResponse("/", 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, token, max_age=SECONDS, httponly=True, samesite="strict", secure=secure)
        return answer

    async def logout(self, request: Request) -> Response:
        """End the session."""
        self.sessions.end(request.cookies.get(COOKIE))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE)
        return answer

    # -- inside ----------------------------------------------------------------------------------------------------

    def _for_members(self, answer: Answer) -> Callable[[Request], Any]:
        async def handle(request: Request) -> Response:
            member = self.sessions.member(request.cookies.get(COOKIE))
            if member is None:
                return RedirectResponse("/login", 303)
            try:
                return await run_in_threadpool(answer, request, member)
            except HTTPException as error:
                return self._failed(request, error.status_code, error.detail)
            except StoreError:
                return self._failed(request, 503, "The store cannot be read now; the server's log says why.")

        return handle

    def _page(self, request: Request, template: str, **values: Any) -> Response:
        text = render(template, url=_url(request.query_params), may_leave=not self.sessions.open, **values)
        return _cached(request, text.encode(), "text/html; charset=utf-8")

    def _failed(self, request: Request, status: int, text: str) -> Response:
        answer = self._page(request, "error.html", text=text)
        answer.status_code = status
        return answer

    def _groups(self, record: Record) -> dict[str, str]:
        return {group["id"]: str(group.get("name")) for group in self.pages.store.list_groups(record["id"])}

    def _experiment(self, request: Request, member: Member) -> Record:
        record = self.pages.experiment(request.path_params["id"])
        if record is None or not _may_see(member, record):
            raise HTTPException(404, "There is no such experiment here.")
        return record

    def _run(self, request: Request, member: Member) -> Record:
        run = self.pages.arm(request.path_params["id"])
        visible = run is not None and (
            member.projects is None or self.pages.project_of(run["experiment_id"]) in member.projects
        )
        if run is None or not visible:
            raise HTTPException(404, "There is no such arm here.")
        return run


async def static(request: Request) -> Response:
    """A file of the pages: one of FILES, so that no path leads elsewhere."""
    path: Path | None = FILES.get(request.path_params["name"])
    if path is None:
        raise HTTPException(404, "not found")
    return FileResponse(path, headers={"Cache-Control": "no-cache"})


def _may_see(member: Member, record: Record) -> bool:
    return member.projects is None or record.get("project_id") in member.projects


def _cached(request: Request, body: bytes, media_type: str) -> Response:
    etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if request.headers.get("If-None-Match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


def _url(asked: QueryParams) -> Callable[..., str]:
    """Makes this page's address with some query parameters changed."""

    def url(**changed: Any) -> str:
        words = {**dict(asked), **changed}
        return f"?{urlencode({key: value for key, value in words.items() if value not in ('', None)})}"

    return url


def _whole(text: str | None) -> int:
    return min(int(text), 10**6) if text and text.isascii() and text.isdigit() else 1


async def _form(request: Request) -> dict[str, str]:
    """A short form's fields; {} if it is too long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FORM:
            return {}
    return {key: values[0] for key, values in parse_qs(body.decode(errors="replace")).items()}
