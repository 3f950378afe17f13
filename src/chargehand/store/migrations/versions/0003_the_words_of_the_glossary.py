"""The words of the glossary: failures, quarantine and a wait limit"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.alter_column("requests", "mishaps", new_column_name="failures")
    op.alter_column("tasks", "mishaps", new_column_name="failures")
    op.execute(sa.text("UPDATE reviews SET kind = 'quarantine' WHERE kind = 'mishap'"))
    op.execute(  # a stored decision is replayed, so it has the names of today
        sa.text(
            "UPDATE routing_decisions SET decision ="
            " (decision - 'patience') || jsonb_build_object('wait_limit', decision -> 'patience')"
            " WHERE jsonb_exists(decision, 'patience')"
        )
    )
