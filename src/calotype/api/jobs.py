"""Work that nobody holds a connection for: its picture waits to be fetched."""

import asyncio
import logging
import time
from http import HTTPStatus

from starlette.responses import Response
from starlette.types import Message, Receive

from calotype.api.answer import Answers, conditional
from calotype.api.board import Board
from calotype.api.document import json_response
from calotype.api.exchange import Exchange
from calotype.api.followed import Followed
from calotype.api.header import read_preference
from calotype.api.inflight import InFlight
from calotype.api.presence import while_present
from calotype.api.problems import describe, log_problem, write
from calotype.api.record import Answer, Record
from calotype.domain.request import ImageRequest
from calotype.errors import (
    QueueFullError,
    RequestCancelledError,
    RequestConflictError,
    ResultGoneError,
    UnfinishedError,
    shutting_down,
)
from calotype.pipeline import Pipeline
from calotype.settings import Settings

logger = logging.getLogger(__name__)

Work = asyncio.Task[Answer | None]
"""Of a job; it ends with the picture, or with nothing where there is none."""


class Jobs:
    """Runs jobs, each in a task of its own; belongs to one event loop.

    Args:
        pipeline: runs them.
        in_flight: knows them.
        board: knows those of other servers.
        answers: writes what they are answered with.
        settings: how many there may be.
    """

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        in_flight: InFlight,
        board: Board,
        answers: Answers,
        settings: Settings,
    ) -> None:
        self._pipeline, self._settings = pipeline, settings
        self.in_flight, self.board, self.answers = in_flight, board, answers
        self._tasks: dict[Work, Record] = {}

    def check(self, record: Record) -> None:
        """Refuse a job before its body is read.

        Raises:
            RequestConflictError: its owner has one of that id already.
            QueueFullError: there are as many as may be.
        """
        request_id = record.request_id
        known = self.in_flight.look_up(record.owner, request_id)
        if known is not None and known.is_job:
            raise id_taken(request_id)
        jobs, most = self.in_flight.jobs(), self._settings.queue_size
        # A job needs no connection, so that it is easy to have very many.
        own_most = max(1, most // 2) if record.owner else most
        if jobs.total() >= most or jobs[record.owner] >= own_most:
            raise QueueFullError(
                f"busy: {jobs.total()} jobs are in work; one token may have {own_most}, and all"
                f" together {most}",
                retry_after_s=1.0,
            )

    async def begin(
        self,
        record: Record,
        request: ImageRequest,
        warnings: tuple[str, ...],
        started_s: float,
    ) -> Work:
        """Start a job, which goes on when this has returned, and return its task.

        Args:
            record: of the job, which the caller holds.
            request: what to do.
            warnings: of the reading of the request.
            started_s: when it began to come in, monotonic.

        Raises:
            RequestError: it can't be done as asked; of its picture, only the job will tell.
            CapacityError: it isn't taken now.
        """
        self._pipeline.check(request)
        work = self._serve(record, request, warnings, started_s)
        task = asyncio.create_task(work, name=f"job-{record.request_id}")
        self._tasks[task] = record
        task.add_done_callback(self._ended)
        await asyncio.sleep(0)  # from here on, the task holds the record
        return task

    async def first_answer(
        self,
        record: Record,
        task: Work,
        exchange: Exchange,
        receive: Receive,
    ) -> Response:
        """Say that a job is in work; or how it ended, if it does while its client likes to wait."""
        if wait_s := read_preference(exchange.headers).wait_s:
            await while_present(asyncio.wait((task,), timeout=wait_s), receive)
        if task.done():
            # Its picture may be too large to be kept for later.
            answer = record.answer if task.cancelled() else task.result()
            response = answer_to(record, exchange, answer)
        else:
            where = {"location": f"/requests/{record.request_id}"}
            response = json_response(record.document, HTTPStatus.ACCEPTED, where)
        response.headers["preference-applied"] = "respond-async"
        return response

    async def settle(self, grace_s: float) -> None:
        """Wait for the jobs that are being finished; at most so long."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=grace_s)

    async def close(self) -> None:
        """End all jobs."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, task: Work) -> None:
        record = self._tasks.pop(task)
        # A task that is cancelled before its first step can't say so itself.
        record.end("failed", describe(shutting_down()))

    async def _serve(
        self, record: Record, request: ImageRequest, warnings: tuple[str, ...], started_s: float
    ) -> Answer | None:
        """Run a job; whatever becomes of it is in its record, and its picture is returned."""
        answer = None
        try:
            with self.in_flight.holding(record):
                response = await while_present(self._pipeline.run(request), _never)
                headers = self.answers.headers(response, warnings, time.monotonic() - started_s)
                answer = Answer(headers=headers, body=response.body, etag=response.etag)
                record.answer = answer
                record.end("done")
        except RequestCancelledError:
            pass
        except Exception as error:  # its sender reads it from the record
            log_problem(error)
        took_s = time.monotonic() - started_s
        told = (record.request_id, record.model_id, record.state, took_s)
        logger.info("job %s of %s: %s, %.1f s", *told)
        return answer


def id_taken(request_id: str) -> RequestConflictError:
    """Return what is told to who sends a job under the id of another."""
    return RequestConflictError(
        f"Request {request_id} is a job already: GET /requests/{request_id} tells of it,"
        " DELETE forgets it"
    )


def answer_to(record: Followed, exchange: Exchange, answer: Answer | None) -> Response:
    """Return what a job's request is answered with.

    Args:
        record: of the job.
        exchange: with whoever wants it.
        answer: its picture, if that is at hand.

    Raises:
        UnfinishedError: it is not over.
        ResultGoneError: its picture is not kept any more.
    """
    if not record.is_over:
        raise UnfinishedError(f"Request {record.request_id} is not done yet", retry_after_s=1.0)
    if record.problem is not None:
        return write(record.problem)
    if answer is None:
        raise ResultGoneError(f"the picture of request {record.request_id} is not kept any more")
    known = exchange.headers.get(b"if-none-match")
    status, headers, body = conditional(known, answer.etag, answer.headers, answer.body)
    response = Response(body, status)
    response.raw_headers = list(headers)
    return response


async def _never() -> Message:
    """Wait for a client to leave that is gone, or not, as it likes."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError
