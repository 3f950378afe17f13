-- The statements of the path, set-based: one round trip a batch, not a row. Locks: requests (in id order) before agents.

-- name: accept_request
-- Its first seal is written with it, still empty: the sweep fills it and puts it into the chain (`chain_seals`).
WITH accepted AS (
    INSERT INTO requests (request_id, idempotency_key, body_digest, text, wording, requester, mode, dry_run, status,
        trace_id, priority, head_start, turn, not_before, otherwise)
    VALUES ($1, $2, $3, $4, $4, $5, $6, $7, 'accepted', $8,
        $9, $10, now() - make_interval(secs => $10), $11, $12::text[])
    ON CONFLICT (idempotency_key) DO NOTHING
    RETURNING request_id
), sealed AS (
    INSERT INTO seals (request_id, event_count, kind) SELECT request_id, 1, 'accepted' FROM accepted
)
SELECT request_id FROM accepted

-- name: request_by_key
SELECT request_id, body_digest FROM requests WHERE idempotency_key = $1

-- name: claim_requests
-- Accepted ones, and those whose claimant died: its claim has run out.
UPDATE requests r SET claim_token = nextval('lease_tokens'), claim_until = now() + make_interval(secs => $2)
FROM (SELECT request_id FROM requests
      WHERE (status = 'accepted' OR (status = 'decomposing' AND claim_until < now()))
        AND ($3::uuid IS NULL OR request_id = $3)
      ORDER BY turn LIMIT $1 FOR UPDATE SKIP LOCKED) due
WHERE r.request_id = due.request_id
RETURNING r.request_id, r.wording, r.requester, r.mode, r.dry_run, r.status, r.trace_id, r.claim_token, r.failures,
    r.priority, r.not_before, r.otherwise, r.reworded_by

-- name: end_claims
UPDATE requests SET claim_until = now() - interval '1 second' WHERE status = 'decomposing' AND claim_until > now()

-- name: lock_requests
SELECT request_id, wording, requester, mode, dry_run, status, trace_id, claim_token, failures,
    priority, not_before, otherwise, reworded_by
FROM requests WHERE request_id = ANY($1::uuid[]) ORDER BY request_id FOR UPDATE

-- name: move_requests
UPDATE requests r SET status = m.new, status_reason = m.reason, updated_at = now(),
    ended_at = CASE WHEN m.ended THEN now() END,
    claim_token = CASE WHEN m.new = 'decomposing' THEN r.claim_token END,
    claim_until = CASE WHEN m.new = 'decomposing' THEN r.claim_until END
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::boolean[]) AS m(id, old, new, reason, ended)
WHERE r.request_id = m.id AND r.status = m.old

-- name: move_plans
UPDATE plans p SET status = m.new, decided_at = now()
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS m(id, old, new)
WHERE p.plan_id = m.id AND p.status = m.old

-- name: move_tasks
-- A task keeps its turn, and so its queue position, when it is retried or gives way.
UPDATE tasks t SET status = m.new, status_reason = m.reason, updated_at = now(),
    ready_since = CASE WHEN m.new = 'ready' THEN GREATEST(now(), r.not_before) ELSE t.ready_since END,
    due_at = CASE WHEN m.new = 'ready' THEN GREATEST(now() + make_interval(secs => m.delay), r.not_before) END,
    turn = CASE WHEN m.new = 'ready' AND t.turn IS NULL
        THEN GREATEST(now(), r.not_before) - make_interval(secs => r.head_start) ELSE t.turn END,
    ended_at = CASE WHEN m.ended THEN now() END,
    waits_for = NULL, chose_until = NULL,
    result = COALESCE(m.result, t.result)
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::float8[], $6::boolean[], $7::jsonb[])
    AS m(id, old, new, reason, delay, ended, result), requests r
WHERE t.task_id = m.id AND t.status = m.old AND r.request_id = t.request_id

