"""The desktop agent: says how a machine is doing, and runs the actions its owner has listed.

`build(DesktopOptions(...))` is the agent; `DesktopAgent` also looks for a changed list while it runs;
`install_user_service` makes it start with its user's session.
"""

from chargehand.agents.desktop.assembly import DesktopAgent, build
from chargehand.agents.desktop.autostart import Autostart, install_user_service
from chargehand.agents.desktop.options import DesktopOptions

__all__ = ["Autostart", "DesktopAgent", "DesktopOptions", "build", "install_user_service"]
