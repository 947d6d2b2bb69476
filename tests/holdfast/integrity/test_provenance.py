"""The provenance check: other bytes, other columns or no pin block."""

import numpy as np
import pandas as pd
import pytest

from holdfast.integrity.provenance import Provenance, schema_version

FRAME = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})


@pytest.mark.parametrize(
    ("provenance", "expected"),
    [
        ({"md5": "aa", "expected_md5": "aa"}, "pass"),
        ({"md5": "aa", "expected_md5": "bb"}, "block"),
        ({"md5": "aa"}, "block"),
        ({"expected_md5": "aa"}, "block"),
        ({"md5": "", "expected_md5": ""}, "block"),
        ({}, "block"),
    ],
)
def test_only_pinned_bytes_pass(build, provenance, expected):
    """Another md5 blocks, and so does one that is not known."""
    assert Provenance().examine(build(FRAME, provenance=provenance)).verdict == expected


@pytest.mark.parametrize(
    "changed", [FRAME.rename(columns={"a": "c"}), FRAME[["b", "a"]], FRAME.astype({"a": np.float32}), FRAME[["a"]]]
)
def test_another_schema_blocks(build, changed):
    """Names, types and order of columns are the schema's version."""
    check, md5 = Provenance(schema_version=schema_version(FRAME)), {"md5": "aa", "expected_md5": "aa"}
    assert check.examine(build(FRAME, provenance=md5)).verdict == "pass"
    finding = check.examine(build(changed, provenance=md5))
    assert finding.verdict == "block"
    assert schema_version(changed) in finding.reason
