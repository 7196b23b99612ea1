"""The alert rules, the dashboard and the example for Kubernetes use what the program has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from click.testing import CliRunner

from autoexport.cli import cli
from autoexport.config.settings import Settings
from autoexport.daemon.operations import Operations
from tests.unit.test_metrics import OURS

FOLDER = Path(__file__).resolve().parents[2] / "systemd"
ALERTS: dict[str, Any] = yaml.safe_load((FOLDER / "autoexport-alerts.yaml").read_text())
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "autoexport-dashboard.json").read_text())
KUBERNETES: list[dict[str, Any]] = list(yaml.safe_load_all((FOLDER / "autoexport-kubernetes.yaml").read_text()))
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]


def expressions() -> Iterator[str]:
    """All expressions of both files; the variables of the dashboard are patterns."""
    yield from (rule["expr"] for rule in RULES)
    for panel in PANELS:
        yield from (target["expr"] for target in panel["targets"])


@pytest.mark.parametrize("expression", list(expressions()))
def test_every_expression_is_promql_about_our_metrics(expression: str) -> None:
    """It parses, and each of its metrics is one that the program has."""
    promql_parser.parse(expression)
    names = set(re.findall(r"\b(?:autoexport|process)_[a-z_]+\b", expression)) - {"autoexport_state"}
    assert {name for name in names if not name.startswith("process_")} <= OURS.keys()
    assert names or "autoexport_state" in expression


def test_the_dashboard_shows_every_metric_of_ours() -> None:
    """None is left out."""
    shown = {name for panel in PANELS for target in panel["targets"] for name in OURS if name in target["expr"]}
    assert shown == OURS.keys()


def test_the_alerts_have_the_limits_that_are_documented() -> None:
    """Five minutes, fifteen minutes, three failures; each says what to do."""
    text = {rule["alert"]: rule["expr"] for rule in RULES}
    assert "> 300" in text["AutoexportNotChecking"]
    assert "> 900" in text["AutoexportChangesNotPublished"]
    assert text["AutoexportFailing"] == "autoexport_consecutive_failures > 3"
    for rule in RULES:
        assert rule["annotations"].keys() == {"summary", "description"}
        assert rule["labels"]["severity"] == "warning"


def test_the_panels_do_not_overlap() -> None:
    """Each cell of the grid of 24 columns has one panel at most, and ids are unique."""
    cells: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells, panel["title"]
        cells |= own
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_the_example_for_kubernetes_starts_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its arguments and variables are real ones, and its probes ask for paths that are served."""
    kinds = {document["kind"]: document for document in KUBERNETES}
    assert kinds.keys() == {"Secret", "PersistentVolumeClaim", "Deployment"}
    deployment = kinds["Deployment"]["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    assert deployment["strategy"] == {"type": "Recreate"}
    variables = {entry["name"]: entry["value"] for entry in container["env"]} | kinds["Secret"]["stringData"]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    options = {name for parameter in cli.params for name in parameter.opts}
    arguments = container["args"]
    assert {word for word in arguments if word.startswith("--")} <= options
    settings = Settings(listen=arguments[arguments.index("--listen") + 1])
    assert settings.warnings == ()
    assert settings.listen_address is not None
    assert {port["containerPort"] for port in container["ports"]} == {settings.listen_address.port}
    served = Path(Operations.__init__.__code__.co_filename).read_text()
    for probe, path in (("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert container[probe]["httpGet"] == {"path": path, "port": "metrics"}
        assert f'"{path}"' in served
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in deployment["template"]["spec"]["volumes"]}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--listen", "9464"], "--listen needs --monitor"),
        (["--listen", "9464", "status"], "--listen cannot stand before the command 'status'"),
    ],
)
def test_the_flag_needs_a_daemon(arguments: list[str], told: str) -> None:
    """A one-time export ends before anything could ask."""
    from autoexport.commands.options import Invocation

    done = CliRunner().invoke(cli, arguments, obj=Invocation())
    assert done.exit_code == 2
    assert told in done.output
