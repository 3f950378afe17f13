"""The bill of materials of a release: every wheel that the lock file installs, as CycloneDX 1.6 JSON.

    python deploy/sbom.py > chargehand-0.1.0.cdx.json

It is made of files in the repository alone, so the same commit always gives the same bytes.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
ENTRY = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)(?:\s*;\s*(?P<only>[^\\]+?))?\s*\\")
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
SPACE = uuid.UUID("6f0a1d0e-5d0b-4c55-9f43-3f1f1b0d9a11")  # of serial numbers of ours


def bill(lock: str, version: str) -> dict[str, Any]:
    """Return the document for a lock file's text. Its serial number follows from what it lists."""
    components = list(_components(lock))
    serial = uuid.uuid5(SPACE, json.dumps([version, components], sort_keys=True))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": f"chargehand@{version}",
                "name": "chargehand",
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": components,
    }


def _components(lock: str) -> Iterator[dict[str, Any]]:
    """Yield one component per pin. `only` says for which version of Python a pin counts, where there are two."""
    for entry in re.split(r"(?<!\\)\n", lock.strip()):
        pin = ENTRY.match(entry)
        if pin is None:
            raise SystemExit(f"not a pin with hashes: {entry.splitlines()[0][:80]!r}")
        purl = f"pkg:pypi/{pin['name']}@{pin['version']}"
        yield {
            "type": "library",
            "bom-ref": purl,
            "name": pin["name"],
            "version": pin["version"],
            "purl": purl,
            # One hash per wheel that may be installed, each of another platform or version of Python.
            "hashes": [{"alg": "SHA-256", "content": found} for found in HASH.findall(entry)],
            **({"properties": [{"name": "chargehand:only", "value": pin["only"].strip()}]} if pin["only"] else {}),
        }


def main() -> None:
    """Write the document of this repository."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    json.dump(bill(LOCK.read_text(), str(project["version"])), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
