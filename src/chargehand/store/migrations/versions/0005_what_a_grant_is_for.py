"""What a grant is for, who was refused an agent's name, and what an agent said of a beginning"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for name in ("granted_at", "absent_since"):
        op.add_column("agent_intents", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.add_column("agent_intents", sa.Column("granted_terms", postgresql.JSONB(), nullable=True))
    # What is granted now is granted for what it says now. A stored offer does not name the hash that binds it to that,
    # so none counts until its agent has said it again.
    op.execute(
        "UPDATE agent_intents SET granted_at = offered_at,"
        " granted_terms = spec - '{content_hash,source,unavailable}'::text[] WHERE granted"
    )
    op.execute("UPDATE agent_intents SET granted = false, absent_since = now()")
    op.add_column("agent_registry", sa.Column("rival", sa.Text(), nullable=True))
    for name in ("rival_since", "rival_at"):
        op.add_column("agent_registry", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    # Another life of the same journal: the next heartbeat of whoever is there is answered by asking for its offers.
    op.execute(r"UPDATE agent_registry SET incarnation = regexp_replace(incarnation, '\.[^.]*$', '.before-0005')")
    op.add_column("attempts", sa.Column("begun_at", sa.DateTime(timezone=True), nullable=True))
