"""Programs as trials."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dhpo
from dhpo._script_arguments import arguments_of, command_of
from dhpo.errors import SettingError
from dhpo.trial import Decision, Status

PROGRAM = """
import argparse, json, os, sys
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=float)
parser.add_argument("--kind")
given = parser.parse_args()
config = json.load(open(os.environ["DHPO_CONFIG"]))
assert config == {"x": given.x, "kind": given.kind}, (config, given)
assert os.getcwd() == os.environ["DHPO_CHECKPOINT_DIR"]
print("hello from", given.kind)
for epoch in range(1, 10):
    print(json.dumps({"epoch": epoch, "loss": given.x / epoch}), flush=True)
open("done", "w").close()
"""

SPACE: dict[str, Any] = {"x": (-1.0, 1.0), "kind": ["a b; touch $HOME", "'\""]}


def run(command: Any, directory: Path, space: Any = None, n: int = 4, **given: Any) -> dhpo.Results:
    settings: dict[str, Any] = {"objectives": {"loss": "MIN"}, "stopper": dhpo.Hyperband(max_t=9)}
    trial = command if isinstance(command, dhpo.ScriptTrial) else dhpo.ScriptTrial(command)
    search = dhpo.Search(
        space or SPACE, trial, searcher="random", cluster="serial", log_dir=directory, random_state=1,
        **(settings | given),
    )  # fmt: skip
    return search.run(num_trials=n, progress=False)


def script(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "program.py"
    path.write_text(text)
    return [sys.executable, str(path)]


def test_a_program_gets_its_configuration_and_reports(tmp_path: Path) -> None:
    results = run(script(tmp_path, PROGRAM), tmp_path / "search", n=6)
    assert results.failures().empty
    statuses = results.statuses()
    assert set(statuses.values()) == {Status.COMPLETED, Status.STOPPED}
    for number, status in statuses.items():
        config = results.config_history[str(number)]
        history = results.training_history[str(number)]
        assert [entry["loss"] for entry in history] == [config["x"] / entry["epoch"] for entry in history]
        folder = tmp_path / "search" / "checkpoints" / f"trial-{number}"
        assert f"hello from {config['kind']}" in (folder / "stdout.log").read_text()
        assert status is Status.COMPLETED or not (folder / "done").exists() or len(history) < 9


def test_templates_fill_words_and_drop_inactive_ones() -> None:
    words = ["train", "--lr={lr:.2e}", "--m", "{m}", "--d={d}", "{{x}}", "{trial}", "--json={config_json}"]
    places = {"trial": "7", "config_json": '{"lr": 1}'}
    made = arguments_of(words, {"lr": 0.00123, "d": "a b"}, places)
    assert made == ["train", "--lr=1.23e-03", "--d=a b", "{x}", "7", '--json={"lr": 1}']
    assert arguments_of(["p"], {"a": -1e-5, "b": True, "c": "-x", "d": 2}, {}) == [
        "p", "--a=-1e-05", "--b", "true", "--c=-x", "--d", "2",
    ]  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text(st.characters(exclude_characters="\0"))))
def test_a_shell_sees_each_value_as_one_word(config: dict[str, str]) -> None:
    command = " ".join(arguments_of(["program {a} --b={b}"], {"a": "", "b": "", **config}, {}, quote=shlex.quote))
    assert shlex.split(command) == ["program", config.get("a", ""), f"--b={config.get('b', '')}"]
    joined = " ".join(arguments_of(["program"], config, {}, quote=shlex.quote))
    assert shlex.split(joined) == arguments_of(["program"], config, {})


def test_a_shell_command_is_given_its_values_quoted(tmp_path: Path) -> None:
    text = """printf '{"result": %s}\\n' {x}; printf '%s\\n' {kind}; test -z "$MINE" || echo "$MINE" """
    text = text.replace('{"result"', '{{"result"').replace("%s}\\n", "%s}}\\n")
    trial = dhpo.ScriptTrial(text, shell=True, env={"MINE": "yes"})
    results = run(trial, tmp_path / "s", stopper=None, n=3)
    assert results.failures().empty, results.failures().error.tolist()
    for number, config in results.config_history.items():
        assert results.to_frame().set_index("job_id").loc[int(number), "objective"] == config["x"]
        log = (tmp_path / "s" / "checkpoints" / f"trial-{number}" / "stdout.log").read_text()
        assert log == f"{config['kind']}\nyes\n"


@pytest.mark.parametrize(
    ("program", "objective"),
    [
        ("print('{\"result\": 0.25}')", 0.25),
        ('print(\'{"result": {"loss": 0.5, "metadata": {"n": 1}}}\')', 0.5),
        ('print(\'{"epoch": 1, "loss": 3}\'); print(\'{"loss": 0.75}\'); print(\'{"note": 1}\')', 0.75),
    ],
)
def test_results(tmp_path: Path, program: str, objective: float) -> None:
    frame = run([*script(tmp_path, program), "{trial}"], tmp_path / "s", n=1).to_frame()
    assert frame["objective"].tolist() == [objective]


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("import sys; print('why it failed', file=sys.stderr); sys.exit(3)", "ended with code 3: why it failed"),
        ("import os; os.kill(os.getpid(), 9)", "was killed by signal 9"),
        ("print('nothing')", "without a report or a result"),
        ("print('{\"epoch\": 1}')", "lacks the objective 'loss'"),
        ('print(\'{"epoch": 1, "loss": NaN}\', flush=True)', "not finite"),
    ],
)
def test_failures(tmp_path: Path, program: str, error: str) -> None:
    failures = run([*script(tmp_path, program), "{trial}"], tmp_path / "s", n=1).failures()
    assert error in failures["error"][0]


def test_a_program_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    assert "is not on this machine" in run(["no-such-program"], tmp_path, n=1).failures()["error"][0]


STUBBORN = """
import json, os, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
def told(*_):
    open("told", "w").close()