-- name: move_attempts
UPDATE attempts a SET status = m.new,
    accepted_at = CASE WHEN m.new = 'accepted' THEN now() ELSE a.accepted_at END,
    started_at = CASE WHEN m.new = 'started' THEN now() ELSE a.started_at END,
    deadline_at = CASE WHEN m.new = 'started' THEN now() + (a.deadline_at - a.start_by) ELSE a.deadline_at END,
    ended_at = CASE WHEN m.ended THEN now() END,
    incarnation = COALESCE(m.incarnation, a.incarnation),
    result = COALESCE(m.result, a.result),
    duration_ms = COALESCE(m.duration_ms, a.duration_ms)
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::boolean[], $5::text[], $6::jsonb[], $7::bigint[])
    AS m(id, old, new, ended, incarnation, result, duration_ms)
WHERE a.attempt_id = m.id AND a.status = m.old

-- name: write_events
-- The number of an event comes from its request's own counter, so that a missing one shows. The wake-up for whoever has
-- something to do after the commit goes with them: one round trip.
WITH incoming AS (
    SELECT * FROM unnest($1::uuid[], $2::int[], $3::text[], $4::uuid[], $5::uuid[], $6::jsonb[])
        AS i(request_id, ordinal, kind, task_id, attempt_id, data)
), counted AS (
    UPDATE requests r SET event_count = r.event_count + c.n
    FROM (SELECT request_id, count(*)::int AS n FROM incoming GROUP BY request_id) c
    WHERE r.request_id = c.request_id
    RETURNING r.request_id, r.event_count - c.n AS base
), written AS (
    INSERT INTO events (request_id, seq, kind, task_id, attempt_id, data)
    SELECT i.request_id, counted.base + i.ordinal, i.kind, i.task_id, i.attempt_id, i.data
    FROM incoming i JOIN counted USING (request_id)
    ORDER BY i.request_id, i.ordinal
)
SELECT pg_notify('chargehand', $7)

-- name: events_of
SELECT seq, kind, task_id, attempt_id, data, at FROM events WHERE request_id = $1 ORDER BY seq

-- name: events_of_ended
SELECT request_id, seq, kind, task_id, attempt_id, data, at FROM events
WHERE request_id = ANY($1::uuid[]) ORDER BY request_id, seq

-- name: write_seals
INSERT INTO seals (request_id, event_count, kind, mac, key_name)
SELECT i.request_id, i.event_count, 'ended', i.mac, $4
FROM unnest($1::uuid[], $2::int[], $3::text[]) AS i(request_id, event_count, mac)

-- name: any_unchained
SELECT 1 AS found FROM seals WHERE position IS NULL LIMIT 1

-- name: lock_chain
-- One process at a time makes the chain longer. Nobody waits for it: what is left is done with the next sweep.
SELECT pg_try_advisory_xact_lock($1) AS mine

-- name: chain_ends
-- The newest seal of the chain, and the one at a position that is known from before.
SELECT position, link FROM seals
WHERE position = $1 OR position = (SELECT max(position) FROM seals) ORDER BY position DESC

-- name: unchained_seals
SELECT seal_id, request_id, event_count, kind, mac, key_name FROM seals WHERE position IS NULL ORDER BY seal_id LIMIT $1

-- name: first_events
SELECT request_id, seq, kind, task_id, attempt_id, data, at FROM events WHERE request_id = ANY($1::uuid[]) AND seq = 1

-- name: chain_seals
UPDATE seals s SET position = c.position, link = c.link, mac = c.mac, key_name = c.key_name
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[]) AS c(seal_id, position, link, mac, key_name)
WHERE s.seal_id = c.seal_id AND s.position IS NULL

-- name: insert_tasks
INSERT INTO tasks (task_id, request_id, plan_id, task_order, intent, work_type, agent_type, spec, status,
    read_by_tier, read_by_model)
SELECT i.*, 'pending', r.read_by_tier, r.read_by_model
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[], $5::text[], $6::text[], $7::text[], $8::jsonb[])
    AS i(task_id, request_id, plan_id, task_order, intent, work_type, agent_type, spec)
