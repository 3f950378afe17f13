"""A database as an older release left it: the steps of migrations undone, newest first."""

from __future__ import annotations

UNDO = {
    "0008": (
        "ALTER TABLE requests DROP COLUMN reworded_by",
        "UPDATE alembic_version SET version_num = '0007'",
    ),
    "0007": (
        "ALTER TABLE llm_calls DROP COLUMN tokens_cached, DROP COLUMN purpose",
        "UPDATE alembic_version SET version_num = '0006'",
    ),
    "0006": (
        "DELETE FROM agent_performance WHERE intent <> ''",
        "ALTER TABLE agent_performance DROP COLUMN intent, DROP COLUMN deviation_ms, DROP COLUMN difficulty",
        "ALTER TABLE agent_performance ADD CONSTRAINT uq_agent_performance_agent_id_work_type"
        " UNIQUE (agent_id, work_type)",
        "ALTER TABLE llm_calls ADD COLUMN purpose varchar(30) NOT NULL DEFAULT 'decompose'",
        "UPDATE plans SET plan = plan || '{\"will_use_external_ai\": false}'",
        "UPDATE alembic_version SET version_num = '0005'",
    ),
    "0005": (
        "ALTER TABLE agent_intents DROP COLUMN granted_at, DROP COLUMN granted_terms, DROP COLUMN absent_since",
        "ALTER TABLE agent_registry DROP COLUMN rival, DROP COLUMN rival_since, DROP COLUMN rival_at",
        "ALTER TABLE attempts DROP COLUMN begun_at",
        "UPDATE alembic_version SET version_num = '0004'",
    ),
    "0004": (
        "DELETE FROM seals WHERE kind = 'accepted'",
        "ALTER TABLE seals DROP COLUMN kind, DROP COLUMN position, DROP COLUMN link, ADD COLUMN pruned_at timestamptz",
        "ALTER TABLE seals ADD CONSTRAINT uq_seals_request_id_event_count UNIQUE (request_id, event_count)",
        "ALTER TABLE plans DROP COLUMN mac",
        "ALTER TABLE approvals DROP COLUMN mac",
        "UPDATE alembic_version SET version_num = '0003'",
    ),
}


def back_to_before(revision: str) -> list[str]:
    """Return the statements that undo this revision and all newer ones."""
    return [statement for name, undo in UNDO.items() if name >= revision for statement in undo]
