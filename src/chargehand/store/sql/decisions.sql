-- The statements of decomposing, approving and registering: seldom, one request at a time.

-- name: insert_decompositions
INSERT INTO decompositions (request_id, wording, tier, model, value, thresholds)
SELECT d.*, $6 FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::jsonb[]) AS d

-- name: insert_llm_calls
INSERT INTO llm_calls (request_id, purpose, tier, model, prompt_version, seconds, tokens_in, tokens_out,
    tokens_cached, cost_usd, error_class, error, choice, followed, answer, created_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::float8[], $7::int[], $8::int[],
    $9::int[], $10::numeric[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::timestamptz[])

-- name: unread_requests
-- What no model could plan and no person has dealt with.
SELECT request_id FROM requests r WHERE status = 'in_review'
    AND EXISTS (SELECT 1 FROM reviews w WHERE w.request_id = r.request_id AND w.status = 'open' AND w.kind = 'no_plan')
    AND NOT EXISTS (SELECT 1 FROM plans p WHERE p.request_id = r.request_id)
ORDER BY created_at LIMIT $1

-- name: set_readers
UPDATE requests r SET read_by_tier = s.tier, read_by_model = s.model
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS s(request_id, tier, model) WHERE r.request_id = s.request_id

-- name: count_wish
INSERT INTO out_of_scope AS o (wish, times, last_request_id) VALUES ($1, 1, $2)
ON CONFLICT (wish) DO UPDATE SET times = o.times + 1, last_at = now(), last_request_id = EXCLUDED.last_request_id

-- name: insert_plans
INSERT INTO plans (plan_id, request_id, version, digest, plan, ruling, mac, status, expires_at)
SELECT p.*, 'pending_approval', now() + make_interval(secs => $8)
FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::jsonb[], $6::jsonb[], $7::text[]) AS p

-- name: latest_plans
-- With who approved it, and the transaction's time, which an approval that is written in it gets: in microseconds.
SELECT DISTINCT ON (p.request_id) p.plan_id, p.request_id, p.version, p.digest, p.status, p.plan, p.ruling,
    p.expires_at < now() AS expired, p.mac, array_to_string(r.requester || r.reworded_by, E'\n') AS asked_by,
    (extract(epoch FROM now()) * 1000000)::bigint AS at,
    ARRAY(SELECT jsonb_build_array(a.approver, (extract(epoch FROM a.created_at) * 1000000)::bigint, a.mac)
          FROM approvals a WHERE a.plan_id = p.plan_id AND a.decision = 'approved' AND a.digest = p.digest
          ORDER BY a.approval_id) AS approvals
FROM plans p JOIN requests r USING (request_id)
WHERE p.request_id = ANY($1::uuid[]) ORDER BY p.request_id, p.version DESC

-- name: plans_by_id
SELECT p.plan_id, p.request_id, p.version, p.digest, p.status, p.plan, p.ruling,
    p.expires_at < now() AS expired, p.mac, array_to_string(r.requester || r.reworded_by, E'\n') AS asked_by,
    (extract(epoch FROM now()) * 1000000)::bigint AS at,
    ARRAY(SELECT jsonb_build_array(a.approver, (extract(epoch FROM a.created_at) * 1000000)::bigint, a.mac)
          FROM approvals a WHERE a.plan_id = p.plan_id AND a.decision = 'approved' AND a.digest = p.digest
          ORDER BY a.approval_id) AS approvals
FROM plans p JOIN requests r USING (request_id) WHERE p.plan_id = ANY($1::uuid[])

-- name: plan_versions
-- Whatever changes a row gives it another xmin, so what was read of a plan, of who asked for it and of who approved it
-- need not be read and checked again while none of them has changed.
SELECT p.plan_id, concat_ws(' ', p.xmin::text, r.requester, r.reworded_by::text,
        (SELECT string_agg(a.xmin::text, ',' ORDER BY a.approval_id) FROM approvals a WHERE a.plan_id = p.plan_id)
    ) AS version
