"""Version, readiness and the process, read when they are asked for."""

from prometheus_client import CollectorRegistry

from wire.operations_metrics import OperationsMetrics


def test_readiness_is_that_of_now() -> None:
    registry, reason, problem = CollectorRegistry(), ["booting"], [""]
    OperationsMetrics(registry, lambda: reason[0] or None, lambda: problem[0])
    assert registry.get_sample_value("headwater_ready") == 0
    reason[0], problem[0] = "", "the disk is full"
    assert registry.get_sample_value("headwater_ready") == 1
    assert registry.get_sample_value("headwater_degraded") == 1
    problem[0] = ""
    assert registry.get_sample_value("headwater_degraded") == 0


def test_the_clock_is_that_of_the_machine() -> None:
    registry = CollectorRegistry()
    OperationsMetrics(registry, lambda: None, wall=lambda: 1.7e9)
    assert registry.get_sample_value("headwater_clock_timestamp_seconds") == 1.7e9


def test_the_version_and_the_process_are_told() -> None:
    registry = CollectorRegistry()
    OperationsMetrics(registry, lambda: None)
    names = {family.name for family in registry.collect()}
    assert {"headwater_build_info", "process_cpu_seconds", "process_resident_memory_bytes"} <= names
    (build,) = [family for family in registry.collect() if family.name == "headwater_build_info"]
    assert [sample.value for sample in build.samples] == [1.0]
    assert build.samples[0].labels["version"]
