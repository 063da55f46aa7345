"""The page: everything gathered and computed, put into the one template."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape

from yxanul.report import comparison
from yxanul.report.charts import curves
from yxanul.report.charts.comparison import domain_panels, loss_of_runs
from yxanul.report.charts.figures import Chart
from yxanul.report.charts.skills import skill_charts
from yxanul.report.reading.gather import Run
from yxanul.report.reading.skills import skills
from yxanul.report.reading.traced import Cited, Traced
from yxanul.report.reading.words import origin
from yxanul.report.rendering import TEMPLATES, template_environment
from yxanul.report.sections import details, incidents
from yxanul.report.sections.contamination import contamination
from yxanul.report.sections.cost import cost
from yxanul.report.sections.expected import expected_rows
from yxanul.report.sections.forgetting import forgetting_matrix, skill_matrix
from yxanul.report.sections.gates import SKILL_CHECKS, cards
from yxanul.report.sections.not_run import not_run
from yxanul.report.sections.planned import left_out, planned_lines
from yxanul.report.sections.summary import summary
from yxanul.report.sections.transfer import transfer

_CONTENTS = (
    ("summary", "Summary"),
    ("loss", "Loss"),
    ("bpb", "Bits per byte"),
    ("skills", "Skills"),
    ("forgetting", "Forgetting"),
    ("gates", "Gates"),
    ("expected", "Promised"),
    ("planned", "Planned"),
    ("incidents", "Incidents"),
    ("cost", "Cost"),
    ("tokens", "Tokens"),
    ("speed", "Speed"),
    ("samples", "Samples"),
    ("sources", "Sources"),
    ("environment", "Machine"),
    ("reproduce", "Do it again"),
)


def render(run: Run) -> str:
    """Return the page as HTML text: one file, no address outside it, the same for the same run."""
    template = _environment().get_template("report.html.j2")
    bpb = curves.bpb_chart(run)
    tasks, missing = skills(run), not_run(run)
    absent = {"bpb"} if bpb is None else set()
    absent |= set() if tasks or missing else {"skills"}
    return template.render(
        run=run,
        summary=summary(run),
        loss=curves.loss_chart(run),
        bpb=bpb,
        speed=curves.speed_chart(run),
        skills=tasks,
        skill_charts=skill_charts(run),
        not_run=missing,
        contamination=contamination(run),
        matrix=forgetting_matrix(run),
        skill_matrix=skill_matrix(run),
        transfer=transfer(run),
        expected=expected_rows(run),
        planned=planned_lines(run),
        left_out=left_out(run),
        vocabulary=run.config.number("model", "vocab_size") if run.config is not None else None,
        cards=cards(run),
        has_skill_checks=any(check.find("id") in SKILL_CHECKS for check in run.checks),
        incidents=incidents.incidents(run),
        starts=incidents.starts(run),
        unusual=incidents.steps(run),
        cost=cost(run),
        ledger=details.ledger(run),
        prompts=details.samples(run),
        sources=details.sources(run),
        facts=details.facts(run),
        features=details.features(run),
        configuration=details.configuration(run),
        contents=[(place, title) for place, title in _CONTENTS if place not in absent],
        **_dress(),
    )


def render_comparison(runs: Sequence[Run], title: str) -> str:
    """Return the page that lays several runs beside one another, as `render` does for one."""
    return (
        _environment()
        .get_template("comparison.html.j2")
        .render(
            title=title,
            runs=runs,
            facts=comparison.facts(runs),
            gates=comparison.gates(runs),
            domains=comparison.domains(runs),
            tasks=comparison.tasks(runs),
            settings=comparison.differences(runs),
            loss=loss_of_runs(runs),
            panels=domain_panels(runs),
            **_dress(),
        )
    )


def plotly_script() -> Markup:
    """Return plotly.js whole, safe inside a script element."""
    from plotly.offline import get_plotlyjs  # slow to import, and needed here only

    return Markup(str(get_plotlyjs()).replace("</script", "<\\/script"))


def _dress() -> dict[str, str]:
    """Return style and scripts of a page, and the only scripts that may run on it."""
    scripts = {"plotly": plotly_script(), "script": _own("page.js")}
    allowed = " ".join(map(_hash, scripts.values()))
    return {"style": _own("style.css"), "allowed": allowed, **scripts}


@cache
def _environment() -> Environment:
    environment = template_environment(escape=True)
    environment.filters["origin"] = origin
    environment.filters["breakable"] = _breakable
    environment.filters["figure"] = _figure
    environment.tests["traced"] = _is_traced
    environment.tests["cited"] = _is_cited
    return environment


def _own(name: str) -> Markup:
    """Return a file of this room, which is ours and needs no escaping."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def _hash(script: str) -> str:
    """Return a script as the page's policy names it: no other script can run on the page."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _figure(chart: Chart) -> dict[str, Any]:
    return {"data": chart.data, "layout": chart.layout}


def _breakable(text: str) -> Markup:
    """Escape a text, and let long names break after an underscore; its content stays the same."""
    return Markup(str(escape(text)).replace("_", "_<wbr>"))


def _is_traced(value: object) -> bool:
    return isinstance(value, Traced)


def _is_cited(value: object) -> bool:
    return isinstance(value, Cited)
