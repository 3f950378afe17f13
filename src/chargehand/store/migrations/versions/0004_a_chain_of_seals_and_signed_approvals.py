"""A chain of seals, and signed rulings and approvals"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

# Events of a request may go once a seal says so. Whether it was made with the key, `audit verify` says.
REFUSE_CHANGES = """
CREATE OR REPLACE FUNCTION refuse_event_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('chargehand.prune', true) = OLD.request_id::text
       AND EXISTS (SELECT 1 FROM seals s WHERE s.request_id = OLD.request_id AND s.kind = 'pruned') THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'events are append-only' USING ERRCODE = 'insufficient_privilege';
END $$
"""
# Of requests that came before there was a chain: the sweep fills these in, a batch at a time.
FIRST_SEALS = """
INSERT INTO seals (request_id, event_count, kind) SELECT request_id, 1, 'accepted' FROM requests ORDER BY created_at
"""


def upgrade() -> None:
    op.add_column("seals", sa.Column("kind", sa.String(10), server_default="ended", nullable=False))
    op.alter_column("seals", "kind", server_default=None)
    op.add_column("seals", sa.Column("position", sa.BigInteger(), nullable=True))
    op.add_column("seals", sa.Column("link", sa.String(64), nullable=True))
    op.alter_column("seals", "mac", server_default="")
    op.alter_column("seals", "key_name", server_default="")
    op.drop_constraint("uq_seals_request_id_event_count", "seals")
    op.create_unique_constraint("uq_seals_request_id_kind_event_count", "seals", ["request_id", "kind", "event_count"])
    op.create_unique_constraint("uq_seals_position", "seals", ["position"])
    op.create_index("ix_seals_unchained", "seals", ["seal_id"], postgresql_where=sa.text("position IS NULL"))
    op.execute(REFUSE_CHANGES)
    op.drop_column("seals", "pruned_at")
    op.add_column("plans", sa.Column("mac", sa.String(64), server_default="", nullable=False))
    op.add_column("approvals", sa.Column("mac", sa.String(64), server_default="", nullable=False))
    op.execute(FIRST_SEALS)
