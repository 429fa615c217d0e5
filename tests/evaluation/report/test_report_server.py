import gzip
import http.client
import json
import threading
from contextlib import closing

import numpy as np
import pytest
import SimpleITK as sitk
from report_samples import GRID, make_evaluation

from gdmunet.errors import GdmError
from gdmunet.evaluation.report.server import ReportServer
from gdmunet.evaluation.report.sources import read_content
from gdmunet.volume_formats.itk import geometry_of


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    predictions, _ = make_evaluation(tmp_path_factory.mktemp("served"), {"case_1": 20.0, "case_2": -60.0})
    with ReportServer(read_content(predictions)) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def ask(server, path, **headers):
    with closing(http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_it_listens_on_the_loopback_interface_alone(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_the_page_says_that_it_is_served(server):
    status, content = ask(server, f"/{server.secret}/")
    assert status == 200
    assert b'"server": true' in content
    assert b"slices-0" not in content


def test_whole_volumes_are_served_on_their_grid(server, tmp_path):
    number = server.order.index("case_1")
    volumes = {}
    for kind in ("condition", "target", "prediction-0", "error-0"):
        status, content = ask(server, f"/{server.secret}/volume/{number}/{kind}")
        assert status == 200
        (tmp_path / "v.nii.gz").write_bytes(content)
        image = sitk.ReadImage(str(tmp_path / "v.nii.gz"))
        assert geometry_of(image).difference(GRID) is None
        volumes[kind] = sitk.GetArrayFromImage(image)
    assert set(np.unique(volumes["error-0"])) == {0, 20}
    assert np.all(volumes["prediction-0"] - volumes["target"] == 20)
    assert gzip.decompress(content)[:4] == (348).to_bytes(4, "little")


def test_slices_are_served(server):
    status, content = ask(server, f"/{server.secret}/slices/1")
    assert status == 200
    assert len(json.loads(content)["cuts"]) == 3


@pytest.mark.parametrize(
    "path",
    ["/", "/wrong/", "{}/slices/2", "{}/volume/0/mask", "{}/volume/0/prediction-7", "{}/../../etc/passwd", "{}/x"],
)
def test_everything_else_is_not_found(server, path):
    assert ask(server, path.format(f"/{server.secret}"))[0] == 404


def test_a_page_of_another_host_is_refused(server):
    assert ask(server, f"/{server.secret}/", Host="evil.example")[0] == 403
    assert ask(server, f"/{server.secret}/", Host=f"localhost:{server.server_port}")[0] == 200


def test_a_port_in_use_is_an_error(server):
    content = read_content(server.files["case_1"].predictions["prediction"].parent)
    with pytest.raises(GdmError, match="give another --port"):
        ReportServer(content, server.server_port)
