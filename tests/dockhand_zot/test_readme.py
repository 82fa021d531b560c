"""The examples of the plugin's README, run unchanged on a real zot."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dockhand_zot import ScannerDisabled, ZotClient
from registries import HTPASSWD, PASSWORD, zot

from dockhand_core import connect

README = Path(__file__).parents[2] / "plugins/dockhand_zot/README.md"


@pytest.mark.live
def test_readme_on_a_real_zot(
    tmp_path: Path, push_image: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = README.read_text("utf-8")
    [toml] = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    first, *examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 7
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"path": str(tmp_path / "htpasswd")}, "apikey": True}
    on = {"enable": True}
    quiet = {"driver": "null"}
    with zot(tmp_path, auth=auth, search=on, ui=on) as url:
        password = {"driver": "basic", "username": "alice", "password": PASSWORD}
        with connect(url, driver="zot", auth=password, logging=quiet) as client:
            assert isinstance(client, ZotClient)
            for name, tag in (("app", "1.0"), ("app", "1.1"), ("base", "1.0"), ("nginx", "1")):
                push_image(client, f"team/{name}", tag, name)
            key = client.create_api_key("readme").api_key.get_secret_value()
            monkeypatch.setenv("ZOT_API_KEY", key)
            monkeypatch.chdir(tmp_path)
            text = toml.replace("http://localhost:5050", url)
            (tmp_path / "dockhand.toml").write_text(f"{text}logging = {{ driver = 'null' }}\n")
            names: dict[str, Any] = {}
            exec(compile(first, "README.md", "exec"), names)
            names["zot"] = client
            for example in examples:
                code = compile(example, "README.md", "exec")
                if "cves(" in example:  # this zot has no scanner
                    with pytest.raises(ScannerDisabled):
                        exec(code, names)
                else:
                    exec(code, names)
            assert [each.name for each in client.starred()] == []
            assert [each.name for each in client.bookmarked()] == ["team/app"]
