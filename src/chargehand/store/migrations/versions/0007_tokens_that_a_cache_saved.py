"""What a call of a model was for, and the tokens that a cache saved: of those that went in, the ones read before"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("llm_calls", sa.Column("purpose", sa.String(30), server_default="skeleton", nullable=False))
    op.add_column("llm_calls", sa.Column("tokens_cached", sa.Integer(), server_default=sa.text("0"), nullable=False))
