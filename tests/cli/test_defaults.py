"""A project's file says what options are where nobody types them; the command line wins, and what is wrong is told."""

import json
import os
from pathlib import Path

import pytest

from edgeslim.cli.defaults import OF_A_RECIPE, VOIDS, WithDefaults, find_project
from edgeslim.cli.main import commands
from edgeslim.devices.new_profile import write_new_profile
from tests.support.command_line import call

FOLDER_RECIPE = "steps: [{step: fold}, {step: quantize}]\nmax_drop_points: 3.0\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, a repository, in which commands are called."""
    folder = tmp_path / "project"
    (folder / ".git").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def asked(monkeypatch, capsys):
    """Call the command line and return exit code, stdout and stderr."""
    return lambda *words: call(monkeypatch, capsys, *words)


def test_options_take_what_the_file_says_and_the_command_says_so(project, asked):
    (project / "edgeslim.toml").write_text(
        'device = "raspberry-pi"\n[build]\nmax-drop = 0.5\nformat = ["onnx"]\nstrict = true\nthreads = 2\n'
    )
    code, out, err = asked("build", "--dry-run")
    assert code == 0, err
    for line in ("max_drop_points: 0.5\n", "- onnx\nmax_drop", "strict: true\n", "threads: 2\n"):
        assert line in out, line
    words = "--device raspberry-pi --format onnx --threads 2 --max-drop 0.5 --strict"
    assert err == f"defaults of edgeslim.toml: {words}"


def test_the_command_line_wins(project, asked):
    (project / "edgeslim.toml").write_text(
        'device = "nosuch"\n[build]\nmax-drop = 0.5\nformat = ["onnx"]\nstrict = true\nlogits = true\n'
    )
    typed = ("-d", "host", "--max-drop", "2", "--format", "tflite", "--no-strict", "--no-logits")
    code, out, err = asked("build", "--dry-run", *typed)
    assert (code, err) == (0, ""), "nothing was taken from the file"
    for line in (
        "max_drop_points: 2.0\n",
        "formats:\n- tflite\nmax_drop",
        "strict: false\n",
        "cut_probabilities: false",
    ):
        assert line in out, line


def test_a_table_of_a_command_wins_over_what_is_said_of_all(project, asked):
    (project / "edgeslim.toml").write_text('device = "nosuch"\n[check]\ndevice = "raspberry-pi"\n')
    assert asked("check", "--json")[0] == 0
    assert asked("build", "--dry-run")[0] == 2


def test_nothing_is_said_of_it_where_nobody_wants_to_read(project, asked):
    (project / "edgeslim.toml").write_text('device = "raspberry-pi"\n[build]\nmax-drop = 0.25\n')
    assert asked("build", "--dry-run", "-q")[2] == ""
    code, out, err = asked("build", "--dry-run", "--json")
    assert (code, err, json.loads(out)["recipe"]["max_drop_points"]) == (0, "", 0.25)


def test_paths_are_relative_to_the_file(project, asked, monkeypatch):
    write_new_profile("my-board", project)
    (project / "recipe.yaml").write_text(FOLDER_RECIPE)
    (project / "edgeslim.toml").write_text(
        'model = "nets/mine.py:make"\ndevice = "my-board.yaml"\ndata = "images"\nweights = "random"\n'
        '[build]\nrecipe = "recipe.yaml"\nout = "/absolute"\n[bench]\non = "emulator:my-board.yaml"\n'
    )
    (project / "deeper" / "still").mkdir(parents=True)
    monkeypatch.chdir(project / "deeper" / "still")
    code, out, err = asked("build", "--dry-run")
    assert code == 0, err
    assert "max_drop_points: 3.0" in out
    assert err == (
        "defaults of ../../edgeslim.toml: ../../nets/mine.py:make --device ../../my-board.yaml --weights random "
        "--data ../../images --recipe ../../recipe.yaml --out /absolute"
    )
    assert "--on emulator:../../my-board.yaml" in asked("bench", "gone")[2]


