"""What `mobench export --explain` prints: where an INT8 file loses, layer by layer and stage by stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mobench.report.tables import Column, Row

LAYER_COLUMNS = (
    Column(key="layer", title="layer"),
    Column(key="kind", title="kind"),
    Column(key="alone_snr_db", title="logits, it alone INT8, dB", digits=1, align="right"),
    Column(key="share", title="share of noise %", digits=1, align="right"),
    Column(key="own_snr_db", title="its result, all INT8, dB", digits=1, align="right"),
)
STAGE_COLUMNS = (
    Column(key="stage", title="stage"),
    Column(key="snr_db", title="SNR dB", digits=1, align="right"),
    Column(key="top1_agreement", title="top-1 as torch %", digits=0, align="right"),
)


def layer_notes(explanation: Mapping[str, Any]) -> list[str]:
    """Return what stands under the table of layers."""
    return [
        f"worst first; simulated in torch on {explanation['n']} calibration images; a layer has with it all operators"
        " up to the next one"
    ]


def stage_rows(explanation: Mapping[str, Any]) -> list[Row]:
    """Return the stages, and behind them what keeping the worst layers in float would come to."""
    kept = [
        {**row, "stage": f"simulated, worst {row['layers']} in float"}
        for row in explanation["keep_float"]
        if row["layers"]
    ]
    return [*explanation["stages"], *kept]
