"""Stands for an agent: reads the workspace, writes a report. Runs inside the sandbox."""

import ast
import pathlib
import sys

workspace, output = (pathlib.Path(argument) for argument in sys.argv[1:])

lines = ["# Functions without a docstring", ""]
for source in sorted(workspace.rglob("*.py")):
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is None:
            lines.append(f"- {source.relative_to(workspace)}:{node.lineno} {node.name}")

(output / "report.md").write_text("\n".join(lines) + "\n")
print(f"wrote {len(lines) - 2} findings to {output / 'report.md'}")
