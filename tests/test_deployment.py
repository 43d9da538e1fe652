"""What is deployed: images that cannot change under their name, and containers that may do little."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PINNED = re.compile(r"[\w./-]+:[\w.-]*\d[\w.-]*@sha256:[0-9a-f]{64}")


def kubernetes(kind: str) -> dict[str, Any]:
    documents = yaml.safe_load_all((ROOT / "docs/examples/kubernetes.yaml").read_text(encoding="utf-8"))
    return next(each for each in documents if each["kind"] == kind)


def test_images_of_the_dockerfile_are_pinned_by_version_and_digest():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
    images = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert len(images) == 2
    for image in images:
        assert PINNED.fullmatch(arguments[image.strip("${}")])


def test_images_of_the_compose_file_are_pinned_by_version_and_digest():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    images = [each["image"] for each in services.values() if "image" in each]
    assert len(images) == 2
    assert all(PINNED.fullmatch(image) for image in images)


@pytest.mark.parametrize("file", ["Dockerfile", "Makefile", "tests/wheel.sh"])
def test_whatever_builds_the_wheel_takes_its_builder_from_the_lock(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    builds = re.findall(r"(?:uv|uv\") build .*", text)
    assert builds
    for line in builds:
        assert "--build-constraints requirements-build.lock --require-hashes" in line
    lock = (ROOT / "requirements-build.lock").read_text(encoding="utf-8")
    for name in ("hatchling", "uv"):
        assert re.search(rf"^{name}==\S+ \\\n +--hash=sha256:", lock, re.MULTILINE)


def test_actions_of_the_workflows_are_pinned_by_commit():
    for file in (ROOT / ".github/workflows").glob("*.yml"):
        for action in re.findall(r"uses: (\S+)", file.read_text(encoding="utf-8")):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), f"{file.name}: {action}"


def test_a_pod_may_not_gain_rights_and_writes_to_two_places_only():
    pod = kubernetes("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert {each["mountPath"] for each in container["volumeMounts"]} == {"/data", "/tmp"}


def test_a_pod_is_reached_by_the_monitoring_alone_and_does_not_reach_the_metadata_of_its_cloud():
    policy = kubernetes("NetworkPolicy")["spec"]
    labels = kubernetes("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    (ingress,) = policy["ingress"]
    assert [port["port"] for port in ingress["ports"]] == ["metrics"]
    outside = [to["ipBlock"] for rule in policy["egress"] for to in rule["to"] if "ipBlock" in to]
    assert outside
    assert all("169.254.0.0/16" in block["except"] for block in outside)