JOIN requests r USING (request_id)

-- name: claim_ready
-- Ready tasks of running requests whose row nobody else holds; the lock on the request covers its tasks.
WITH due AS (
    SELECT t.task_id, t.request_id FROM tasks t JOIN requests r USING (request_id)
    WHERE t.status = 'ready' AND t.due_at <= now() AND r.status = 'running'
      AND ($2::uuid IS NULL OR t.task_id = $2)
    ORDER BY t.turn, t.task_order LIMIT $1
), locked AS (
    SELECT request_id, not_before FROM requests WHERE request_id IN (SELECT request_id FROM due)
      AND status = 'running'
    ORDER BY request_id FOR UPDATE SKIP LOCKED
)
SELECT t.task_id, t.request_id, t.plan_id, t.task_order, t.intent, t.work_type, t.spec::text, t.status, t.status_reason,
    t.attempts_made, t.forgiven, t.tried, t.failures, extract(epoch FROM now() - t.ready_since)::float8 AS waited,
    t.waits_for, t.chose_until IS NOT NULL AS chose,
    GREATEST(extract(epoch FROM now() - GREATEST(t.ready_since, t.chose_until, locked.not_before)), 0)::float8 AS stranded
FROM tasks t JOIN due USING (task_id) JOIN locked ON locked.request_id = t.request_id
WHERE t.status = 'ready'
ORDER BY t.turn, t.task_order
FOR NO KEY UPDATE OF t -- reads the row anew: another server may have dispatched it after this statement began to look

-- name: tasks_of
SELECT task_id, request_id, plan_id, task_order, intent, work_type, spec::text, status, status_reason,
    attempts_made, forgiven, tried, failures, COALESCE(extract(epoch FROM now() - ready_since), 0)::float8 AS waited
FROM tasks WHERE request_id = ANY($1::uuid[])
  AND plan_id IN (SELECT DISTINCT ON (request_id) plan_id FROM plans
                  WHERE request_id = ANY($1::uuid[]) ORDER BY request_id, version DESC)
ORDER BY request_id, task_order

-- name: standings
-- All tasks of a plan are looked at after each result: of 300 of them, a row of two lists is a fortieth of the work.
SELECT request_id, array_agg(task_id ORDER BY task_order) AS task_ids,
    array_agg(status::text ORDER BY task_order) AS statuses
FROM tasks WHERE request_id = ANY($1::uuid[])
  AND plan_id IN (SELECT DISTINCT ON (request_id) plan_id FROM plans
                  WHERE request_id = ANY($1::uuid[]) ORDER BY request_id, version DESC)
GROUP BY request_id

-- name: task_specs
-- What was approved of a task never changes, so it is read once.
SELECT task_id, spec::text FROM tasks WHERE task_id = ANY($1::uuid[])

-- name: tasks_by_id
SELECT task_id, request_id, plan_id, task_order, intent, work_type, spec::text, status, status_reason,
    attempts_made, forgiven, tried, failures, COALESCE(extract(epoch FROM now() - ready_since), 0)::float8 AS waited
FROM tasks WHERE task_id = ANY($1::uuid[])