FROM plans p JOIN requests r USING (request_id) WHERE p.plan_id = ANY($1::uuid[])

-- name: latest_decomposition
SELECT value FROM decompositions WHERE request_id = $1 ORDER BY decomposition_id DESC LIMIT 1

-- name: insert_approval
-- A row that is there already may be one that somebody wrote who cannot sign it.
INSERT INTO approvals AS a (plan_id, digest, approver, decision, words, mac, created_at)
VALUES ($1, $2, $3, $4, $5, $6, now())
ON CONFLICT (plan_id, approver, decision) DO UPDATE SET digest = EXCLUDED.digest, words = EXCLUDED.words,
    created_at = EXCLUDED.created_at, mac = EXCLUDED.mac

-- name: expired_plans
SELECT request_id FROM plans WHERE status = 'pending_approval' AND expires_at < now() LIMIT $1

-- name: reword_request
UPDATE requests SET wording = $2, updated_at = now() WHERE request_id = $1

-- name: add_asker
UPDATE requests SET reworded_by = reworded_by || $2::text
WHERE request_id = $1 AND $2 <> requester AND $2 <> ALL(reworded_by)

-- name: returned
-- What tasks of these plans have returned. A task that somebody only says is done has no result that went well.
SELECT t.plan_id, t.task_order, t.intent, t.status,
    CASE WHEN (t.result->>'ok')::boolean THEN t.result->'outputs' END AS outputs
FROM unnest($1::uuid[], $2::uuid[], $3::int[]) AS w(request_id, plan_id, task_order)
JOIN tasks t USING (request_id, plan_id, task_order)
ORDER BY t.plan_id, t.task_order

-- name: reset_tasks
UPDATE tasks SET forgiven = attempts_made, tried = '{}', failures = 0 WHERE task_id = ANY($1::uuid[])

-- name: insert_review
INSERT INTO reviews (request_id, task_id, kind, reason, context) VALUES ($1, $2, $3, $4, $5)

-- name: resolve_reviews
UPDATE reviews SET status = 'resolved', resolution = $2, resolved_by = $3, resolved_at = now()
WHERE request_id = $1 AND status = 'open'

-- name: count_request_failure
UPDATE requests SET failures = failures + 1 WHERE request_id = $1 RETURNING failures, status

-- name: count_task_failure
UPDATE tasks SET failures = failures + 1, due_at = now() + make_interval(secs => LEAST(power(2, failures), 60))
WHERE task_id = $1 RETURNING failures, status, request_id

-- name: catalog
SELECT i.spec, g.name AS agent, i.granted_at FROM agent_intents i JOIN agent_registry g USING (agent_id)
WHERE i.granted ORDER BY i.intent, i.agent_id

-- name: catalog_state
-- Another one after every change: what is written has a later xmin than all that it may have taken the place of.
SELECT count(*) || '.' || COALESCE(sum(xmin::text::bigint), 0) AS state FROM agent_intents

-- name: enrol_agent
INSERT INTO agent_registry (agent_id, name, agent_type, pool_name, capabilities, grant_policy, admin_specializations)
VALUES ($1, $2, $3, $4, '[]', $5, $6)
ON CONFLICT (agent_id) DO UPDATE SET grant_policy = EXCLUDED.grant_policy
RETURNING key_generation

-- name: agent_by_name
SELECT agent_id FROM agent_registry WHERE name = $1 OR agent_id::text = $1

-- name: next_generation
UPDATE agent_registry SET key_generation = key_generation + 1, updated_at = now() WHERE agent_id = $1
RETURNING key_generation

-- name: speak_generation
-- Whoever only has the old key is shut out from now on: a rival, and the registered life as well, if that is who it was.
UPDATE agent_registry SET spoken_generation = $2, rival = NULL, rival_since = NULL, rival_at = NULL, status = 'offline'
WHERE agent_id = $1 AND spoken_generation < $2

