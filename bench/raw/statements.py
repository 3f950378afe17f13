"""The three steps of the loop, each one statement: for one row, or for as many as share a transaction.

Their arguments are lists of equal length, one list per field.
"""

from __future__ import annotations

ACCEPT = """
WITH accepted AS (
    INSERT INTO raw_requests (request_id, wording, status, plan)
    SELECT r, w, 'running', p FROM unnest($1::uuid[], $2::text[], $3::jsonb[]) AS i(r, w, p) RETURNING request_id, plan
), planned AS (
    INSERT INTO raw_tasks (task_id, request_id, task_order, status)
    SELECT (t->>'task_id')::uuid, request_id, (t->>'order')::int, 'pending'
    FROM accepted, jsonb_array_elements(plan) AS t
)
INSERT INTO raw_events (request_id, kind, data)
SELECT request_id, kind, plan FROM accepted, unnest('{request.accepted,request.running}'::text[]) AS kind
"""
"""(request ids, words, plans): the request, its tasks, two events."""

DISPATCH = """
WITH given AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::jsonb[])
        AS i(request_id, task_id, attempt_id, agent, reason, decision)
), moved AS (
    UPDATE raw_tasks t SET status = 'dispatched', updated_at = now() FROM given
    WHERE t.task_id = given.task_id AND t.status = 'pending' RETURNING t.task_id
), decided AS (
    INSERT INTO raw_decisions (task_id, agent, reason, decision) SELECT task_id, agent, reason, decision FROM given
), leased AS (
    INSERT INTO raw_attempts (attempt_id, task_id, agent, status, lease_until)
    SELECT attempt_id, task_id, agent, 'leased', now() + interval '1 minute' FROM given
)
INSERT INTO raw_events (request_id, task_id, kind, data)
SELECT request_id, task_id, kind, decision FROM given JOIN moved USING (task_id),
    unnest('{attempt.leased,task.dispatched}'::text[]) AS kind
"""
"""(request, task and attempt ids, agents, reasons, decisions): decision, lease, status, two events."""

RECORD = """
WITH given AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::jsonb[], $5::boolean[])
        AS i(request_id, task_id, attempt_id, result, last)
), moved AS (
    UPDATE raw_tasks t SET status = 'succeeded', result = given.result, updated_at = now() FROM given
    WHERE t.task_id = given.task_id AND t.status = 'dispatched' RETURNING t.task_id
), ended AS (
    UPDATE raw_attempts a SET status = 'succeeded', ended_at = now() FROM given
    WHERE a.attempt_id = given.attempt_id AND a.status = 'leased'
), done AS (
    UPDATE raw_requests r SET status = 'completed', ended_at = now() FROM given
    WHERE r.request_id = given.request_id AND given.last
)
INSERT INTO raw_events (request_id, task_id, kind, data)
SELECT request_id, task_id, kind, result FROM given JOIN moved USING (task_id),
    unnest(CASE WHEN last THEN '{attempt.succeeded,task.succeeded,request.completed}'
           ELSE '{attempt.succeeded,task.succeeded}' END::text[]) AS kind
"""
"""(request, task and attempt ids, results, whether it is the last): result, statuses, two or three events."""