-- name: pool
-- What the router may know: for every intent asked about every agent that may run it, or, when none may, all of them:
-- the others of a large fleet need not be looked at one by one.
-- The columns after the intent are the fields of AgentFacts, in their order, the last of them field by field (Figures). How often a work type usually succeeds
-- starts from even odds. What an agent says of its machine may be from before numbers had limits.
SELECT w.intent, g.agent_id::text, g.name, g.agent_type, g.pool_name, g.status, COALESCE(i.granted, false) AS granted,
    -- Of an offer without a grant nothing is taken but that there is one.
    COALESCE(i.content_hash, (SELECT '' FROM agent_intents u
                              WHERE u.agent_id = g.agent_id AND u.intent = w.intent AND u.absent_since IS NULL))
        AS content_hash, i.unavailable, g.specializations, g.slots, g.in_flight,
    LEAST(COALESCE((g.resources->>'cpu_cores')::numeric, 0), 2147483647)::int AS cpu_cores,
    LEAST(COALESCE((g.resources->>'memory_mb')::numeric, 0), 2147483647)::int AS memory_mb,
    LEAST(COALESCE((g.resources->>'gpu_vram_mb')::numeric, 0), 2147483647)::int AS gpu_vram_mb,
    0 AS promised_memory_mb, 0 AS promised_gpu_vram_mb, -- of interest for few tasks: see `promised`
    COALESCE(p.success_count, 0) AS success_count, COALESCE(p.failure_count, 0) AS failure_count,
    COALESCE(p.total_duration_ms, 0) AS total_duration_ms,
    COALESCE(p.lately_successes, 0) AS lately_successes, COALESCE(p.lately_runs, 0) AS lately_runs,
    g.overall_successes, g.overall_runs,
    (COALESCE(sum(p.lately_successes) OVER all_agents, 0) + 1) / (COALESCE(sum(p.lately_runs) OVER all_agents, 0) + 2)
        AS usual_rate,
    p.p50_ms, p.p90_ms,
    extract(epoch FROM now() - p.last_execution_at)::float8 AS recent_context_age,
    COALESCE(extract(epoch FROM now() - g.last_heartbeat_at), 1e9)::float8 AS heartbeat_age,
    GREATEST(COALESCE(extract(epoch FROM g.circuit_open_until - now()), 0), 0)::float8 AS circuit_open_for,
    -- By each agent: a table that was never analysed would else be read through. Who is due (called, or its time is
    -- over) waits no more, and only what is ready waits (`move_tasks`). Mostly nobody does, and the index is empty.
    (SELECT count(*)::int FROM tasks t WHERE t.waits_for = g.agent_id AND t.due_at > now()) AS in_line,
    false AS recent_request, false AS tried, -- of interest for one task each, like what is promised
    p.deviation_ms, (p.resources_used->>'memory_mb')::float8 AS used_memory_mb,
    (p.resources_used->>'cpu_cores')::float8 AS used_cpu_cores,
    -- A heartbeat that tells of no free memory does not tell of free resources at all.
    CASE WHEN (g.free->>'memory_mb')::numeric > 0
        THEN LEAST((g.free->>'memory_mb')::numeric, 2147483647)::int END AS free_memory_mb,
    CASE WHEN (g.free->>'memory_mb')::numeric > 0
        THEN LEAST(COALESCE((g.free->>'gpu_vram_mb')::numeric, 0), 2147483647)::int END AS free_gpu_vram_mb,
    0 AS unseen_memory_mb, 0 AS unseen_gpu_vram_mb, g.load,
    COALESCE(sum(q.difficulty * (q.success_count + q.failure_count)) OVER all_agents
        / NULLIF(sum(q.success_count + q.failure_count) OVER all_agents, 0), 0)::float8 AS usual_difficulty,
    COALESCE(sum(q.success_count + q.failure_count) OVER all_agents, 0)::int AS judged_runs,
    COALESCE(q.success_count, 0) AS own_runs, q.p50_ms AS own_p50_ms, q.p90_ms AS own_p90_ms,
    q.total_duration_ms::float8 / NULLIF(q.success_count + q.failure_count, 0) AS own_mean_ms,
    q.deviation_ms AS own_deviation_ms, (q.resources_used->>'memory_mb')::float8 AS own_memory_mb,
    (q.resources_used->>'cpu_cores')::float8 AS own_cpu_cores