-- name: set_grants
-- A grant is for what the offer says now. One that is not offered just now can be taken back, and not given.
UPDATE agent_intents SET granted = $3, granted_by = CASE WHEN $3 THEN $4::text END,
    granted_at = CASE WHEN NOT $3 THEN NULL WHEN granted THEN granted_at ELSE now() END,
    granted_terms = CASE WHEN $3 THEN spec - '{content_hash,source,unavailable}'::text[] END
WHERE agent_id = $1 AND ($2::text[] IS NULL OR intent = ANY($2)) AND NOT ($3 AND absent_since IS NOT NULL)
RETURNING intent

-- name: set_drained
UPDATE agent_registry SET drained = $2, updated_at = now(),
    status = CASE WHEN $2 AND status IN ('online', 'busy') THEN 'draining'
                  WHEN NOT $2 AND status = 'draining' THEN 'online' ELSE status END
WHERE agent_id = $1

-- name: configure_agent
UPDATE agent_registry SET pool_name = COALESCE($2, pool_name), updated_at = now(),
    admin_specializations = COALESCE($3, admin_specializations), specializations = COALESCE($3, specializations)
WHERE agent_id = $1

-- name: remove_agent
-- An agent with history stays, unable to speak: no key generation it has matches any more.
UPDATE agent_registry SET status = 'offline', drained = true, key_generation = key_generation + 1,
    spoken_generation = key_generation + 1, incarnation = 'removed', updated_at = now()
WHERE agent_id = $1

-- name: drop_all_offers
DELETE FROM agent_intents WHERE agent_id = $1

-- name: known_agents
SELECT agent_id, name, key_generation, spoken_generation, incarnation, grant_policy, status
FROM agent_registry WHERE agent_id = ANY($1::uuid[])

-- name: register_agent
-- Its name and pool are the operator's, from the enrolment; what it can do is its own to say. While the life that is
-- registered is there, only another one with the same journal ($9) takes its place: who lives keeps the name.
UPDATE agent_registry SET capabilities = $2, specializations = COALESCE(admin_specializations, $3),
    incarnation = $4, slots = $5, resources = $6, version = $7, last_heartbeat_at = now(), updated_at = now(),
    status = CASE WHEN drained OR $8 THEN 'draining' ELSE 'online' END,
    infrastructure_failures = 0, circuit_open_until = NULL,
    rival = NULLIF(rival, $4), rival_since = CASE WHEN rival <> $4 THEN rival_since END,
    rival_at = CASE WHEN rival <> $4 THEN rival_at END,
    in_flight = (SELECT count(*) FROM attempts a
                 WHERE a.agent_id = $1 AND a.status IN ('leased', 'accepted', 'started'))
WHERE agent_id = $1
    AND (status = 'offline' OR position('.' in incarnation) = 0 OR starts_with(incarnation, $9 || '.'))

-- name: refuse_rivals
-- A second one with the agent's token, while the registered one is there. Only the last of several is kept; that there is
-- one is news when none was heard in the last minute, however many take turns.
UPDATE agent_registry g SET rival = r.rival, rival_at = now(),
    rival_since = CASE WHEN old.rival = r.rival THEN g.rival_since ELSE now() END
FROM unnest($1::uuid[], $2::text[]) AS r(agent_id, rival) JOIN agent_registry old USING (agent_id)
WHERE g.agent_id = r.agent_id
RETURNING g.agent_id, (old.rival IS NULL OR (old.rival <> r.rival AND old.rival_at < now() - interval '1 minute')) AS news

-- name: mark_gone
UPDATE agent_registry SET status = 'offline', updated_at = now() WHERE agent_id = $1 AND status <> 'offline'

