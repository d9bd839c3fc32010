"""Configuration of JupyterLab for a closed network; `make lab` starts it with this file.

Nothing leaves (no news, no update check, no extension list), nothing listens beyond loopback, and every request needs
the token that Jupyter makes anew at each start. Colleagues connect through `ssh -L`. To change a value, pass it to
`make lab`'s command line rather than edit this file: it is part of the evidence.
"""

from typing import Any

from kit import settings
from kit.interface.notebooks import kernel_transport

c = get_config()  # type: ignore[name-defined]  # noqa: F821  # put there by Jupyter

# No egress: these three take JupyterLab's outside connections from five to none.
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"


def _without_announcements(handler: Any, page: dict[str, Any]) -> dict[str, Any]:
    """Take out the plugin that asks every new user whether to fetch Jupyter's news."""
    return page | {"disabledExtensions": [*page.get("disabledExtensions", []), "@jupyterlab/apputils-extension:announcements"]}


c.ServerApp.tornado_settings = {"page_config_hook": _without_announcements}

# Loopback only, and nothing without the token. IdentityProvider.token is left to Jupyter: a new one each start.
c.ServerApp.ip = "127.0.0.1"
c.ServerApp.open_browser = False
c.Application.log_level = "WARN"  # the address with its token must not drown in twenty other lines
c.ServerApp.allow_unauthenticated_access = False
c.ServerApp.allow_remote_access = False
c.ServerApp.allow_origin = ""
c.ServerApp.disable_check_xsrf = False
c.ServerApp.allow_root = False
c.ServerApp.terminals_enabled = False
c.ServerApp.jpserver_extensions = {"jupyter_lsp": False}  # a door for language servers, of which none is here
c.ServerApp.max_body_size = 64 * 2**20  # bytes
c.ServerApp.nbconvert_csp_sandbox = True

# Kernels talk through sockets in a folder of the user where its path is short enough, not TCP ports.
c.KernelManager.transport = kernel_transport()

# Jobs from JupyterLab's form go through the strict runner; the list of jobs and their files stay in the project.
_jobs = settings.load().runs / "jobs"
_jobs.mkdir(parents=True, exist_ok=True, mode=0o700)
c.SchedulerApp.db_url = f"sqlite:///{_jobs / 'jobs.sqlite'}"
c.SchedulerApp.environment_manager_class = "kit.interface.scheduler.Here"
c.Scheduler.execution_manager_class = "kit.interface.scheduler.Papermill"
c.Scheduler.staging_path = str(_jobs / "staging")
c.Scheduler.output_directory = str(_jobs)
