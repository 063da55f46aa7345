"""Three recorded runs and their pages, written once."""

import shutil
from pathlib import Path

import pytest

from tests.report.recorded import Recorder
from tests.report.recorded_skills import SkillRecorder
from tests.report.written_page import Page
from yxanul.report.write import write_report

HOSTILE = " <script>alert('x')</script><img src=//evil.example/a.png> \"' & {{ 7 * 7 }} </script>"


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """A finished run with a rollback, and its report."""
    root = Recorder(tmp_path_factory.mktemp("runs") / "recorded").write()
    write_report(root)
    return root


@pytest.fixture
def copied(run, tmp_path) -> Path:
    """A copy of the finished run, to be changed."""
    return shutil.copytree(run, tmp_path / "copy")


@pytest.fixture(scope="session")
def page(run) -> Page:
    return Page((run / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def skilled(tmp_path_factory) -> Path:
    """A finished run with skills, later checks and an override, and its report."""
    root = SkillRecorder(tmp_path_factory.mktemp("runs") / "skilled").write()
    write_report(root)
    return root


@pytest.fixture(scope="session")
def skilled_page(skilled) -> Page:
    return Page((skilled / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def hostile(tmp_path_factory) -> Path:
    """A run whose texts, from samples to an override, try to become part of the page."""
    root = tmp_path_factory.mktemp("runs") / "<b>name & co"
    SkillRecorder(root, hostile=HOSTILE).write()
    write_report(root)
    return root
