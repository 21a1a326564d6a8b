"""The shipped viewer is built from its sources, and includes its licences."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from bridge.report import viewer

HERE = Path(viewer.__file__).parent
WEB, STATIC = HERE / "web", HERE / "static"
ROOT = Path(__file__).parents[2]


def digests(folder: Path) -> dict[str, str]:
    paths = [each for each in folder.rglob("*") if each.is_file()]
    found = {each.relative_to(folder).as_posix(): each.read_bytes() for each in paths}
    kept = {n: b for n, b in found.items() if not re.match(r"node_modules/|built\.json$", n)}
    return {name: hashlib.sha256(content).hexdigest() for name, content in kept.items()}


def test_neither_sources_nor_bundle_have_changed_since_the_build() -> None:
    record = json.loads((WEB / "built.json").read_text("utf-8"))
    remedy = "build it anew: npm ci && npm run build, in bridge/report/viewer/web"
    assert record["sources"] == digests(WEB), remedy
    assert record["outputs"] == digests(STATIC), remedy


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_the_sources_build_the_bundle_byte_for_byte(tmp_path: Path) -> None:
    web = tmp_path / "viewer" / "web"
    shutil.copytree(WEB, web, ignore=shutil.ignore_patterns("node_modules"))
    fetched = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=web, check=False
    )
    if fetched.returncode:
        pytest.skip("npm cannot fetch the packages here")
    subprocess.run(["npm", "run", "build"], cwd=web, check=True)
    assert digests(web.parent / "static") == digests(STATIC)
    assert (web / "built.json").read_bytes() == (WEB / "built.json").read_bytes()


def test_each_bundled_package_has_its_licence_and_the_wheel_takes_them() -> None:
    text = (STATIC / "assets" / "licenses.txt").read_text("utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    headings = [section.splitlines()[0] for section in sections]
    asked = json.loads((WEB / "package.json").read_text("utf-8"))["dependencies"]
    for name, version in asked.items():
        assert any(heading.startswith(f"{name} - {version} (") for heading in headings)
    apart = {"@react-three/fiber": "react-three-fiber-license.txt"}
    for section in sections:
        named = re.fullmatch(r"(.+) - \S+ \((.+)\)", section.splitlines()[0])
        assert named
        own = apart.get(named[1])
        said = section if own is None else (STATIC / "assets" / own).read_text("utf-8")
        assert len(said) > 200, f"{named[1]} ({named[2]}) has no text of its licence"
    # h5wasm is compiled, and names no licence where the bundler looks for one.
    assert "HDF5" in (STATIC / "assets" / "h5wasm-license.txt").read_text("utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packed = {
        path.relative_to(ROOT).as_posix()
        for pattern in project["project"]["license-files"]
        for path in ROOT.glob(pattern)
    }
    assets = "bridge/report/viewer/static/assets"
    names = {"licenses.txt", "h5wasm-license.txt", *apart.values()}
    assert {f"{assets}/{name}" for name in names} <= packed
    assert "report/viewer/static/**/*" in project["tool"]["setuptools"]["package-data"]["bridge"]
