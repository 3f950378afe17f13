"""Until when a task chose to wait"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("tasks", sa.Column("chose_until", sa.DateTime(timezone=True), nullable=True))
