"""An LLM server that says what you wrote, over real HTTP, with every way to fail: for trying a set-up without a model.

It speaks Anthropic's messages, Ollama's chat and OpenAI's chat completions (which a LiteLLM proxy speaks), lists
models, and tells a proxy's budget. As a program: `python -m chargehand.testing.llm --script FILE` (docs/models.md).
"""

from __future__ import annotations

from chargehand.testing.llm.answers import HANG, Answer, fails, says, sends, writes
from chargehand.testing.llm.failures import PROVIDERS, Mode, modes
from chargehand.testing.llm.process import ScriptedServer
from chargehand.testing.llm.server import Asked, LLMServer, Quota

__all__ = [
    "HANG",
    "PROVIDERS",
    "Answer",
    "Asked",
    "LLMServer",
    "Mode",
    "Quota",
    "ScriptedServer",
    "fails",
    "modes",
    "says",
    "sends",
    "writes",
]