FROM unnest($1::text[], $2::text[]) AS w(intent, work_type)
CROSS JOIN LATERAL (
    SELECT o.agent_id FROM agent_intents o WHERE o.intent = w.intent AND o.granted
    UNION ALL
    SELECT a.agent_id FROM agent_registry a
    WHERE NOT EXISTS (SELECT FROM agent_intents o WHERE o.intent = w.intent AND o.granted)
) AS asked
JOIN agent_registry g ON g.agent_id = asked.agent_id
LEFT JOIN agent_intents i ON i.agent_id = g.agent_id AND i.intent = w.intent AND i.granted
LEFT JOIN agent_performance p ON p.agent_id = g.agent_id AND p.work_type = w.work_type AND p.intent = ''
LEFT JOIN agent_performance q ON q.agent_id = g.agent_id AND q.work_type = w.work_type AND q.intent = w.intent
WINDOW all_agents AS (PARTITION BY w.intent)
ORDER BY w.intent, g.agent_id

-- name: promised
-- The memory that each agent's work was promised, and the part of it that its last heartbeat cannot have seen in use.
SELECT a.agent_id, sum(n.memory_mb)::bigint AS memory_mb, sum(n.gpu_vram_mb)::bigint AS gpu_vram_mb,
    COALESCE(sum(n.memory_mb) FILTER (WHERE n.unseen), 0)::bigint AS unseen_memory_mb,
    COALESCE(sum(n.gpu_vram_mb) FILTER (WHERE n.unseen), 0)::bigint AS unseen_gpu_vram_mb
FROM attempts a JOIN tasks t USING (task_id) JOIN agent_registry g ON g.agent_id = a.agent_id
CROSS JOIN LATERAL (
    SELECT (s.need->>'memory_mb')::bigint AS memory_mb, (s.need->>'gpu_vram_mb')::bigint AS gpu_vram_mb,
        NOT COALESCE(a.started_at < g.last_heartbeat_at, false) AS unseen
    FROM (SELECT COALESCE(NULLIF(t.spec->'measured_need', 'null'), t.spec->'resource_requirements') AS need) s
) n
WHERE a.status IN ('leased', 'accepted', 'started') AND ($1::uuid[] IS NULL OR a.agent_id = ANY($1))
GROUP BY a.agent_id

-- name: staff
-- Every agent that may run anything.
SELECT g.name, g.status, g.in_flight, g.slots,
    GREATEST(COALESCE(extract(epoch FROM g.circuit_open_until - now()), 0), 0)::float8 AS circuit_open_for
FROM agent_registry g
WHERE EXISTS (SELECT 1 FROM agent_intents i WHERE i.agent_id = g.agent_id AND i.granted) ORDER BY g.name

-- name: count_agents
SELECT count(*)::int AS n FROM agent_registry

-- name: resources_of
SELECT agent_id, resources, free FROM agent_registry WHERE agent_id = ANY($1::uuid[])

-- name: recent_agents
SELECT DISTINCT t.request_id, a.agent_id FROM tasks t JOIN attempts a USING (task_id)
WHERE t.request_id = ANY($1::uuid[])

-- name: held_keys
SELECT k.key, k.request_id FROM exclusive_keys k WHERE k.key = ANY($1::text[])

-- name: take_keys
INSERT INTO exclusive_keys (key, attempt_id, request_id)
SELECT * FROM unnest($1::text[], $2::uuid[], $3::uuid[]) ON CONFLICT (key) DO NOTHING

-- name: drop_keys
DELETE FROM exclusive_keys WHERE attempt_id = ANY($1::uuid[])

-- name: drop_unsent
DELETE FROM outbox WHERE attempt_id = ANY($1::uuid[])

-- name: lock_agents
-- An UPDATE takes its rows in any order, so several servers would deadlock on them. The lock leaves the key alone, because
-- foreign keys to an agent are checked in transactions that do not lock it.
SELECT agent_id FROM agent_registry WHERE agent_id = ANY($1::uuid[]) ORDER BY agent_id FOR NO KEY UPDATE

-- name: take_slots
UPDATE agent_registry g SET in_flight = g.in_flight + c.n
FROM unnest($1::uuid[], $2::int[]) AS c(agent_id, n)
WHERE g.agent_id = c.agent_id AND g.in_flight + c.n <= g.slots

-- name: free_slots
UPDATE agent_registry g SET in_flight = GREATEST(g.in_flight - c.n, 0)
FROM unnest($1::uuid[], $2::int[]) AS c(agent_id, n) WHERE g.agent_id = c.agent_id

