"""Remote write's messages as protobuf's own runtime reads them, for what our encoder wrote."""

from __future__ import annotations

from functools import cache
from typing import Any

import cramjam
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TYPES = descriptor_pb2.FieldDescriptorProto
_MESSAGES: dict[str, list[tuple[str, int, int, str]]] = {
    "Label": [("name", 1, _TYPES.TYPE_STRING, ""), ("value", 2, _TYPES.TYPE_STRING, "")],
    "Sample": [("value", 1, _TYPES.TYPE_DOUBLE, ""), ("timestamp", 2, _TYPES.TYPE_INT64, "")],
    "TimeSeries": [
        ("labels", 1, _TYPES.TYPE_MESSAGE, "Label"),
        ("samples", 2, _TYPES.TYPE_MESSAGE, "Sample"),
    ],
    "WriteRequest": [("timeseries", 1, _TYPES.TYPE_MESSAGE, "TimeSeries")],
}


@cache
def _request_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="remote.proto", package="prometheus", syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, of in fields:
            message.field.add(
                name=field,
                number=number,
                type=kind,
                type_name=f".prometheus.{of}" if of else None,
                label=_TYPES.LABEL_REPEATED if of else _TYPES.LABEL_OPTIONAL,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("prometheus.WriteRequest"))


Series = tuple[dict[str, str], list[tuple[float, int]]]


def decode(request: bytes) -> list[Series]:
    """Labels, and samples with their times, of every series."""
    message = _request_class()()
    message.ParseFromString(request)
    return [
        (
            {label.name: label.value for label in series.labels},
            [(sample.value, sample.timestamp) for sample in series.samples],
        )
        for series in message.timeseries
    ]


def label_order(request: bytes) -> list[list[str]]:
    """The names of each series's labels as they stand."""
    message = _request_class()()
    message.ParseFromString(request)
    return [[label.name for label in series.labels] for series in message.timeseries]


def decode_body(body: bytes) -> list[Series]:
    """The same from a request's body."""
    return decode(bytes(cramjam.snappy.decompress_raw(body)))
