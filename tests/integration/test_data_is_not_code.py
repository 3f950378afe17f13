"""What comes back from a device or a model stays data when Ansible gets it: on real Ansible, in every position.

A run costs seconds, so many generated structures go into one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from chargehand.agents.infra import InfraAgent, InfraOptions
from chargehand.agents.infra.playbooks import ansible_missing
from chargehand.testing import run

pytestmark = pytest.mark.skipif(ansible_missing() is not None, reason=str(ansible_missing()))

PAYLOADS = (
    "{{ lookup('pipe', 'touch MARK') }}", "{{lookup('ansible.builtin.pipe','touch MARK')}}",
    "{% set x = lookup('pipe', 'touch MARK') %}", "{%- if query('pipe', 'touch MARK') -%}x{%- endif -%}",
    "lookup('pipe', 'touch MARK')", "before {{ lookup('pipe', 'touch MARK') }} after", "{{ 7*7 }}", "{# comment #}",
    "{{ structures }}", "{{ undefined_name }}", "{{", "}}", "{%", "!unsafe x", "!vault x",
    "$ANSIBLE_VAULT;1.1;AES256\n31",
    "#jinja2: variable_start_string:'[['", "[[ lookup('pipe', 'touch MARK') ]]", "$(touch MARK)", "`touch MARK`",
    "8080", "no", "null", "~", "1e3", "0x1f", "1:30", "2001-01-01", "<<", "=", "- a", "a: b", "# c", "*a", "&a", "? x",
    '"', "\\", "\n", "\u2028", "\x85", "😀", "", " ", "k" * 1100, "ü" * 300,
)  # fmt: skip
KEYS = ("__ansible_unsafe", "__ansible_vault", "__ansible_type", "_ansible_no_log", "ansible_facts", "item", "name")

texts = st.sampled_from(PAYLOADS) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8
)
keys = texts | st.sampled_from(KEYS)
leaves = texts | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False)
structures = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)

PLAYBOOK = """\
# chargehand:
#   intent: take_it
#   retry_safe: true
#   parameters:
#     labels: {type: object}
#     few: {type: object}
#     structures: {type: array}
#     word: {type: string}
#     out: {type: string}
- name: Use what was given in the usual ways
  hosts: localhost
  gather_facts: false
  vars: {through_vars: "{{ structures }}", beside: {inner: "{{ few }}"}}
  tasks:
    - debug: {var: labels}
    - debug: {msg: "{{ structures }} {{ labels }} {{ word }}"}
    - debug: {msg: "{{ item.key }} is {{ item.value }}"}
      loop: "{{ labels | dict2items }}"
      loop_control: {label: "{{ item.key }}"}
    - debug: {msg: "{{ item }}"}
      with_items: ["{{ word }}", "{{ structures[0] }}"]
    - set_fact: {kept: "{{ structures }}", kept_labels: "{{ labels }}", "{{ 'named' }}": "{{ word }}"}
    - set_fact: {merged: "{{ {} | combine(labels, {'more': labels}, recursive=true) }}"}
    - include_vars: {file: more.yml}
    - assert: {that: [structures | length > 0, labels is mapping, word is string]}
      when: structures is defined
    - copy: {content: "{{ everything | to_json }}", dest: "{{ out }}/copied.json", mode: "0600"}
      vars: {everything: [ "{{ structures }}", "{{ through_vars }}", "{{ kept }}", "{{ included }}" ]}
    - template: {src: it.j2, dest: "{{ out }}/templated.json", mode: "0600"}
    - copy: {content: "{{ merged | to_json }}", dest: "{{ out }}/merged.json", mode: "0600"}
    - command: {argv: [printf, "%s", "{{ word }}"]}
      register: said
    - set_stats: {data: "{{ labels }}"}  # Ansible evaluates keys here, and in the next one; these are no names
      ignore_errors: true
    - set_fact: "{{ labels }}"
      ignore_errors: true
    - set_stats: {data: {labels: "{{ few }}", word: "{{ said.stdout }}", inner: "{{ beside.inner }}"}}
"""


def some(strategy: st.SearchStrategy[Any], number: int) -> list[Any]:
    """Return that many examples, chosen as Hypothesis chooses them."""
    found: list[Any] = []

    @settings(max_examples=number, deadline=None, database=None, phases=[Phase.generate], derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found


def marked(value: Any, mark: Path) -> Any:
    return json.loads(json.dumps(value).replace("MARK", str(mark)))


async def use(tmp_path: Path, parameters: dict[str, JsonValue]) -> Any:
    project = tmp_path / "playbooks"
    for name, text in (
        ("it.yml", PLAYBOOK),
        ("vars/more.yml", 'included: "{{ structures }}"\n'),
        ("templates/it.j2", "{{ [structures, labels] | to_json }}"),
    ):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    agent = InfraAgent(InfraOptions(home=tmp_path / "home", playbook_dirs=(project,))).agent
    return await run(agent, "take_it", parameters, timeout=300, folder=tmp_path / "work")


async def test_nothing_given_is_ever_evaluated_and_all_of_it_arrives(tmp_path: Path) -> None:
    mark, word = tmp_path / "ran", "{{ lookup('pipe', 'touch MARK') }}\n!unsafe {% x"
    given_ = marked(some(structures, 150), mark)
    labels = marked({payload: {payload: [payload, {payload: payload}]} for payload in (*PAYLOADS, *KEYS)}, mark)
    few = marked({text: [text] for text in (*PAYLOADS, *KEYS) if len(text) < 100}, mark)  # outputs are bounded
    out, word = str(tmp_path), marked(word, mark)
    ran = await use(tmp_path, {"structures": given_, "labels": labels, "few": few, "word": word, "out": out})
    assert not mark.exists(), "something that was data was run"
    assert ran.ok, ran.failure
    assert json.loads((tmp_path / "copied.json").read_text()) == [given_] * 4
    assert json.loads((tmp_path / "templated.json").read_text()) == [given_, labels]
    assert json.loads((tmp_path / "merged.json").read_text()) == labels | {"more": labels}
    assert ran.outputs["labels"] == few
    assert ran.outputs["inner"] == few
    assert ran.outputs["word"] == word
