"""Every kind of address that a real Label Studio puts into a task leads to the picture."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from sam3_backend.errors import ImageForbidden, ImageUnreachable
from sam3_backend.images import PictureLoader
from sam3_backend.label_studio.client import LabelStudioAccess
from tests.local_http import LocalServer, content, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from examples.studio.label_studio import Project, Studio

pytestmark = pytest.mark.e2e

LABEL_CONFIG = """<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image"><Label value="circle"/></BrushLabels>
</View>"""
LISTING = b"""<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>
<IsTruncated>false</IsTruncated><KeyCount>1</KeyCount><MaxKeys>1</MaxKeys><Contents><Key>a/key one.png</Key>
<Size>9</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"x"</ETag></Contents></ListBucketResult>"""


def png(width_px: int) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (width_px, 4), "red").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def project(studio: Studio, request: pytest.FixtureRequest) -> Project:
    return studio.create_project(request.node.name[:50], LABEL_CONFIG)


@pytest.fixture
def loader() -> Iterator[PictureLoader]:
    loader = PictureLoader()
    yield loader
    loader.close()


@pytest.fixture
def introduced(studio: Studio) -> LabelStudioAccess:
    """Knows what Label Studio says at /setup, and no setting."""
    access = LabelStudioAccess()
    access.learn("project", studio.url, studio.token)
    return access


@pytest.fixture
def bucket() -> Iterator[LocalServer]:
    """Enough of S3 for Label Studio to connect one bucket."""
    with serve() as server:
        server.routes["/bucket"] = content(LISTING, "application/xml")
        server.routes["/bucket/a/key%20one.png"] = content(png(17))
        yield server


def image_of(studio: Studio, task_id: int) -> str:
    return str(studio.call("GET", f"/api/tasks/{task_id}/", params={"resolve_uri": "false"})["data"]["image"])


def connect_bucket(project: Project, bucket: LocalServer, *, presign: bool) -> None:
    body = {
        "project": project.id,
        "bucket": "bucket",
        "use_blob_urls": True,
        "presign": presign,
        "s3_endpoint": bucket.base,
        "region_name": "us-east-1",
        "aws_access_key_id": "key",
        "aws_secret_access_key": "secret",
    }
    project.studio.call("POST", "/api/storages/s3", json=body)


def test_upload_opens_with_the_token_of_the_introduction(
    studio: Studio, project: Project, introduced: LabelStudioAccess, loader: PictureLoader
) -> None:
    (task_id,) = project.upload({"ä b+%#&.png": png(11)})
    location = introduced.locate(image_of(studio, task_id), project="project", task_id=task_id)
    assert loader.download(location).file.decode().width_px == 11


def test_upload_opens_with_a_personal_access_token(studio: Studio, project: Project, loader: PictureLoader) -> None:
    (task_id,) = project.upload({"a.png": png(11)})
    access = LabelStudioAccess(url=studio.url, api_key=studio.personal_access_token)
    location = access.locate(image_of(studio, task_id), project=None, task_id=task_id)
    assert loader.download(location).file.decode().width_px == 11
    assert location.authorization is not None
    assert location.authorization().startswith("Bearer ")


def test_local_storage_opens(
    studio: Studio, project: Project, introduced: LabelStudioAccess, loader: PictureLoader
) -> None:
    folder = studio.local_files / "cats"
    folder.mkdir()
    (folder / "a b&c.png").write_bytes(png(13))
    body = {"project": project.id, "path": str(folder), "use_blob_urls": True, "regex_filter": ".*png"}
    storage = studio.call("POST", "/api/storages/localfiles", json=body)
    studio.call("POST", f"/api/storages/localfiles/{storage['id']}/sync")
    (task,) = studio.call("GET", "/api/tasks/", params={"project": project.id, "fields": "all"})["tasks"]
    for uri in (task["data"]["image"], studio.url + task["data"]["image"]):
        assert (
            loader.download(introduced.locate(uri, project="project", task_id=task["id"])).file.decode().width_px == 13
        )


def test_signed_address_of_a_bucket_opens_without_the_token(
    project: Project, bucket: LocalServer, introduced: LabelStudioAccess
) -> None:
    connect_bucket(project, bucket, presign=True)
    (task_id,) = project.add_tasks([{"image": "s3://bucket/a/key one.png"}])
    location = introduced.locate("s3://bucket/a/key one.png", project="project", task_id=task_id)
    asked_before = len(bucket.seen)
    assert PictureLoader(allow_private_hosts=True).download(location).file.decode().width_px == 17
    (asked,) = bucket.seen[asked_before:]
    assert "X-Amz-Signature" in asked.path
    assert "authorization" not in asked.headers


def test_signed_address_inside_the_own_network_is_refused(
    project: Project, bucket: LocalServer, introduced: LabelStudioAccess, loader: PictureLoader
) -> None:
    connect_bucket(project, bucket, presign=True)
    (task_id,) = project.add_tasks([{"image": "s3://bucket/a/key one.png"}])
    location = introduced.locate("s3://bucket/a/key one.png", project="project", task_id=task_id)
    with pytest.raises(ImageForbidden, match="IMAGE_ALLOW_PRIVATE_HOSTS"):
        loader.download(location)


def test_bucket_opens_through_label_studio(
    project: Project, bucket: LocalServer, introduced: LabelStudioAccess, loader: PictureLoader
) -> None:
    connect_bucket(project, bucket, presign=False)
    (task_id,) = project.add_tasks([{"image": "s3://bucket/a/key one.png"}])
    location = introduced.locate("s3://bucket/a/key one.png", project="project", task_id=task_id)
    assert loader.download(location).file.decode().width_px == 17


def test_refusals_say_what_to_do(
    studio: Studio, project: Project, introduced: LabelStudioAccess, loader: PictureLoader
) -> None:
    (task_id,) = project.upload({"a.png": png(11)})
    stranger = LabelStudioAccess(url=studio.url, api_key="nonsense")
    with pytest.raises(ImageForbidden, match="LABEL_STUDIO_API_KEY"):
        loader.download(stranger.locate(image_of(studio, task_id), project=None, task_id=task_id))
    for uri in ("s3://unconnected/a.png", "/data/local-files/?d=missing/a.png"):
        with pytest.raises(ImageUnreachable, match="still connected"):
            loader.download(introduced.locate(uri, project="project", task_id=task_id))