-- name: forget_offers
-- What nobody has granted is gone with its offer, and so is what a policy ($3) would grant again.
DELETE FROM agent_intents WHERE agent_id = $1 AND NOT intent = ANY($2::text[]) AND (granted_terms IS NULL OR $3)

-- name: miss_offers
-- A file that is away for the seconds of a checkout comes back with the grant that it had.
UPDATE agent_intents SET granted = false, absent_since = now()
WHERE agent_id = $1 AND NOT intent = ANY($2::text[]) AND absent_since IS NULL

-- name: put_offers
-- An offer whose content changed keeps its grant: the digest of every plan already binds to the content. One whose terms
-- changed does not, unless a policy grants whatever is offered.
INSERT INTO agent_intents AS i (agent_id, intent, spec, content_hash, unavailable, granted, granted_by, granted_at,
    granted_terms)
SELECT $1, o.intent, o.spec, o.content_hash, o.unavailable, $6, CASE WHEN $6 THEN $7::text END,
    CASE WHEN $6 THEN now() END, CASE WHEN $6 THEN o.spec - '{content_hash,source,unavailable}'::text[] END
FROM unnest($2::text[], $3::jsonb[], $4::text[], $5::text[]) AS o(intent, spec, content_hash, unavailable)
ON CONFLICT (agent_id, intent) DO UPDATE SET spec = EXCLUDED.spec, content_hash = EXCLUDED.content_hash,
    unavailable = EXCLUDED.unavailable, offered_at = now(), absent_since = NULL,
    granted = EXCLUDED.granted
        OR COALESCE(i.granted_terms = EXCLUDED.spec - '{content_hash,source,unavailable}'::text[], false),
    granted_by = COALESCE(i.granted_by, EXCLUDED.granted_by),
    -- Who was first counts where offers differ: an offer that says something else now is a new one.
    granted_at = CASE WHEN i.granted_terms = EXCLUDED.spec - '{content_hash,source,unavailable}'::text[]
        THEN i.granted_at ELSE COALESCE(EXCLUDED.granted_at, i.granted_at) END,
    granted_terms = COALESCE(EXCLUDED.granted_terms, i.granted_terms)

-- name: idle_requests
-- Running or cancelling with no task on its way: what the sweep looks at again.
SELECT r.request_id FROM requests r
WHERE r.status IN ('running', 'cancelling')
  AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.request_id = r.request_id AND t.status IN ('dispatched', 'running'))
  AND (r.status = 'cancelling'
       OR NOT EXISTS (SELECT 1 FROM tasks t WHERE t.request_id = r.request_id AND t.status = 'ready'))
LIMIT $1

-- name: unsettled_cancels
SELECT a.attempt_id, a.request_id FROM attempts a JOIN requests r USING (request_id)
WHERE r.status = 'cancelling' AND a.status IN ('leased', 'accepted', 'started') AND NOT a.cancel_sent LIMIT $1

-- name: prunable_requests
SELECT r.request_id FROM requests r
WHERE r.ended_at < now() - make_interval(secs => $1)
  AND EXISTS (SELECT FROM seals s WHERE s.request_id = r.request_id AND s.kind = 'ended'
                AND s.event_count = r.event_count AND s.position IS NOT NULL)
ORDER BY r.ended_at

-- name: lock_ended
SELECT event_count FROM requests WHERE request_id = $1 AND ended_at IS NOT NULL FOR UPDATE

-- name: seals_of
SELECT request_id, event_count, mac, key_name, kind, position, link FROM seals WHERE request_id = $1 ORDER BY seal_id

-- name: write_pruned
INSERT INTO seals (request_id, event_count, kind, mac, key_name) VALUES ($1, $2, 'pruned', $3, $4)

-- name: allow_pruning
-- What the trigger on events wants to see, besides the seal: for this transaction and this request only.
SELECT set_config('chargehand.prune', $1, true)

-- name: prune_events
DELETE FROM events WHERE request_id = $1

-- name: prune_request
DELETE FROM requests WHERE request_id = $1
