"""Tokens that a cache saved: of those that went into a model, the ones its server had read before"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("llm_calls", sa.Column("tokens_cached", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.execute("UPDATE llm_calls SET purpose = 'skeleton' WHERE purpose = 'decompose'")
