"""Validates a report in a machine format with the code of others: validate_report.py FORMAT FILE.

Exits with 1 and the first problem if the document is not valid.
"""

import json
import pathlib
import sys


def ocsf(path):
    import jsonschema
    from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version="1.5.0")).get_class_schema(
        class_name="compliance_finding", profiles=["cloud", "datetime"]
    )
    validator = jsonschema.Draft202012Validator(schema)
    lines = path.read_text().splitlines()
    assert lines, "no event"
    for line in lines:
        validator.validate(json.loads(line))


def oscal(path):
    # Imports the validators in an order that works.
    from trestle.core import validator_factory
    from trestle.core.all_validator import AllValidator
    from trestle.oscal.assessment_results import AssessmentResults

    results = AssessmentResults.oscal_read(path)
    assert results is not None, "no assessment results"
    assert AllValidator().model_is_valid(results, True), "trestle refuses it"


def cbom(path):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text())
    assert problem is None, problem


try:
    {"ocsf": ocsf, "oscal": oscal, "cbom": cbom}[sys.argv[1]](pathlib.Path(sys.argv[2]).resolve())
except Exception as problem:  # Each library has errors of its own.
    print(f"{type(problem).__name__}: {str(problem)[:2000]}", file=sys.stderr)
    sys.exit(1)
