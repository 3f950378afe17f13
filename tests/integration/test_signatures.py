"""Where signers are set, only a project whose manifest one of them has signed runs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from chargehand.agents.infra import InfraAgent, InfraOptions, signatures
from chargehand.agents.infra.manifest import SIGNATURE, SIGNED
from chargehand.app.signing import check_manifest, write_manifest
from chargehand.cli.app import app
from chargehand.domain.errors import BadConfiguration
from chargehand.testing import Ran, run

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="there is no ssh-keygen")

SCRIPT = """\
#!/bin/sh
# chargehand:
#   intent: run_it
#   retry_safe: true
#   state: [log]
echo '{"word": "good"}' > "$CHARGEHAND_OUTPUT_FILE"; date > "${0%/*}/log/last"
"""


class Signed:
    """A project with one script, keys, and an agent that asks for signatures."""

    def __init__(self, root: Path) -> None:
        self.root, self.project = root, root / "pro ject"
        self.project.mkdir()
        self.script = self.project / "it.sh"
        self.script.write_text(SCRIPT)
        self.script.chmod(0o755)
        (self.project / "data ü\n").write_text("x")
        self.signers = root / "signers"
        self.signers.write_text("")
        for name in ("good", "evil"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / name], check=True)
        self.allow("ops@example.org,ops2@example.org", "good")
        self.infra = InfraAgent(
            InfraOptions(home=root / "agent", script_dirs=(self.project,), project_signers=self.signers)
        )

    def allow(self, who: str, key: str, options: str = 'namespaces="chargehand"') -> None:
        self.signers.write_text(f"{who} {options} {(self.root / f'{key}.pub').read_text()}")

    def sign(self, key: str = "good", namespace: str = "chargehand") -> None:
        path, _, _ = write_manifest(self.project)
        self.sign_file(path, key, namespace)

    def sign_file(self, path: Path, key: str = "good", namespace: str = "chargehand") -> None:
        (self.project / SIGNATURE).unlink(missing_ok=True)
        call = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", self.root / key, path]
        subprocess.run(call, check=True, capture_output=True)

    @property
    def unavailable(self) -> str | None:
        self.infra.rescan()
        return self.infra.agent.find("run_it").spec.unavailable  # type: ignore[union-attr]

    async def run(self) -> Ran:
        return await run(self.infra.agent, "run_it", folder=self.root / "work")


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    return Signed(tmp_path)


async def test_only_what_is_signed_is_offered_and_runs(signed: Signed) -> None:
    said = signed.unavailable or ""
    assert "has no signed manifest" in said
    assert f"chargehand agent manifest '{signed.project}' && ssh-keygen -Y sign -n chargehand -f KEY" in said
    signed.sign()
    assert signed.unavailable is None
    ran = await signed.run()
    assert ran.outputs["word"] == "good", ran.failure
    assert (signed.project / "log" / "last").exists()
    assert signed.unavailable is None, "what it may write is not signed"


def tamper_with_file(signed: Signed) -> None:
    signed.script.write_text(SCRIPT.replace("good", "evil"))


def add_file(signed: Signed) -> None:
    (signed.project / "new").write_text("")


def remove_file(signed: Signed) -> None:
    (signed.project / "data ü\n").unlink()


def make_executable(signed: Signed) -> None:
    (signed.project / "data ü\n").chmod(0o755)


def sign_with_another_key(signed: Signed) -> None:
    tamper_with_file(signed)
    signed.sign("evil")


def sign_something_else(signed: Signed) -> None:
    signed.sign(namespace="git")


def edit_the_manifest(signed: Signed) -> None:
    tamper_with_file(signed)
    kept = (signed.project / SIGNATURE).read_bytes()
    write_manifest(signed.project)
    (signed.project / SIGNATURE).write_bytes(kept)


def sign_what_is_no_manifest(signed: Signed) -> None:
    (signed.project / SIGNED).write_text("{}\n")
    signed.sign_file(signed.project / SIGNED)


def link_the_manifest(signed: Signed) -> None:
    shutil.move(signed.project / SIGNED, signed.root / "manifest")
    (signed.project / SIGNED).symlink_to(signed.root / "manifest")


def drop_the_signature(signed: Signed) -> None:
    (signed.project / SIGNATURE).unlink()


def let_the_key_expire(signed: Signed) -> None:
    signed.allow("ops", "good", 'valid-before="20200101"')


def take_the_signer_away(signed: Signed) -> None:
    signed.allow("ops", "evil")


def let_others_write_the_signers(signed: Signed) -> None:
    signed.signers.chmod(0o666)


def lose_the_signers(signed: Signed) -> None:
    signed.signers.unlink()


ATTACKS = {
    tamper_with_file: "it.sh was changed after the manifest was signed: chargehand agent manifest",
    add_file: "new was added after the manifest was signed",
    remove_file: "data ü\n was removed after",
    make_executable: "data ü\n was changed after",
    sign_with_another_key: "is not signed by one of",
    sign_something_else: "is not signed by one of",
    edit_the_manifest: "is not signed by one of",
    sign_what_is_no_manifest: "is no manifest",
    link_the_manifest: "has no signed manifest",
    drop_the_signature: "has no signed manifest",
    let_the_key_expire: "is not signed by one of",
    take_the_signer_away: "is not signed by one of",
    let_others_write_the_signers: "can be written by others",
    lose_the_signers: "cannot be read",
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
async def test_what_is_not_as_it_was_signed_does_not_run(signed: Signed, attack: object) -> None:
    signed.sign()
    assert signed.unavailable is None
    attack(signed)  # type: ignore[operator]
    ran = await signed.run()  # what was on offer a moment ago
    assert not ran.ok
    assert not (signed.project / "log").exists()
    assert ATTACKS[attack] in str(signed.unavailable)  # type: ignore[index]


def test_signers_in_the_project_vouch_for_nothing(tmp_path: Path) -> None:
    signed = Signed(tmp_path)
    inside = signed.project / "signers"
    shutil.copy(signed.signers, inside)
    signed.sign()
    with pytest.raises(BadConfiguration, match="lie in the project that they are to vouch for"):
        check_manifest(signed.project, inside)


def test_ssh_keygen_that_hangs_or_is_missing_lets_nothing_run(signed: Signed, monkeypatch: pytest.MonkeyPatch) -> None:
    signed.sign()
    fake = signed.root / "bin"
    fake.mkdir()
    (fake / "ssh-keygen").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    (fake / "ssh-keygen").chmod(0o755)
    monkeypatch.setenv("PATH", str(fake))
    monkeypatch.setattr(signatures, "LIMIT", 0.3)
    assert "gave no answer within 0.3 s" in str(signed.unavailable)
    (fake / "ssh-keygen").unlink()
    assert "no ssh-keygen on this machine" in str(signed.unavailable)


def test_the_command_writes_and_checks(signed: Signed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARGEHAND_PROJECT_SIGNERS", str(signed.signers))
    monkeypatch.setenv("COLUMNS", "500")
    wrote = CliRunner().invoke(app, ["agent", "manifest", str(signed.project)])
    assert "2 files" in wrote.output
    assert f"ssh-keygen -Y sign -n chargehand -f KEY '{signed.project}/{SIGNED}'" in wrote.output
    signed.sign_file(signed.project / SIGNED)
    checked = CliRunner().invoke(app, ["agent", "manifest", "--check", str(signed.project)])
    assert "is as it was signed" in checked.output
    add_file(signed)
    with pytest.raises(BadConfiguration, match="new was added after the manifest was signed") as caught:
        check_manifest(signed.project, signed.signers)
    assert caught.value.hint.startswith("chargehand agent manifest")
