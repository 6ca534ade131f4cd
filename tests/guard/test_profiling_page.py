"""The commands of benchmarks/README.md that say where the time goes are run as they stand, on fewer pages."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness import Cores, replay_server
from guard import budgets

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "benchmarks" / "README.md").read_text("utf-8")

pytestmark = pytest.mark.timeout(300)


def commands(heading: str) -> list[str]:
    """The lines of the blocks below a heading, continued ones joined, without their comments."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    text = "\n".join(re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    return [line.partition("  #")[0].strip() for line in text.splitlines() if line.strip()]


COMMANDS = commands("Finding out where the time goes")


def the_one_with(words: str) -> list[str]:
    (command,) = [command for command in COMMANDS if words in command]
    return shlex.split(command)


def run(command: list[str], **variables: str) -> str:
    """In the repository, by this Python where the page names that of `.venv`, and with nothing of this machine's AWS set-up."""
    assignments = dict(word.split("=", 1) for word in command if re.match(r"[A-Z]+=", word))
    words = [sys.executable if word == ".venv/bin/python" else word for word in command[len(assignments) :]]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    nothing = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        words,
        check=False,
        cwd=ROOT,
        env={**inherited, **nothing, **assignments, **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def exported() -> dict[str, str]:
    return dict(word.split("=", 1) for word in the_one_with("export ")[1:])


def against(url: str, command: list[str]) -> list[str]:
    """One page of one shard is enough to see that it works."""
    return [{"URL": url, "4x200": "1x1", "4x1000": "1x1"}.get(word, word) for word in command]


def test_the_page_has_the_commands_that_are_run_here() -> None:
    programs = ("-m guard", "replay_server", "export", "cProfile", "py-spy")
    assert [command for command in COMMANDS if not any(program in command for program in programs)] == []
    assert commands("What keeps it fast") == [budgets.ACCEPT]


def test_a_breakdown_is_printed() -> None:
    assert ".py:" in run(the_one_with("breakdown batch"))


def test_a_breakdown_of_memory_shows_lines() -> None:
    heading, *lines = run(the_one_with("breakdown idle_shard")).splitlines()
    assert heading.split() == ["bytes", "of", "an", "idle", "shard"]
    assert [int(line.split()[0]) > 100 and ".py:" in line for line in lines[:3]] == [True] * 3


def test_a_contender_is_profiled() -> None:
    with replay_server(Cores.available().server) as url:
        printed = run(against(url, the_one_with("cProfile")), **exported())
    assert "Ordered by: internal time" in printed
    assert "reader.py" in printed
    assert '"count":1000' in printed


def test_a_contender_is_sampled(tmp_path: Path) -> None:
    if shutil.which("py-spy") is None:
        pytest.skip("py-spy is not installed")
    picture = tmp_path / "flame.svg"
    command = [str(picture) if word == "flame.svg" else word for word in the_one_with("py-spy")]
    with replay_server(Cores.available().server) as url:
        run(against(url, command), **exported())
    assert "<svg" in picture.read_text("utf-8")
