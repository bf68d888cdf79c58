"""What holds of the code as a whole: floors, no work at import, and files that work on any machine."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / "pipeline").rglob("*.py"))
HEAVY = ("dask", "distributed", "numba", "scipy", "torch", "xarray", "zarr")


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _committed_files() -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: which files are committed is not known")
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def test_floors() -> None:
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "KEPT" in done.stdout


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_only_defines(path: Path) -> None:
    """At import: names are bound, nothing is done."""
    allowed = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        guarded = isinstance(statement, ast.If) and ast.unparse(statement.test) in ("TYPE_CHECKING", "__name__ == '__main__'")
        assert docstring or guarded or isinstance(statement, allowed), f"line {statement.lineno}: {ast.unparse(statement)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "module", ["pipeline", "pipeline.cli", "pipeline.config", "pipeline.inference", "pipeline.manifest", "pipeline.normalize"]
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import json, sys, {module}; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"

    assert json.loads(_python(code)) == []


def test_help_needs_no_numbers() -> None:
    code = "import sys, pipeline.cli; pipeline.cli.main(['--help'], standalone_mode=False); print('numpy' in sys.modules)"

    assert _python(code).splitlines()[-1] == "False"


def test_importing_everything_starts_no_thread() -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in MODULES]
    code = f"import threading, {', '.join(names)}; print([thread.name for thread in threading.enumerate()])"

    assert _python(code).strip() == "['MainThread']"


def test_no_file_names_a_machine_or_a_package_registry() -> None:
    folders = "|".join(("home", "root", "Users", "work"))
    hosts = "|".join(f"{name}[.]{domain}" for name, domain in (("pypi", "org"), ("pythonhosted", "org"), ("anaconda", "org")))
    suspicious = re.compile(rf"(?<![\w./~-])/(?:{folders})/\w|{hosts}|--(?:extra-)?index-url|--find-links")
    found = []
    for path in _committed_files():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if match := suspicious.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match.group()}")

    assert [line for line in found if not line.startswith(("scripts/lock:", "tests/test_architecture.py:"))] == []


def test_the_lock_has_hashes_and_no_place() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = re.findall(
        r"^[a-z0-9][\w.-]*==[^\s;]+(?: ;[^\\\n]*)? \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", text, re.MULTILINE
    )

    assert len(pins) == len(re.findall(r"^[^\s#]", text, re.MULTILINE))
    assert "://" not in text


def test_the_lock_has_every_dependency_of_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [name for names in project["optional-dependencies"].values() for name in names]
    wanted = {re.split(r"[\s<>=;]", name)[0].lower() for name in (*project["dependencies"], *extras)}
    locked = set(re.findall(r"^([a-z0-9][\w.-]*)==", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE))

    assert wanted <= locked


def test_the_compose_file_is_valid() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]

    assert done.returncode == 0, done.stdout + done.stderr
    assert {"scheduler", "worker", "zarrnorm"} <= set(services)
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
