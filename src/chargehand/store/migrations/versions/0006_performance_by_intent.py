"""What agents' runs came to by intent as well, how hard they were; without what nothing filled or read"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

COUNTED = "success_count + failure_count"


def upgrade() -> None:
    table = "agent_performance"
    op.add_column(table, sa.Column("intent", sa.Text(), server_default="", nullable=False))
    op.drop_constraint("uq_agent_performance_agent_id_work_type", table)
    op.create_unique_constraint(
        "uq_agent_performance_agent_id_work_type_intent", table, ["agent_id", "work_type", "intent"]
    )
    for name in ("deviation_ms", "difficulty"):
        op.add_column(table, sa.Column(name, sa.Double(), nullable=True))
    op.execute(
        f"UPDATE {table} SET deviation_ms = sqrt(GREATEST(0, (total_duration_ms2"
        f" - total_duration_ms::float8 ^ 2 / ({COUNTED})) / ({COUNTED} - 1))) WHERE {COUNTED} > 1"
    )
    op.execute(
        f"UPDATE {table} SET difficulty = CASE difficulty_assessment WHEN 'straightforward' THEN 0"
        " WHEN 'tricky' THEN 0.5 WHEN 'failed' THEN 1 END"
    )
    op.drop_column("llm_calls", "purpose")  # it was always the same
    op.execute("UPDATE plans SET plan = plan - 'will_use_external_ai'")  # nothing read it, and no digest covers it
