"""Print the requirements of a dependency group, for a pip that does not know groups yet."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
for requirement in project["dependency-groups"][sys.argv[1]]:
    print(requirement)
