"""Who said a request in other words: they have asked for what these words say"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column(
        "requests", sa.Column("reworded_by", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False)
    )
