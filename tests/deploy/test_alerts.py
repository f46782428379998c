"""The PrometheusRule, by promtool of Debian's package prometheus, which scripts/test installs if it can."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from apps import app, client, config, run

HERE = Path(__file__).parent
RULES = HERE.parents[1] / "deploy/kustomize/components/monitoring/prometheusrule.yaml"

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not on PATH; on Debian: apt-get install prometheus"
)


def promtool(*arguments: str, folder: Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments], cwd=folder, input=text, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A folder with the rule file that the object holds."""
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(yaml.safe_load(RULES.read_text())["spec"]))
    return tmp_path


def alerts() -> set[str]:
    groups = yaml.safe_load(RULES.read_text())["spec"]["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"]}


def test_promtool_takes_the_rules(rules: Path) -> None:
    checked = promtool("check", "rules", "rules.yaml", folder=rules)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(alerts())} rules found" in checked.stdout


def test_every_alert_is_raised_by_what_it_is_for(rules: Path) -> None:
    shutil.copy(HERE / "alerts_test.yaml", rules)
    cases: Any = yaml.safe_load((HERE / "alerts_test.yaml").read_text())["tests"]
    raised = {each["alertname"] for case in cases for each in case["alert_rule_test"] if each["exp_alerts"]}
    assert raised == alerts()
    tested = promtool("test", "rules", "alerts_test.yaml", folder=rules)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_promtool_takes_the_metrics(tmp_path: Path) -> None:
    async def read() -> str:
        served = app(config(tmp_path, {"/hello": "hello"}, exposeEndpoints=True))
        async with client(served) as http:
            await http.get("/hello")
            return (await http.get("/metrics")).text

    text: list[str] = []

    async def main() -> None:
        text.append(await read())

    run(main())
    linted = promtool("check", "metrics", folder=tmp_path, text=text[0])
    # Lint of names is advice: those of the FaaS conventions are not Prometheus' own. What cannot be read ends with 1.
    assert linted.returncode in (0, 3), linted.stderr
    assert not re.search("error while linting|text format parsing", linted.stderr), linted.stderr