@pytest.mark.parametrize("words", ['model = "torchvision:alexnet"', 'data = "synthetic"', 'weights = "default"'])
def test_words_that_are_no_paths_stay(words, project, asked, monkeypatch):
    (project / "edgeslim.toml").write_text(f'device = "raspberry-pi"\n{words}\n')
    (project / "deeper").mkdir()
    monkeypatch.chdir(project / "deeper")
    assert words.partition('"')[2].rstrip('"') in asked("build", "--dry-run")[2].split()


def test_a_table_in_pyproject_is_a_file_of_defaults_and_one_without_it_is_none(project, asked, monkeypatch):
    (project / "pyproject.toml").write_text(
        '[tool.edgeslim]\ndevice = "raspberry-pi"\n[tool.edgeslim.build]\nseed = 7\n'
    )
    (project / "part").mkdir()
    (project / "part" / "pyproject.toml").write_text("[tool.other]\nseed = 1\n")
    monkeypatch.chdir(project / "part")
    code, out, err = asked("build", "--dry-run")
    assert (code, err) == (0, "defaults of ../pyproject.toml: --device raspberry-pi --seed 7")
    assert "seed: 7" in out


def test_the_nearest_file_counts_and_none_above_a_repository_or_the_home_folder(tmp_path, monkeypatch):
    inner = tmp_path / "home" / "repository" / "part"
    inner.mkdir(parents=True)
    for place in (tmp_path, inner.parent.parent, inner.parent, inner):
        (place / "edgeslim.toml").write_text("")

    def found():
        project = find_project(inner)
        return None if project is None else project.file.parent

    assert found() == inner
    (inner / "edgeslim.toml").unlink()
    assert found() == inner.parent
    (inner.parent / "edgeslim.toml").unlink()
    assert found() == inner.parent.parent
    (inner.parent / ".git").write_text("gitdir: of a worktree")
    assert found() is None, "it was looked for above the repository"
    (inner.parent / ".git").unlink()
    monkeypatch.setenv("HOME", str(inner.parent))
    assert found() is None, "it was looked for above the home folder"
    assert find_project(None) is None


def test_two_files_in_one_folder_are_refused(project, asked):
    (project / "edgeslim.toml").write_text("")
    (project / "pyproject.toml").write_text("[tool.edgeslim]\n")
    code, _, err = asked("build", "--dry-run")
    assert (code, err) == (
        2,
        "error: edgeslim.toml and pyproject.toml [tool.edgeslim] both hold defaults; keep one of them",
    )


def test_a_file_of_another_user_is_refused(project):
    if os.geteuid() != 0:
        pytest.skip("hardware: needs root, to give a file to another user")
    (project / "edgeslim.toml").write_text("")
    os.chown(project / "edgeslim.toml", 4711, -1)
    with pytest.raises(Exception, match=r"edgeslim\.toml: belongs to another user"):
        find_project(project)
    os.chown(project, 4711, -1)
    assert find_project(project) is not None, "the folder is that user's too"
    (project / "edgeslim.toml").unlink()
    (project.parent / "edgeslim.toml").write_text("")
    (project / ".git").rmdir()
    assert find_project(project) is None, "a folder of another user was looked into"


def test_every_fault_is_told_at_once_with_near_misses(project, asked, monkeypatch, capsys):
    (project / "pyproject.toml").write_text(
        """
[tool.edgeslim]
devise = "raspberry-pi"
json = true
check = 3
cache = {kind = ["curve"]}
out = "somewhere"
[tool.edgeslim.build]
max-dorp = 0.5
format = "onnx"
threads = 0
max-drop = true
max-latency = 30
dry-run = true
[tool.edgeslim.bench]
scenario = "slow"
artifact = "a"
"""
    )
    code, out, err = asked("build", "--dry-run")
    assert (code, out) == (2, "")
    at = "pyproject.toml [tool.edgeslim"
    for told in (
        f"{at}]: unknown key `devise`; did you mean `device`",
        f"{at}]: `json` is of one call, and no default",
        f"{at}]: `check`: expected a table of its options",
        f"{at}]: the options of `cache` are of one call, and no defaults",
        f"{at}]: `out` names what one command writes; say it in a command's table: [build], ",
        f"{at}.build]: unknown key `max-dorp`; did you mean `max-drop`",
        f"{at}.build]: `format`: expected a list; got `onnx`",
        f"{at}.build]: `threads`: 0 is not in the range x>=1",
        f"{at}.build]: `max-drop`: expected a number; got `true`",
        f"{at}.build]: `max-latency`: expected text; got `30`",
        f"{at}.build]: `dry-run` is of one call, and no default",
        f"{at}.bench]: `scenario`: 'slow' is not one of",
        f"{at}.bench]: unknown key `artifact`",
    ):
        assert told in err, told
    assert err.count(at) == 13, err


