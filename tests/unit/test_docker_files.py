"""The images cannot be built here; what is known to go wrong in such files is looked for instead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from sam3_backend.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("Dockerfile*"))
SETTINGS = {name.upper() for name in Settings.model_fields}
INSTRUCTIONS = {
    "FROM",
    "RUN",
    "ENV",
    "WORKDIR",
    "COPY",
    "ARG",
    "USER",
    "VOLUME",
    "EXPOSE",
    "HEALTHCHECK",
    "ENTRYPOINT",
    "CMD",
}
READ_BY_OTHERS = {"PATH", "PYTHONUNBUFFERED", "HF_HOME"}


def instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, arguments), continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def arguments(path: Path, instruction: str) -> list[str]:
    return [given for name, given in instructions(path) if name == instruction]


def compose(name: str = "compose.yaml") -> dict[str, dict[str, dict[str, object]]]:
    return yaml.safe_load((DOCKER / name).read_text())


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
class TestDockerfile:
    def test_starts_from_a_pinned_image(self, path: Path) -> None:
        for image in arguments(path, "FROM"):
            assert re.search(r":\d+\.\d+", image)

    def test_has_only_instructions_that_exist(self, path: Path) -> None:
        assert {name for name, _ in instructions(path)} <= INSTRUCTIONS

    def test_does_not_run_as_root(self, path: Path) -> None:
        names = [name for name, _ in instructions(path)]
        assert arguments(path, "USER") == ["sam3"]
        assert "RUN" not in names[names.index("USER") :]

    def test_keeps_no_package_caches(self, path: Path) -> None:
        for command in arguments(path, "RUN"):
            assert ("apt-get install" in command) == ("rm -rf /var/lib/apt/lists/*" in command)
            assert ("apt-get install" in command) == ("--no-install-recommends" in command)
            assert command.count("pip install") == command.count("--no-cache-dir")

    def test_installs_the_versions_that_were_tested(self, path: Path) -> None:
        installs = re.findall(r"pip install (.*?)(?: &&|$)", "\n".join(arguments(path, "RUN")), flags=re.MULTILINE)
        assert len(installs) >= 2
        for options in installs:
            assert "--constraint constraints.txt" in options or "--no-deps --force-reinstall ." in options

    def test_copies_only_what_is_there_and_not_ignored(self, path: Path) -> None:
        allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
        for given in arguments(path, "COPY"):
            for source in given.split()[:-1]:
                assert (ROOT / source).exists()
                assert source in allowed

    def test_sets_only_variables_that_somebody_reads(self, path: Path) -> None:
        names = {pair.split("=")[0] for given in arguments(path, "ENV") for pair in given.split()}
        assert names <= SETTINGS | READ_BY_OTHERS

    def test_serves_by_default_and_tells_its_health(self, path: Path) -> None:
        assert arguments(path, "ENTRYPOINT") == ['["sam3-backend"]']
        assert arguments(path, "CMD") == ['["serve"]']
        assert "/health" in arguments(path, "HEALTHCHECK")[0]
        assert arguments(path, "EXPOSE") == [str(Settings().port)]


def test_both_images_are_the_same_but_for_where_torch_comes_from() -> None:
    cuda, cpu = (arguments(DOCKER / name, "RUN")[-2:] for name in ("Dockerfile", "Dockerfile.cpu"))
    assert cuda == cpu


def test_compose_names_only_settings_that_exist() -> None:
    assert set(compose()["services"]["backend"]["environment"]) <= SETTINGS


def test_compose_lets_label_studio_reach_the_backend() -> None:
    assert compose()["services"]["label-studio"]["environment"]["USE_DEFAULT_BANNED_SUBNETS"] == "false"


def test_compose_runs_the_label_studio_that_is_tested() -> None:
    tested = (ROOT / "scripts" / "label-studio.txt").read_text().split("==")[1].strip()
    assert compose()["services"]["label-studio"]["image"] == f"heartexlabs/label-studio:{tested}"


def test_compose_opens_ports_on_this_machine_alone() -> None:
    ports = [port for service in compose()["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_builds_from_files_that_are_there() -> None:
    for name in ("compose.yaml", "compose.gpu.yaml"):
        assert (ROOT / compose(name)["services"]["backend"]["build"]["dockerfile"]).is_file()
    assert (DOCKER / compose()["services"]["backend"]["build"]["context"]).resolve() == ROOT


def test_compose_declares_every_volume_it_mounts() -> None:
    mounted = {each.split(":")[0] for service in compose()["services"].values() for each in service.get("volumes", [])}
    assert mounted == set(compose()["volumes"])


def test_every_service_of_compose_tells_its_health() -> None:
    services = compose()["services"]
    assert "healthcheck" in services["label-studio"]
    assert "healthcheck" in services["redis"]  # the backend's own is in its image
    assert services["redis"]["command"][-2:] == ["--appendonly", "no"]
