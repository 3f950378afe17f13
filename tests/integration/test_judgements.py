"""What people decide about plans, stored by a real orchestrator, comes back as verdicts and as a fit."""

from __future__ import annotations

from chargehand.domain.states import RequestStatus as R
from chargehand.understanding.feedback import reported
from chargehand.understanding.judgements import fits, judgements
from tests.builders import make_spec
from tests.world import World, decomposition


async def test_approving_changing_and_rejecting_teach_and_waiting_does_not(world: World) -> None:
    await world.agent("infra-1", make_spec("deploy_page", retry_safe=True), make_spec("check_disk"))
    await world.approved("deploy_page", "check_disk", words="both")
    await world.planned("check_disk", words="waits")
    dropped = await world.planned("check_disk", words="drop it")
    changed = await world.planned("deploy_page", "check_disk", words="only the page")
    for request_id, words in ((dropped, ""), (changed, "the page")):
        plan = await world.queries.plan(request_id)
        assert plan is not None
        world.model.answers["the page"] = decomposition("deploy_page")
        await world.control.reject(request_id, plan["digest"], "ann", words)
    await world.engine.decompose()
    again = await world.queries.plan(changed)
    assert again is not None
    assert await world.control.approve(changed, again["digest"], "ann") is R.RUNNING
    readings, plans = await world.queries.readings(None, 100)
    found = judgements(readings, plans)
    assert sorted((each.how, each.right) for each in found) == [
        *[("approved", True)] * 3, ("changed", False), ("changed", True), ("rejected", False),
    ]  # fmt: skip
    (report,) = reported(found, readings, {"embedded": 0.7})
    assert (report.readings, report.subtasks, report.few) == (5, 6, True)
    assert fits(found).keys() == {("embedded", "written by the test")}
    assert await world.queries.readings(0.0, 100) == ([], [])
    world.engine.trust.fits = fits(found)
    later = await world.planned("check_disk", words="later")
    (row,) = await world.queries.decompositions(later)
    assert row["value"]["calibration"] == fits(found)["embedded", "written by the test"].version
    assert row["value"]["subtasks"][0]["terms"]["outcomes"] < 0