-- name: lease_tokens
SELECT nextval('lease_tokens') AS token FROM generate_series(1, $1)

-- name: insert_attempts
-- The time it may take counts from its beginning (`move_attempts`); before that, from when it must have begun.
INSERT INTO attempts (attempt_id, task_id, request_id, agent_id, number, lease_token, status, lease_seconds,
    lease_until, start_by, deadline_at)
SELECT i.attempt_id, i.task_id, i.request_id, i.agent_id, i.number, i.token, 'leased', i.lease,
    now() + make_interval(secs => i.lease), now() + make_interval(secs => i.start),
    now() + make_interval(secs => i.start + i.run)
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::int[], $6::bigint[], $7::float8[], $8::float8[],
    $9::float8[]) AS i(attempt_id, task_id, request_id, agent_id, number, token, lease, start, run)

-- name: count_attempts
UPDATE tasks t SET attempts_made = t.attempts_made + 1, tried = array_append(t.tried, i.agent_id)
FROM unnest($1::uuid[], $2::uuid[]) AS i(task_id, agent_id) WHERE t.task_id = i.task_id

-- name: insert_decisions
INSERT INTO routing_decisions (task_id, work_type, agent_pool, selected_agent_id, success_rate_percent,
    specialization_match, recent_context_match, retried, reason, attempt_id, decision, predicted_success, predicted_ms)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::int[], $6::boolean[], $7::boolean[],
    $8::boolean[], $9::text[], $10::uuid[], $11::jsonb[], $12::float8[], $13::bigint[])

-- name: postpone_tasks
UPDATE tasks t SET due_at = now() + make_interval(secs => m.delay), status_reason = m.reason, updated_at = now(),
    wants_capacity = true, waits_for = m.waits_for,
    chose_until = CASE WHEN m.waits_for IS NULL THEN t.chose_until ELSE now() + make_interval(secs => m.delay) END
FROM unnest($1::uuid[], $2::float8[], $3::text[], $4::uuid[]) AS m(task_id, delay, reason, waits_for)
WHERE t.task_id = m.task_id AND t.status = 'ready'

-- name: hasten_tasks
-- Something was freed: let those whose turn it is look again at once. Who waits for another agent goes on waiting.
UPDATE tasks SET due_at = now(), wants_capacity = false
WHERE task_id IN (SELECT task_id FROM tasks WHERE status = 'ready' AND wants_capacity AND due_at > now()
                    AND (waits_for IS NULL OR waits_for = ANY($2::uuid[]))
                  ORDER BY turn LIMIT $1 FOR UPDATE SKIP LOCKED)

-- name: put_outbox
INSERT INTO outbox (queue, body, attempt_id) SELECT * FROM unnest($1::text[], $2::bytea[], $3::uuid[])

-- name: take_outbox
SELECT message_id, queue, body, attempt_id FROM outbox
WHERE due_at IS NULL OR due_at <= now() ORDER BY message_id LIMIT $1 FOR UPDATE SKIP LOCKED

-- name: drop_outbox
DELETE FROM outbox WHERE message_id = ANY($1::bigint[])

-- name: postpone_outbox
UPDATE outbox SET failures = failures + 1, due_at = now() + make_interval(secs => LEAST(power(2, failures), 30))
WHERE message_id = ANY($1::bigint[])

-- name: attempts_by_id
SELECT attempt_id, task_id, request_id, agent_id, number, lease_token, status, incarnation,
    extract(epoch FROM lease_until - now())::float8 AS lease_left, result IS NOT NULL AS has_result,
    begun_at IS NOT NULL AS begun
FROM attempts WHERE attempt_id = ANY($1::uuid[])

-- name: compare_results
SELECT attempt_id, COALESCE(a.result->>'message_id' = m.message_id, false) AS same_message,
    a.result - 'message_id' = m.said AS same_result
