"""A doubt is told once, with all that it is about."""

from edgeslim.measure.cautions import told_once
from edgeslim.measure.measurement import Caution

FEW = Caution("noisy", "3 processes show too little of the spread", "measure 5 or more")
HOT = Caution("throttled", "the firmware reports throttled", "cool it")


def test_what_is_said_of_several_is_said_once_with_their_names():
    found = [("onnx fp32", (FEW,)), ("onnx int8", ()), ("tflite int8", (FEW, HOT))]
    assert told_once(found, "every file") == [
        ("noisy: onnx fp32, tflite int8: 3 processes show too little of the spread", "measure 5 or more"),
        ("throttled: tflite int8: the firmware reports throttled", "cool it"),
    ]


def test_what_is_said_of_all_names_none_and_of_the_only_one_its_name():
    told = ("noisy: every file: 3 processes show too little of the spread", "measure 5 or more")
    assert told_once([("onnx fp32", (FEW,)), ("onnx int8", (FEW,))], "every file") == [told]
    (words, _), *rest = told_once([("onnx int8", (FEW, FEW))], "every file")
    assert (words.startswith("noisy: onnx int8: 3 processes"), rest) == (True, []), "twice of one file is once"


def test_a_kind_with_several_findings_and_one_advice_stands_on_one_line():
    other = Caution("noisy", "2 processes show too little of the spread", FEW.advice)
    assert told_once([("a", (FEW,)), ("b", (other,)), ("c", (other,))], "every file") == [
        (
            "noisy: a: 3 processes show too little of the spread; b, c: 2 processes show too little of the spread",
            FEW.advice,
        )
    ]


def test_each_advice_has_its_line():
    other = Caution("noisy", "wide", "close other programs")
    assert [advice for _, advice in told_once([("a", (FEW,)), ("b", (other,))], "every file")] == [
        FEW.advice,
        "close other programs",
    ]


def test_without_cautions_nothing_is_told():
    assert told_once([("a", ()), ("b", ())], "every file") == []
