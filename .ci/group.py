"""Print the requirements of a dependency group (PEP 735), for versions of pip without --group.

Usage: python .ci/group.py dev
"""

import sys
import tomllib
from pathlib import Path


def requirements(groups: dict[str, list[str | dict[str, str]]], name: str) -> list[str]:
    """The requirements of a group, included groups first met first."""
    listed: list[str] = []
    for entry in groups[name]:
        listed += [entry] if isinstance(entry, str) else requirements(groups, entry["include-group"])
    return list(dict.fromkeys(listed))


if __name__ == "__main__":
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    sys.stdout.write("\n".join(requirements(project["dependency-groups"], sys.argv[1])) + "\n")
