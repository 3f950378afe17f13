"""What playbooks and scripts see of the agent's environment: what a login shell would give them, never its secrets.

The agent's own settings (a database URL, keys of model providers) stay out because only the names below go in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

_NAMES = """
PATH HOME USER LOGNAME SHELL TMPDIR TZ SSH_AUTH_SOCK XDG_RUNTIME_DIR
http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY
SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE NODE_EXTRA_CA_CERTS
"""
NAMES = frozenset(_NAMES.split())
PREFIXES = ("PIP_", "UV_", "npm_config_", "NPM_CONFIG_")  # package installers find their registry here
# Ansible refuses to start without a UTF-8 locale; macOS calls it differently.
LOCALE = "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment for a program of the operator's; `extra` is what the operator adds."""
    kept = {name: value for name, value in os.environ.items() if name in NAMES or name.startswith(PREFIXES)}
    return kept | {"LC_ALL": LOCALE, "LANG": LOCALE} | dict(extra)