FROM unnest($1::uuid[], $2::text[], $3::jsonb[]) AS m(attempt_id, message_id, said) JOIN attempts a USING (attempt_id)

-- name: able_elsewhere
-- Only asked when work has failed on an agent.
SELECT a.attempt_id FROM attempts a JOIN tasks t USING (task_id)
WHERE a.attempt_id = ANY($1::uuid[]) AND EXISTS (
    SELECT FROM agent_intents i JOIN agent_registry g USING (agent_id)
    WHERE i.intent = t.intent AND i.content_hash = t.spec->>'content_hash' AND i.granted AND i.unavailable IS NULL
        AND g.status IN ('online', 'busy') AND NOT g.agent_id = ANY(t.tried)
        AND COALESCE(g.circuit_open_until <= now(), true)
        AND COALESCE(t.spec->>'pinned_agent' IN (g.agent_id::text, g.name), true)
        AND (COALESCE(t.spec->'agents', '[]') = '[]' OR t.spec->'agents' ? g.name))

-- name: open_attempts_of
SELECT attempt_id, task_id, request_id, agent_id, number, lease_token, status, incarnation,
    extract(epoch FROM lease_until - now())::float8 AS lease_left, result IS NOT NULL AS has_result,
    begun_at IS NOT NULL AS begun
FROM attempts WHERE request_id = $1 AND status IN ('leased', 'accepted', 'started')

-- name: undelivered_attempts
-- Orders that the agent's former life may never have seen.
SELECT a.attempt_id, a.lease_token, a.number, t.spec, r.trace_id, r.request_id, r.dry_run,
    extract(epoch FROM a.deadline_at - a.start_by)::float8 AS run_seconds
FROM attempts a JOIN tasks t USING (task_id) JOIN requests r ON r.request_id = a.request_id
WHERE a.agent_id = $1 AND a.status = 'leased'
ORDER BY a.lease_token

-- name: renew_leases
-- What another transaction has locked is left alone: it is being renewed or ended there, and waiting could deadlock.
UPDATE attempts a SET lease_until = now() + make_interval(secs => a.lease_seconds)
FROM (SELECT attempt_id FROM attempts JOIN unnest($1::uuid[], $2::uuid[]) AS b(attempt_id, agent_id)
          USING (attempt_id, agent_id)
      WHERE status IN ('leased', 'accepted', 'started') FOR UPDATE OF attempts SKIP LOCKED) due
WHERE a.attempt_id = due.attempt_id

-- name: lapsed_attempts
-- The lease and the grace after it are over, it has not been started in time, or it has run longer than it may.
SELECT attempt_id, request_id,
    CASE WHEN lease_until + make_interval(secs => $2) < now() THEN 'silent'
         WHEN status <> 'started' AND start_by < now() THEN 'not started' ELSE 'too long' END AS why
FROM attempts
WHERE status IN ('leased', 'accepted', 'started')
  AND (lease_until + make_interval(secs => $2) < now() OR deadline_at + make_interval(secs => $2) < now()
       OR (status <> 'started' AND start_by < now()))
ORDER BY lease_until LIMIT $1

-- name: mark_begun
UPDATE attempts SET begun_at = COALESCE(begun_at, now()) WHERE attempt_id = ANY($1::uuid[])

-- name: mark_cancel_sent
UPDATE attempts SET cancel_sent = true WHERE attempt_id = ANY($1::uuid[])

-- name: performance
-- The agents are locked, so nobody else writes these rows until this transaction ends.
SELECT g.agent_id, w.work_type, w.intent, g.overall_successes, g.overall_runs, COALESCE(p.success_count, 0) AS success_count,
    COALESCE(p.failure_count, 0) AS failure_count, COALESCE(p.total_duration_ms, 0) AS total_duration_ms,
    COALESCE(p.total_duration_ms2, 0) AS total_duration_ms2, p.p50_ms, p.p90_ms,
    COALESCE(p.lately_successes, 0) AS lately_successes, COALESCE(p.lately_runs, 0) AS lately_runs,
    COALESCE(p.resources_used, '{}') AS resources_used, p.difficulty
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS w(agent_id, work_type, intent) JOIN agent_registry g USING (agent_id)
LEFT JOIN agent_performance p ON p.agent_id = w.agent_id AND p.work_type = w.work_type AND p.intent = w.intent

