"""Print the requirements of a dependency group, for versions of pip that cannot read groups."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
for requirement in project["dependency-groups"][sys.argv[1]]:
    print(requirement)
