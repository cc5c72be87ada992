"""Shell completion in a real bash: installed by the command itself, then asked as the Tab key asks."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")


def bash(script: str, home: Path) -> str:
    environment = {"HOME": str(home), "PATH": f"{COMMAND.parent}:{os.environ['PATH']}"}
    words = ["bash", "--noprofile", "--norc", "-c", script]
    result = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return result.stdout


def completed(home: Path, *words: str) -> set[str]:
    """What Tab offers behind these words, the last of them begun."""
    line = " ".join(shlex.quote(word) for word in words)
    script = f"""
        source ~/.bashrc
        COMP_WORDS=({line}) COMP_CWORD={len(words) - 1}
        function=$(complete -p humanseg | sed 's/.* -F \\([^ ]*\\) .*/\\1/')
        $function humanseg
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return set(bash(script, home).split())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of somebody who has installed the completion."""
    folder = tmp_path_factory.mktemp("home")
    assert "bash completion installed" in bash("humanseg --install-completion; true", folder)
    return folder


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("humanseg", "seg"), {"segment"}),
        (("humanseg", "archive", "imp"), {"import-labels"}),
        (("humanseg", "segment", "--outp"), {"--output"}),
        (("humanseg", "segment", "a.jpg", "--output", "c"), {"cutout", "composite"}),
        (("humanseg", "segment", "a.jpg", "--quality", ""), {"fast", "best"}),
        (("humanseg", "archive", "export", "--format", "web"), {"webdataset"}),
    ],
)
def test_commands_options_and_their_values_are_completed(
    home: Path, words: tuple[str, ...], offered: set[str]
) -> None:
    assert completed(home, *words) == offered


def test_the_script_can_be_shown(tmp_path: Path) -> None:
    assert "complete -o default -F" in bash("humanseg --show-completion; true", tmp_path)
