"""The specification's conformance program, run against the embedded registry."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from registries import embedded, program

pytestmark = pytest.mark.live

# The minimum number of checks that must pass, so that a run without any check fails.
MIN_CHECKS = {"1.1": 850, "dev": 970}


@pytest.mark.parametrize("version", MIN_CHECKS)
def test_conformance(version: str, tmp_path: Path) -> None:
    """No check fails or is skipped; all optional checks are enabled."""
    conformance = program("conformance", "`make live` builds it where Go is installed")
    with embedded(tmp_path) as url:
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "OCI_REGISTRY": url.removeprefix("http://"),
            "OCI_TLS": "disabled",
            "OCI_VERSION": version,
            "OCI_RESULTS_DIR": str(tmp_path / "results"),
            "OCI_API_BLOBS_UPLOAD_CANCEL": "true",
            "OCI_API_BLOBS_DIGEST_HEADER": "true",
            "OCI_API_MANIFESTS_DIGEST_HEADER": "true",
        }
        done = subprocess.run(
            [conformance], env=environment, cwd=tmp_path, capture_output=True, text=True,
            check=False, timeout=110,
        )  # fmt: skip
    counts = {
        name: int(count)
        for name, count in re.findall(r"^  (\w+)\.+: +(\d+)$", done.stdout, re.MULTILINE)
    }
    broken = re.findall(r"^ .*: (?:FAIL|Error|Skip)$", done.stdout, re.MULTILINE)
    assert broken == []
    assert (counts["FAIL"], counts["Error"], counts["Skip"], counts["Disabled"]) == (0, 0, 0, 0)
    assert counts["Pass"] == counts["Total"] >= MIN_CHECKS[version]
    assert done.returncode == 0
