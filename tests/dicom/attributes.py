"""What the headers of a good series say: 370 MBq FDG in 70 kg, scanned an hour after injection."""

from twobe3.dicom.attributes import SeriesAttributes, SliceAttributes

SLICE = SliceAttributes(
    slope=1.0,
    intercept=0.0,
    acquisition_date="20240301",
    acquisition_time="110000",
    frame_reference_time_ms=60e3,
    frame_duration_ms=120e3,
)
ATTRIBUTES = SeriesAttributes(
    units="BQML",
    decay_correction="START",
    corrections=("ATTN", "DECY"),
    slices=(SLICE, SLICE),
    weight=70.0,
    height=1.75,
    sex="F",
    dose=370e6,
    half_life_s=6586.2,
    series_date="20240301",
    series_time="110000",
    start_datetime="20240301100000",
)
