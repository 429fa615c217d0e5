"""The requests of all commands."""

from __future__ import annotations

from gdmunet.workflows.requests.datasets import ConvertDicomRequest, ConvertSynthradRequest, NewDatasetRequest
from gdmunet.workflows.requests.declaration import Request
from gdmunet.workflows.requests.demonstration import DemoRequest
from gdmunet.workflows.requests.doctor import DoctorRequest
from gdmunet.workflows.requests.encoders import AuditEncoderRequest, DownloadEncoderRequest, PretrainEncoderRequest
from gdmunet.workflows.requests.evaluation import EvaluateRequest, ReportRequest, ViewRequest
from gdmunet.workflows.requests.models import (
    EnsembleRequest,
    ExportModelRequest,
    FindBestConfigurationRequest,
    ImportModelRequest,
    PushModelRequest,
    TrustRequest,
)
from gdmunet.workflows.requests.node import ListenRequest
from gdmunet.workflows.requests.planning import (
    ExtractFingerprintRequest,
    PlanAndPreprocessRequest,
    PlanExperimentRequest,
    PreprocessRequest,
)
from gdmunet.workflows.requests.prediction import PredictRequest
from gdmunet.workflows.requests.shell import CompletionRequest
from gdmunet.workflows.requests.simulation import SimulateSvctRequest
from gdmunet.workflows.requests.submission import SubmitRequest
from gdmunet.workflows.requests.training import CompareRequest, TrainRequest

# In the order in which a user meets the commands.
REQUESTS: tuple[type[Request], ...] = (
    DoctorRequest,
    DemoRequest,
    NewDatasetRequest,
    ConvertDicomRequest,
    ConvertSynthradRequest,
    DownloadEncoderRequest,
    SimulateSvctRequest,
    PlanAndPreprocessRequest,
    ExtractFingerprintRequest,
    PlanExperimentRequest,
    PreprocessRequest,
    PretrainEncoderRequest,
    AuditEncoderRequest,
    TrainRequest,
    SubmitRequest,
    PredictRequest,
    ListenRequest,
    EvaluateRequest,
    CompareRequest,
    ReportRequest,
    ViewRequest,
    FindBestConfigurationRequest,
    EnsembleRequest,
    ExportModelRequest,
    ImportModelRequest,
    PushModelRequest,
    TrustRequest,
    CompletionRequest,
)
