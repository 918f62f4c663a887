"""What the program and the precision that compute the maps of a 2D network do to predictions, on real patients.

    python benchmarks/maps_precision.py DATA [--weights mobilenetv2_100_imagenet_fp16.safetensors]

The 51 sarcoma patients (`sts` of the shared data), `lung metastasis`, five folds: `2be3-net` at its default, and with
``--weights`` on the maps of MobileNetV2 alone, fitted on maps by torch, by OpenVINO, and by OpenVINO in bfloat16; all
else is the same. Out-of-fold risks are compared with those on torch's maps, beside those of torch's with another seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

import twobe3 as tb
from twobe3.core.outcomes import FloatArray
from twobe3.runtime.process import one_thread
from twobe3.runtime.progress import track
from unusual_scans import read_sarcomas

FOLDS = 5

DEVICES = {
    "torch": tb.Device("cpu", maps="torch"),
    "OpenVINO": tb.Device("cpu", maps="openvino"),
    "OpenVINO, bf16": tb.Device("cpu", "bf16", maps="openvino"),
    "torch, bf16": tb.Device("cpu", "bf16", maps="torch"),
}
PLAIN, OTHER_SEED = "torch", "torch, another seed"
Make = Callable[[tb.Device, int], tb.models.Model]


def models(weights: str, cache: tb.Cache) -> dict[str, Make]:
    def default(device: tb.Device, seed: int) -> tb.models.Model:
        return tb.models.TwoBe3Net(cache=cache, device=device, seed=seed)

    def on_imagenet(device: tb.Device, seed: int) -> tb.models.Model:
        return tb.models.TwoBe3Net(
            backbone="mobilenetv2_100.tf", weights=weights, inputs=("maps",), cache=cache, device=device, seed=seed
        )

    return {"2be3-net": default, **({"2be3-net, MobileNetV2's maps": on_imagenet} if weights else {})}


def predict_out_of_fold(model: tb.models.Model, cohort: tb.Cohort) -> FloatArray:
    """The risk of each patient by the model of the others."""
    risk = np.zeros(len(cohort))
    for fold in tb.CrossValidation(FOLDS, 1, seed=0).split(cohort.sample):
        risk[fold.test] = model.clone().fit(cohort.subset(fold.train)).predict(cohort.subset(fold.test)).risk
    return risk


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", default="", help="of MobileNetV2")
    parser.add_argument("--cache", type=Path, help="folder in which maps are kept")
    asked = parser.parse_args()
    cohort = read_sarcomas(asked.data)
    print("| model | maps by | AUC | largest difference of risk, SD | rank correlation |\n|---|---|---|---|---|")
    with one_thread():
        for name, make in models(asked.weights, tb.Cache(asked.cache)).items():
            found: dict[str, FloatArray] = {}
            for by, device in track([*DEVICES.items(), (OTHER_SEED, DEVICES[PLAIN])], name):
                found[by] = predict_out_of_fold(make(device, int(by == OTHER_SEED)), cohort)
            for by, risk in found.items():
                away = np.abs(risk - found[PLAIN]).max() / found[PLAIN].std()
                row = [name, by, f"{roc_auc_score(cohort.outcomes.event, risk):.3f}", f"{away:.3f}"]
                print(f"| {' | '.join(row)} | {spearmanr(risk, found[PLAIN]).statistic:.4f} |", flush=True)


if __name__ == "__main__":
    main()
