"""What import-linter cannot see: what a module really loads, and who reads the environment."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "sam3_backend"

MODEL_FREE = (
    "sam3_backend",
    "sam3_backend.answer",
    "sam3_backend.bulk.file_output",
    "sam3_backend.bulk.files",
    "sam3_backend.bulk.project",
    "sam3_backend.bulk.report",
    "sam3_backend.bulk.sample",
    "sam3_backend.bulk.writer",
    "sam3_backend.cli",
    "sam3_backend.embeddings.redis",
    "sam3_backend.embeddings.store",
    "sam3_backend.geometry",
    "sam3_backend.images",
    "sam3_backend.label_studio.backend",
    "sam3_backend.label_studio.client",
    "sam3_backend.masks",
    "sam3_backend.model.scheduler",
    "sam3_backend.overlay",
    "sam3_backend.segmenter",
    "sam3_backend.server.app",
    "sam3_backend.server.wsgi",
    "sam3_backend.settings",
)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_model_free_modules_do_not_load_torch() -> None:
    heavy = "sorted({'torch', 'transformers', 'torchvision'} & sys.modules.keys())"
    loaded = run(
        f"import importlib, sys\nfor name in {MODEL_FREE!r}:\n"
        f"    importlib.import_module(name)\n    if {heavy}: print(name, {heavy}); break"
    )
    assert loaded == ""


def test_the_process_that_forks_knows_no_metrics_and_no_flask() -> None:
    # Metrics decide at import time whether workers share them; that is set up after the import of wsgi.
    assert (
        run("import sys, sam3_backend.server.wsgi; print({'flask', 'prometheus_client'} & sys.modules.keys())")
        == "set()"
    )


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
class TestAnyModule:
    def test_leaves_the_environment_to_the_settings(self, path: Path) -> None:
        if path == PACKAGE / "settings.py":
            return
        names = {
            node.attr if isinstance(node, ast.Attribute) else node.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute | ast.Name)
        }
        assert names.isdisjoint({"environ", "environb", "getenv"})

    def test_has_a_charter(self, path: Path) -> None:
        assert ast.get_docstring(ast.parse(path.read_text()))

    def test_is_one_room(self, path: Path) -> None:
        assert len(path.read_text().splitlines()) <= 300
