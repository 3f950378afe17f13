"""`run_automation`: runs a script of the operator's. There is no shell and no free text between words and program.

A script gets its declared parameters as environment variables `CHARGEHAND_<NAME>` (objects and lists as JSON) and all
of them as JSON in the file `$CHARGEHAND_PARAMETERS_FILE`. It is run from a copy of its project, in the
attempt's private directory. It may

- print lines that start with `progress: `, which people see at once;
- write a JSON object to `$CHARGEHAND_OUTPUT_FILE`: values for later tasks, of which `summary` (text) and `changed`
  (true or false) are also the task's own;
- end with exit code 75 (EX_TEMPFAIL) for a failure that may pass.

With `dry_run: true` in its header it is also run for dry runs, with `CHARGEHAND_DRY_RUN=1`, and must change nothing.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import JsonValue

from chargehand import folders
from chargehand.agent import Outcome, TaskFailed, TaskFailedHere, TaskInterrupted, Work
from chargehand.agents.infra.copied import copied
from chargehand.agents.infra.diffs import clip, one_line, redact
from chargehand.agents.infra.discovery import unsafe_script
from chargehand.agents.infra.environment import child_environment
from chargehand.agents.infra.options import InfraOptions
from chargehand.agents.infra.snapshots import Snapshots, Subject
from chargehand.agents.infra.workdir import private_file
from chargehand.domain import bounded_json
from chargehand.domain.errors import UnreadableText

PROGRESS = "progress: "
MAX_PROGRESS = 200  # characters
MAX_OUTPUT = 64_000  # bytes of the output file
MAX_TAIL = 1_500  # characters of what a failed script said
REFUSED = (os.EX_USAGE, os.EX_DATAERR)  # sysexits.h: the parameters are wrong, so they are everywhere
MAX_VARIABLE = 100_000  # bytes; Linux takes no more than 128 KiB in one variable


async def run_script(work: Work, subject: Subject, snapshots: Snapshots, options: InfraOptions) -> Outcome:
    """Run one script for one attempt. Raises `ContentChanged`, `TaskFailed`, `TaskInterrupted`, `DiskFull`."""
    script = subject.root / subject.name
    unsafe = unsafe_script(script)
    if unsafe:
        raise TaskFailed(f"refused to run: {unsafe}")
    if work.dry_run and not subject.spec.dry_run:
        return Outcome(f"dry run: {script.name} would run; it cannot say what it would change")
    output = work.workdir / "output.json"
    async with copied(work, subject, snapshots) as copy:
        with private_file(work.workdir / "parameters.json", json.dumps(work.parameters)) as everything:
            finished = await work.run(
                [str(copy.file)],
                env=child_environment(options.extra_env) | _variables(work, everything, output),
                cwd=work.workdir,
                on_line=lambda line: _progress(work, line),
            )
    said = one_line(finished.tail)[-MAX_TAIL:] or "it said nothing"
    if finished.exit_code == os.EX_TEMPFAIL:
        raise TaskInterrupted(f"{said} ({script.name} could not do it now)")
    if finished.exit_code in REFUSED:
        raise TaskFailed(f"{said} ({script.name} refused what it was given)")
    if finished.exit_code != 0:
        raise TaskFailedHere(f"{said} ({script.name} ended with exit code {finished.exit_code})")
    return _outcome(script.name, _read_output(output), _said(script.name, finished.tail))


def _variables(work: Work, everything: Path, output: Path) -> dict[str, str]:
    own = {f"CHARGEHAND_{name.upper()}": as_text(name, value) for name, value in work.parameters.items()}
    return own | {
        "CHARGEHAND_PARAMETERS_FILE": str(everything),
        "CHARGEHAND_OUTPUT_FILE": str(output),
        "CHARGEHAND_DRY_RUN": "1" if work.dry_run else "0",
    }


def as_text(name: str, value: JsonValue) -> str:
    """Return a parameter as the text of an environment variable. Raises `TaskFailed` when it cannot be one."""
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value)
    if "\0" in text or len(text.encode()) > MAX_VARIABLE:
        raise TaskFailed(f"the parameter {name} cannot be given to a program: it is too long or holds a zero byte")
    return text


async def _progress(work: Work, line: str) -> None:
    if line.startswith(PROGRESS):
        await work.progress(clip(line.removeprefix(PROGRESS).strip(), MAX_PROGRESS))


def _read_output(path: Path) -> dict[str, JsonValue]:
    """What the script has written. It may have put anything in the file's place: nothing there is waited for."""
    try:
        value = bounded_json.loads(folders.read(path, MAX_OUTPUT + 1), most=MAX_OUTPUT)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise TaskFailed(f"it ran, but $CHARGEHAND_OUTPUT_FILE cannot be read: {error.strerror}") from error
    except UnreadableText as error:
        raise TaskFailed(f"it ran, but what it wrote to $CHARGEHAND_OUTPUT_FILE cannot be used: {error}") from error
    if not isinstance(value, dict):
        raise TaskFailed("it ran, but $CHARGEHAND_OUTPUT_FILE is not a JSON object")
    return value


def _said(name: str, tail: str) -> dict[str, JsonValue]:
    """Return the end of what a script printed, without what was shown while it ran."""
    text = "\n".join(line for line in tail.splitlines() if line.strip() and not line.startswith(PROGRESS))
    return {"said": [{"task": name, "host": "", "text": redact(text), "told": False}]} if text else {}


def _outcome(name: str, outputs: dict[str, JsonValue], data: dict[str, JsonValue]) -> Outcome:
    summary, changed = outputs.get("summary"), outputs.get("changed")
    return Outcome(
        summary if isinstance(summary, str) and summary else f"{name} ended well",
        changed=changed if isinstance(changed, bool) else None,
        outputs=outputs,
        data=data,
    )
