"""Which elements a derived series has in common with its source, by the modules of the DICOM standard (PS3.3, C.7)."""

from __future__ import annotations

_PATIENT = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "OtherPatientIDs",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "EthnicGroup",
    "PatientComments",
    "ReferencedPatientSequence",
    "QualityControlSubject",
    "StrainDescription",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
)
_CLINICAL_TRIAL = (
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
)
_STUDY = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "StudyDescription",
    "PhysiciansOfRecord",
    "ProcedureCodeSequence",
    "ReferencedStudySequence",
    "AdmittingDiagnosesDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "Occupation",
    "AdditionalPatientHistory",
    "MedicalAlerts",
    "Allergies",
    "PregnancyStatus",
    "SmokingStatus",
    "PatientSexNeutered",
)
_FRAME_OF_REFERENCE = ("FrameOfReferenceUID", "PositionReferenceIndicator")

# Equal in all series of a study that share a frame of reference, whatever their modality.
KEPT_OF_EVERY_SERIES = ("SpecificCharacterSet", *_PATIENT, *_CLINICAL_TRIAL, *_STUDY, *_FRAME_OF_REFERENCE)
# Of the source series, because it holds for anything made from it; data that were compressed with loss once stay so.
KEPT_OF_THE_IMAGE = (
    "BodyPartExamined",
    "AnatomicRegionSequence",
    "Laterality",
    "PatientPosition",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
# Type 2 of the CT image object: there, though without a value where it is not known (an MR has no tube voltage).
REQUIRED_BUT_MAY_BE_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "PositionReferenceIndicator",
    "PatientPosition",
    "KVP",
    "AcquisitionNumber",
)
# Of the equipment that made an object; of a copy they say who copied it.
EQUIPMENT = (
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "DeviceSerialNumber",
    "StationName",
    "InstitutionName",
    "InstitutionAddress",
    "InstitutionalDepartmentName",
)
# Of a person's approval, which holds for what that person saw.
REVIEW = ("ApprovalStatus", "ReviewDate", "ReviewTime", "ReviewerName")
