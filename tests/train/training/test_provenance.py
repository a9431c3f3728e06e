"""A run says when, where and by which command it was started; its result does not depend on that."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys

from tmkt_train.training.folder import RunFolder
from tmkt_train.training.provenance import describe_start


def git(folder, *words):
    names = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", folder, *names, *words], check=True, capture_output=True)


def test_date_host_and_command(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/tmkt-train", "recipe", "my recipe.toml"])
    found = describe_start()
    assert found["command"] == "tmkt-train recipe 'my recipe.toml'"
    date = dt.datetime.fromisoformat(found["date"])
    assert abs(dt.datetime.now(dt.UTC) - date) < dt.timedelta(minutes=10)
    assert "commit" not in found


def test_a_package_that_is_run_as_a_module_has_its_name(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/tmkt_train/__main__.py", "resume", "run"])
    assert describe_start()["command"] == "python -m tmkt_train resume run"


def test_the_commit_of_the_working_directory(monkeypatch, tmp_path):
    (tmp_path / "a.txt").write_text("a")
    git(tmp_path, "init")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "-m", "a")
    git(tmp_path, "tag", "v1", "-m", "v1")
    monkeypatch.chdir(tmp_path)
    commit = describe_start()["commit"]
    assert len(commit) == 12
    (tmp_path / "a.txt").write_text("b")
    assert describe_start()["commit"] == f"{commit}-dirty"


def test_without_git_there_is_no_commit(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {"date", "host", "command"} == set(describe_start())


def test_it_is_in_the_environment_and_not_in_the_result(finished):
    assert {"date", "host", "command"} <= set(RunFolder(finished).read_environment()["started"])
    assert "started" not in RunFolder(finished).read_result()["environment"]