def test_what_is_no_toml_is_told_with_its_place(project, asked):
    (project / "edgeslim.toml").write_text('device = "raspberry-pi"\n[build\n')
    code, _, err = asked("build", "--dry-run")
    assert code == 2
    assert "edgeslim.toml: not TOML: Expected ']'" in err
    assert "line 2" in err


@pytest.mark.parametrize("words", [("build", "--help"), ("devices",), ("cache",), ("--version",)])
def test_help_and_commands_without_defaults_heed_no_file(words, project, asked):
    (project / "edgeslim.toml").write_text("nonsense")
    assert asked(*words)[0] == 0


def test_a_recipe_that_is_typed_is_not_changed_by_the_file(project, asked):
    (project / "edgeslim.toml").write_text(
        'device = "raspberry-pi"\n[build]\nmax-drop = 0.5\nseed = 7\nkeep-float = ["stem"]\nno-prune = true\n'
    )
    (project / "typed.yaml").write_text(FOLDER_RECIPE)
    code, out, err = asked("build", "--dry-run", "--recipe", "typed.yaml", "--threads", "3")
    assert (code, err) == (0, "defaults of edgeslim.toml: --device raspberry-pi")
    assert "max_drop_points: 3.0" in out
    assert "threads: 3" in out
    assert "stem" not in out


def test_pruning_that_is_typed_wins_over_none_in_the_file_and_the_other_way_round(project, asked):
    (project / "edgeslim.toml").write_text('device = "raspberry-pi"\n[build]\nno-prune = true\n')
    assert "step: prune" not in asked("build", "--dry-run")[1]
    assert "keep_latency: 0.4" in asked("build", "--dry-run", "--prune", "latency=0.4")[1]
    assert "step: prune" in asked("build", "--dry-run", "--prune", "auto")[1]
    (project / "edgeslim.toml").write_text('device = "raspberry-pi"\n[build]\nprune = "macs=0.5"\n')
    assert "keep_macs: 0.5" in asked("build", "--dry-run")[1]
    assert "step: prune" not in asked("build", "--dry-run", "--no-prune")[1]


def test_training_that_the_file_asks_for_is_left_out_by_what_is_typed(project, asked):
    (project / "edgeslim.toml").write_text('device = "raspberry-pi"\n[build]\ntrain-time = "2min"\n')
    assert "step: distill" in asked("build", "--dry-run")[1]
    assert "seconds: 30.0" in asked("build", "--dry-run", "--train-time", "30s")[1]
    for words in (("--train-time", "0s"), ("--no-prune",)):
        code, out, _ = asked("build", "--dry-run", *words)
        assert (code, "step: distill" in out) == (0, False)


def test_what_means_nothing_on_a_target_is_refused_where_it_is_typed_alone(project, asked):
    (project / "edgeslim.toml").write_text('[bench]\ntime-limit = "5min"\nram = "64MiB"\n')
    code, _, err = asked("bench", "gone", "--on", "local")
    assert (code, "gone" in err, "--time-limit is of" in err) == (2, True, False), err
    assert "--time-limit is of --on emulator" in asked("bench", "gone", "--on", "local", "--time-limit", "1min")[2]


def test_every_flag_that_a_file_may_set_can_be_unset():
    for name, command in commands.commands.items():
        for one in command.params if isinstance(command, WithDefaults) else []:
            free = one.name in ("as_json", "quiet", "verbose", "dry_run", "no_prune")
            assert free or not getattr(one, "is_flag", False) or one.secondary_opts, f"{name} {one.opts}"


def test_what_a_typed_option_makes_void_is_there():
    known = {one.name for one in commands.commands["build"].params}
    assert {*OF_A_RECIPE, *VOIDS} <= known
