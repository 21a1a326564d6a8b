"""The typed configs of the commands, and the plain objects that they describe."""

from bioplaus.config.data import DataCheckConfig, DataConfig, data_origins, make_dataset
from bioplaus.config.eqprop import (
    EqpropConfig,
    estimator_settings,
    make_estimator,
    make_field,
    make_optimizer,
    make_settling,
    restore_field,
)
from bioplaus.config.gradcheck import (
    GradcheckConfig,
    check_settings,
    check_settling,
    make_check,
    require_servable,
    restore_check,
)
from bioplaus.config.resolving import resolve

__all__ = [
    "DataCheckConfig",
    "DataConfig",
    "EqpropConfig",
    "GradcheckConfig",
    "check_settings",
    "check_settling",
    "data_origins",
    "estimator_settings",
    "make_check",
    "make_dataset",
    "make_estimator",
    "make_field",
    "make_optimizer",
    "make_settling",
    "require_servable",
    "resolve",
    "restore_check",
    "restore_field",
]
