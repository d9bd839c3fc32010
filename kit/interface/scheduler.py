"""JupyterLab's job scheduler on the strict runner: typed parameters, and a notebook that failed is a failed job.

Only Jupyter imports this module (``jupyter_server_config.py`` names its classes). jupyter-scheduler's own managers put
every parameter in as a text, and its archiving one calls a notebook that raised COMPLETED.
"""

import sys
from pathlib import Path
from typing import Any

from jupyter_scheduler.environments import EnvironmentManager
from jupyter_scheduler.executors import ExecutionManager
from jupyter_scheduler.models import JobFeature, RuntimeEnvironment

from kit.interface import notebooks

FORMATS = {"ipynb": "ノートブック", "html": "HTML"}


class Papermill(ExecutionManager):  # type: ignore[misc]
    """Runs one job; what it raises becomes the job's FAILED and its message, the error's three lines."""

    def execute(self) -> None:
        """Run the notebook and write its outputs, also when it fails."""
        job, source = self.model, Path(self.staging_paths["input"])
        output = source.with_name(f".{source.stem}.executed.ipynb")
        try:
            notebooks.run(str(source), output, notebooks.parse(source, job.parameters or {}))
        finally:
            if output.exists():
                self._export(output, job.output_formats or [])
                output.unlink()

    def _export(self, executed: Path, formats: list[str]) -> None:
        import nbconvert
        import nbformat

        book = nbformat.read(executed, as_version=4)
        for name in formats:
            exporter = nbconvert.get_exporter("notebook" if name == "ipynb" else name)()  # type: ignore[no-untyped-call]
            Path(self.staging_paths[name]).write_text(exporter.from_notebook_node(book)[0], encoding="utf-8")

    def supported_features(self) -> dict[Any, bool]:
        """Return what the form may offer. jupyter-scheduler calls this with the class, not an instance."""
        offered = {JobFeature.job_name, JobFeature.job_definition, JobFeature.parameters, JobFeature.output_formats, JobFeature.stop_job, JobFeature.delete_job}
        return {feature: feature in offered for feature in JobFeature}

    def validate(self, input_path: str) -> bool:
        """Let every notebook in: what is wrong with one is told by its job, in three lines."""
        return True


class Here(EnvironmentManager):  # type: ignore[misc]
    """The one environment: that of JupyterLab itself."""

    def list_environments(self) -> list[Any]:
        """Return the environment that jobs run in."""
        about = {"label": "このキットの環境", "description": "JupyterLab と同じ Python", "metadata": {"path": sys.prefix}}
        return [RuntimeEnvironment(name="kit", file_extensions=["ipynb"], output_formats=[*FORMATS], **about)]

    def manage_environments_command(self) -> str:
        """Return the command that manages environments: there is none."""
        return ""

    def output_formats_mapping(self) -> dict[str, str]:
        """Return the formats of output and what they are called."""
        return FORMATS
