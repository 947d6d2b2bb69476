"""The quantities of the scorecard, each with the interval that fits it: small pure functions of arrays."""

from holdfast.statistics.intervals import (
    clopper_pearson,
    clustered_share,
    expected_calibration_error,
    seeds_share,
    share,
    wilson,
)
from holdfast.statistics.paired import (
    Difference,
    Excess,
    excess,
    excess_unpaired,
    needed_n,
    normal_needed_n,
    normal_power,
    paired_bootstrap,
    paired_power,
    tango,
)
from holdfast.statistics.quality import METRICS, RANKING, Metric, check_metric, quality
from holdfast.statistics.ranking import (
    Area,
    Rate,
    auroc,
    average_precision,
    membership_auc,
    membership_score,
    tpr_at_fpr,
)

__all__ = [
    "METRICS",
    "RANKING",
    "Area",
    "Difference",
    "Excess",
    "Metric",
    "Rate",
    "auroc",
    "average_precision",
    "check_metric",
    "clopper_pearson",
    "clustered_share",
    "excess",
    "excess_unpaired",
    "expected_calibration_error",
    "membership_auc",
    "membership_score",
    "needed_n",
    "normal_needed_n",
    "normal_power",
    "paired_bootstrap",
    "paired_power",
    "quality",
    "seeds_share",
    "share",
    "tango",
    "tpr_at_fpr",
    "wilson",
]