signal.signal(signal.SIGTERM, told)
open("pids", "w").write(f"{os.getpid()} {child.pid}")
print(json.dumps({"epoch": 1, "loss": 1.0}), flush=True)
while True:
    time.sleep(0.05)
"""


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_timeout_ends_the_program_and_all_that_it_started(tmp_path: Path, isolation: str) -> None:
    trial = dhpo.ScriptTrial([*script(tmp_path, STUBBORN), "{trial}"], grace=1.0)
    results = run(trial, tmp_path / "s", n=1, trial_timeout=3, isolation=isolation, stopper=None)
    assert results.statuses() == {0: Status.TIMED_OUT}
    folder = tmp_path / "s" / "checkpoints" / "trial-0"
    assert isolation == "process" or (folder / "told").exists()
    pids = [int(pid) for pid in (folder / "pids").read_text().split()]
    end = time.monotonic() + 60
    while not all(map(gone, pids)):
        assert time.monotonic() < end
        time.sleep(0.05)


@dataclass(frozen=True)
class StopAtOnce:
    """Stops every trial at its first report."""

    time_attr: str = "epoch"
    max_t: float = 9

    def bind(self, n_objectives: int, *, max_t: float | None, seed: int) -> StopAtOnce:
        return self

    def settings(self) -> dict[str, Any]:
        return {"stopper": "StopAtOnce"}

    def bracket(self, rng: Any) -> int:
        return 0

    def milestones(self, bracket: int) -> tuple[float, ...]:
        return (1,)

    def judge(self, trial: int, bracket: int, milestone: float, costs: Any) -> Decision:
        return Decision.STOP


def test_a_stopped_program_may_save_itself(tmp_path: Path) -> None:
    program = """
import json, signal, sys, time
def leave(*_):
    open("saved", "w").close()
    sys.exit(1)
signal.signal(signal.SIGTERM, leave)
print(json.dumps({"epoch": 1, "loss": json.loads(sys.argv[1])["x"]}), flush=True)
time.sleep(120)
"""
    trial = dhpo.ScriptTrial([*script(tmp_path, program), "{config_json}"], grace=60)
    results = run(trial, tmp_path / "s", n=1, stopper=StopAtOnce())
    assert results.statuses() == {0: Status.STOPPED}
    assert (tmp_path / "s" / "checkpoints" / "trial-0" / "saved").exists()


def test_files_of_this_directory_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path, "import os; print('{\"result\": 1}'); print(os.environ['DHPO_START_DIR'])")
    monkeypatch.chdir(tmp_path)
    trial = dhpo.ScriptTrial(f"{shlex.quote(sys.executable)} program.py {{trial}}")
    assert trial.words[1] == str(tmp_path / "program.py")
    assert run(trial, tmp_path / "s", n=1).failures().empty
    assert str(tmp_path) in (tmp_path / "s" / "checkpoints" / "trial-0" / "stdout.log").read_text()


@pytest.mark.parametrize("command", ["", [], "a 'b", 3, ["a\0"], ["{x", "b"]])
def test_unusable_commands_are_refused(command: Any) -> None:
    with pytest.raises(SettingError):
        dhpo.ScriptTrial(command)
    with pytest.raises(SettingError):
        dhpo.ScriptTrial(["a"], shell=True)
    with pytest.raises(SettingError):
        dhpo.ScriptTrial(["a"], grace=-1)


def test_a_place_that_is_no_hyperparameter_is_refused_at_once() -> None:
    with pytest.raises(SettingError, match=r"the place \{lr\}"):
        dhpo.Search(SPACE, dhpo.ScriptTrial(["train", "--lr={lr}"]))
    dhpo.Search(SPACE, dhpo.ScriptTrial(["train", "--x={x}"]), cluster="serial")


def test_commands_are_split_without_a_shell() -> None:
    assert command_of("train 'a b' --c={x}") == ["train", "a b", "--c={x}"]
    assert json.loads(arguments_of(["{config_json}"], {}, {"config_json": "{}"})[0]) == {}
    assert os.path.isabs(dhpo.ScriptTrial(["x"]).start_dir)
