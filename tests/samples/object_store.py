"""A server of objects on loopback (moto), as one of a hospital or a cloud is asked."""

import fsspec
import pytest


@pytest.fixture(scope="module")
def s3_server():
    """A server of objects on loopback, as one of a hospital or a cloud is asked."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """URL of a fresh bucket, with the variables by which every client of S3 finds its server."""
    host, port = s3_server.get_host_and_port()
    for name, value in {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "test",
                        "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()
    files = fsspec.filesystem("s3")
    if files.exists("cases"):
        files.rm("cases", recursive=True)
    files.mkdir("cases")
    yield "s3://cases/prepared"
    fsspec.filesystem("s3").clear_instance_cache()


def upload(folder, url):
    files, path = fsspec.core.url_to_fs(url)
    files.put(f"{folder}/", f"{path}/", recursive=True)
