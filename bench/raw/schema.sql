CREATE TABLE raw_requests (
    request_id uuid PRIMARY KEY, wording text NOT NULL, status text NOT NULL, plan jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), ended_at timestamptz);
CREATE TABLE raw_tasks (
    task_id uuid PRIMARY KEY, request_id uuid NOT NULL REFERENCES raw_requests, task_order int NOT NULL,
    status text NOT NULL, result jsonb, updated_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON raw_tasks (request_id);
CREATE TABLE raw_attempts (
    attempt_id uuid PRIMARY KEY, task_id uuid NOT NULL REFERENCES raw_tasks, agent text NOT NULL, status text NOT NULL,
    lease_until timestamptz NOT NULL, ended_at timestamptz);
CREATE TABLE raw_decisions (
    decision_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, task_id uuid NOT NULL REFERENCES raw_tasks,
    agent text NOT NULL, reason text NOT NULL, decision jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE raw_events (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, request_id uuid NOT NULL, task_id uuid,
    kind text NOT NULL, data jsonb NOT NULL, at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON raw_events (request_id);
