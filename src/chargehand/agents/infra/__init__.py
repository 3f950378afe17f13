"""The infra agent: playbooks with Ansible, configuration files, checks and scripts.

`build(InfraOptions(...))` is the agent; `InfraAgent` also looks for changed playbooks while it runs.
"""

from chargehand.agents.infra.assembly import InfraAgent, build
from chargehand.agents.infra.options import InfraOptions

__all__ = ["InfraAgent", "InfraOptions", "build"]
