"""Leads a request from wherever it is until it ends or waits for somebody who is not here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from chargehand.app.json_view import request_value
from chargehand.app.snapshot import Snapshot
from chargehand.cli.flows.context import Context
from chargehand.cli.flows.explain import story_lines
from chargehand.cli.flows.follow import AT_WORK, follow
from chargehand.cli.flows.run_mode import RunMode
from chargehand.cli.show.ending import ending_lines
from chargehand.cli.show.plan import plan_lines
from chargehand.cli.show.request import standing
from chargehand.cli.terminal.exit_codes import DONE, WAITS, exit_of
from chargehand.cli.terminal.keyboard import Decision, read_line, understood
from chargehand.cli.terminal.lines import BLANK, Line, short
from chargehand.domain.states import REQUEST_ENDED
from chargehand.domain.states import RequestStatus as R

QUESTION = "Run this plan? [y]es, [n]o, [w]ords to say it differently, [?] why:"


class Conversation:
    """One request, led by one command. `after` is the number of the last event that need not be shown again."""

    def __init__(self, context: Context, request_id: UUID, run_mode: RunMode, after: int = 0) -> None:
        self._desk, self._request_id, self._manner = context, request_id, run_mode
        self._seen = after
        self._shown: set[str] = set()
        context.request_id = request_id

    async def on(self) -> int:
        """Go on until it ends or waits, and return the exit code that says which."""
        while True:
            found = await self._desk.app.snapshot(self._request_id)
            code = await self._step(found.request.status, found)
            if code is not None:
                await self._answer()
                return code

    async def _step(self, status: R, found: Snapshot) -> int | None:
        if status in REQUEST_ENDED:
            return await self._ended(found)
        if status in AT_WORK:
            if not self._manner.wait:
                return self._left_to_others()
            await self._show_once(found)
            self._seen = await follow(self._desk, self._request_id, self._seen)
            return None
        return await STEPS[status](self, found)

    async def read(self, found: Snapshot) -> int | None:
        """Wait until a model has read the words."""
        if not self._manner.wait:
            self._desk.screen.show(*standing(found.request, (), (), (), ()))
            return WAITS
        with self._desk.screen.waiting("Reading the request ..."):
            while (await self._desk.app.request(self._request_id)).status in (R.ACCEPTED, R.DECOMPOSING):
                await self._desk.changed()
        return None

    async def be_asked(self, found: Snapshot) -> int | None:
        """Show the questions; somebody at the terminal may say it again."""
        screen, name = self._desk.screen, short(self._request_id)
        screen.show(Line("This needs to be said more plainly:", "warn"))
        screen.show(*(Line(question, "", 2) for question in found.questions))
        words = await self._words("Say it again (or press Enter to leave it):") if screen.can_ask else ""
        if not words:
            screen.show(Line(f'Answer with: chargehand answer {name} "..."'))
            return WAITS
        await self._desk.app.answer(self._request_id, words, self._desk.who)
        return None

    async def agree(self, found: Snapshot) -> int | None:
        """Show the plan and have it approved, or leave it to whoever may."""
        await self._show_once(found)
        assert found.plan is not None
        digest, run_mode = found.plan.digest, self._manner
        if run_mode.only_plan or not (run_mode.yes or run_mode.digest or self._desk.screen.can_ask):
            self._waits_for_approval(digest)
            return WAITS
        if run_mode.yes or run_mode.digest:
            return await self._approve(run_mode.digest or digest)
        return await self._decide(digest)

    async def look_at(self, found: Snapshot) -> int | None:
        """Show what a person must look at; only they can go on."""
        reviews = await self._desk.app.reviews(self._request_id)
        self._desk.screen.show(*standing(found.request, found.tasks, found.attempts, reviews, found.questions))
        return WAITS

    async def _decide(self, digest: str) -> int | None:
        while True:
            decision = await self._ask_decision()
            if decision.kind == "yes":
                return await self._approve(digest)
            if decision.kind in ("no", "words"):
                await self._desk.app.reject(self._request_id, self._desk.who, decision.words, digest)
                return None
            if decision.kind == "left":
                self._waits_for_approval(digest)
                return WAITS
            if decision.kind == "why":
                self._desk.screen.show(*await story_lines(self._desk.app, self._request_id))

    async def _ask_decision(self) -> Decision:
        screen = self._desk.screen
        screen.prompt(QUESTION)
        typed = await read_line()
        if typed is None:
            screen.show(BLANK)
            return Decision("left")
        decision = understood(typed)
        if decision.kind == "words" and not decision.words:
            words = await self._words("What should be done instead?")
            return Decision("words", words) if words else Decision("unclear")
        return decision

    async def _words(self, question: str) -> str:
        self._desk.screen.prompt(question)
        return (await read_line() or "").strip()

    async def _approve(self, digest: str) -> int | None:
        status = await self._desk.app.approve(self._request_id, digest, self._desk.who, self._manner.words)
        if status is R.AWAITING_APPROVAL:
            text = f"One more person must agree: chargehand approve {short(self._request_id)}"
            self._desk.screen.show(Line(text, "warn"))
            return WAITS
        return None

    async def _show_once(self, found: Snapshot) -> None:
        """Show the plan that is, or was, agreed to, once."""
        plan = found.plan
        if plan is not None and plan.digest not in self._shown:
            self._shown.add(plan.digest)
            self._desk.screen.show(*plan_lines(found.request, plan, found.decomposition), BLANK)

    async def _ended(self, found: Snapshot) -> int:
        status = found.request.status
        hint = await self._hint() if status is R.REFUSED else ""
        lines = ending_lines(found.request, found.tasks, found.attempts, found.seconds, hint)
        self._desk.screen.show(*lines)
        return exit_of(status)

    async def _hint(self) -> str:
        """A refusal's hint stands in its event; where there is none, the catalog helps."""
        events = await self._desk.app.events(self._request_id)
        refused = next((e for e in reversed(events) if e.kind == "request.refused"), None)
        return (refused.hint if refused else "") or "`chargehand catalog` shows what can be asked for."

    def _waits_for_approval(self, digest: str) -> None:
        name = short(self._request_id)
        self._desk.screen.show(
            Line(f"Waiting for approval: chargehand approve {name}", "warn"),
            Line(f"In scripts: chargehand approve {name} --digest {digest}", "dim"),
        )

    def _left_to_others(self) -> int:
        self._desk.screen.show(Line(f"Agreed. Follow it with: chargehand watch {short(self._request_id)}", "good"))
        return DONE

    async def _answer(self) -> None:
        if self._desk.screen.as_json:
            self._desk.screen.answer(request_value(await self._desk.app.snapshot(self._request_id)))


STEPS: dict[R, Callable[[Conversation, Snapshot], Awaitable[int | None]]] = {
    R.ACCEPTED: Conversation.read,
    R.DECOMPOSING: Conversation.read,
    R.ASKING: Conversation.be_asked,
    R.AWAITING_APPROVAL: Conversation.agree,
    R.IN_REVIEW: Conversation.look_at,
}
"""What a request that is neither worked on nor ended needs."""