-- name: learn
-- A row for each intent, and one without an intent for all of the work type.
INSERT INTO agent_performance AS p (agent_id, work_type, intent, success_count, failure_count, total_duration_ms,
    total_duration_ms2, p50_ms, p90_ms, lately_successes, lately_runs, resources_used, difficulty_assessment,
    deviation_ms, difficulty, last_execution_at)
SELECT o.*, now()
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int[], $5::int[], $6::bigint[], $7::float8[], $8::float8[],
    $9::float8[], $10::float8[], $11::float8[], $12::jsonb[], $13::text[], $14::float8[], $15::float8[]) AS o
ON CONFLICT (agent_id, work_type, intent) DO UPDATE SET
    success_count = EXCLUDED.success_count, failure_count = EXCLUDED.failure_count,
    total_duration_ms = EXCLUDED.total_duration_ms, total_duration_ms2 = EXCLUDED.total_duration_ms2,
    p50_ms = EXCLUDED.p50_ms, p90_ms = EXCLUDED.p90_ms,
    lately_successes = EXCLUDED.lately_successes, lately_runs = EXCLUDED.lately_runs,
    resources_used = EXCLUDED.resources_used, difficulty_assessment = EXCLUDED.difficulty_assessment,
    deviation_ms = EXCLUDED.deviation_ms, difficulty = EXCLUDED.difficulty,
    last_execution_at = now(), updated_at = now()

-- name: learn_overall
UPDATE agent_registry g SET overall_successes = o.successes, overall_runs = o.runs
FROM unnest($1::uuid[], $2::float8[], $3::float8[]) AS o(agent_id, successes, runs) WHERE g.agent_id = o.agent_id

-- name: judge_decisions
-- Found through its task: that is what it is looked up by everywhere, so it has one index and not two.
UPDATE routing_decisions d SET succeeded = o.ok, duration_ms = o.duration_ms
FROM unnest($1::uuid[], $2::boolean[], $3::bigint[]) AS o(attempt_id, ok, duration_ms)
JOIN attempts a USING (attempt_id)
WHERE d.task_id = a.task_id AND d.attempt_id = o.attempt_id

-- name: count_infrastructure
UPDATE agent_registry g SET
    infrastructure_failures = CASE WHEN o.bad THEN g.infrastructure_failures + 1 ELSE 0 END,
    circuit_open_until = CASE WHEN o.bad AND g.infrastructure_failures + 1 >= $3
        THEN now() + make_interval(secs => $4) ELSE g.circuit_open_until END
FROM unnest($1::uuid[], $2::boolean[]) AS o(agent_id, bad) WHERE g.agent_id = o.agent_id

-- name: heartbeats
UPDATE agent_registry g SET last_heartbeat_at = now(), updated_at = now(), free = h.free, load = h.load,
    status = CASE WHEN h.draining OR g.drained THEN 'draining' WHEN g.in_flight >= g.slots THEN 'busy' ELSE 'online' END
FROM unnest($1::uuid[], $2::text[], $3::jsonb[], $4::float8[], $5::boolean[])
    AS h(agent_id, incarnation, free, load, draining)
WHERE g.agent_id = h.agent_id AND g.incarnation = h.incarnation

-- name: mark_offline
UPDATE agent_registry SET status = 'offline', updated_at = now()
WHERE status <> 'offline' AND last_heartbeat_at < now() - make_interval(secs => $1) RETURNING agent_id, name

-- name: insert_anomalies
INSERT INTO anomalies (kind, agent_id, attempt_id, request_id, detail)
SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::uuid[], $5::jsonb[])

-- name: statuses
SELECT request_id, status, status_reason FROM requests WHERE request_id = ANY($1::uuid[])
